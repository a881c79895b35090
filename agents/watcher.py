"""A trained agent as the evaluation asks for it: what its network sees in recorded frames, real or dreamt."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from agents.observation import STACK_LENGTH, grey_observation
from agents.sb3_policy import TrainedPolicy, load_policy
from gamengen.contract import GameContract


class Watcher:
    """Sees clips through the eyes of a Stable-Baselines3 agent."""

    def __init__(self, policy: TrainedPolicy, game: GameContract) -> None:
        self.policy, self.game = policy, game
        self.stride = max(1, round((policy.observation_skip or game.frame_skip) / game.frame_skip))
        """Recorded frames between the observations of a stack, as in play."""

    def observations(self, frames: np.ndarray) -> np.ndarray:
        """Every whole stack in a clip.

        Args:
            frames: uint8 (T, H, W, 3), successive recorded frames; T > 3 * stride.
        Returns:
            uint8 (T - 3 * stride, 4, 84, 84), oldest first.
        Raises:
            ValueError: a clip that is shorter than a stack.
        """
        span = (STACK_LENGTH - 1) * self.stride
        if len(frames) <= span:
            raise ValueError(f"expected a clip of more than {span} frames, one stack of the agent, got {len(frames)}")
        grey = np.stack([grey_observation(frame) for frame in frames])
        return np.stack([grey[end - span : end + 1 : self.stride] for end in range(span, len(frames))])

    def clip_features(self, frames: np.ndarray) -> np.ndarray:
        """float64 (4, d): the network's features at four places spread over the clip, uint8 (T, H, W, 3)."""
        stacks = self.observations(frames)
        chosen = np.linspace(0, len(stacks) - 1, STACK_LENGTH).round().astype(int)
        return self.policy.features(stacks[chosen])


def load_watcher(path: str | Path, game: GameContract) -> Watcher:
    """From a zip; FileNotFoundError and ValueError as `load_policy` raises them."""
    policy, _ = load_policy(path, game)
    assert isinstance(policy, TrainedPolicy)
    return Watcher(policy, game)
