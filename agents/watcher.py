"""A trained agent as the evaluation asks for it: what its network sees in frames, real or dreamt, and how it plays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agents.observation import STACK_LENGTH, FrameStack, grey_observation
from agents.sb3_policy import TrainedPolicy, load_policy
from gamengen.contract import GameContract


class Watcher:
    """Sees clips through the eyes of a Stable-Baselines3 agent."""

    def __init__(self, policy: TrainedPolicy, game: GameContract) -> None:
        self.policy, self.game = policy, game
        self.stride = max(1, round((policy.observation_skip or game.frame_skip) / game.frame_skip))
        """Recorded frames between the observations of a stack, as in play."""
        self._stacks: list[FrameStack] = []

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

    def begin(self, histories: Sequence[np.ndarray]) -> None:
        """New games: the successive frames uint8 (K, H, W, 3) that led to each, the newest last."""
        self._stacks = [FrameStack(self.stride) for _ in histories]
        for stack, frames in zip(self._stacks, histories, strict=True):
            stack.reset(frames[0])
            for frame in frames[1:]:
                stack.push(frame)

    def judge(self) -> tuple[np.ndarray, np.ndarray]:
        """Action probabilities (n, A) and value estimates (n,) of the games as they stand."""
        return self.policy.judge(np.stack([stack.observation() for stack in self._stacks]))

    def see(self, frames: np.ndarray) -> None:
        """The next recorded frame of each game, uint8 (n, H, W, 3)."""
        for stack, frame in zip(self._stacks, frames, strict=True):
            stack.push(frame)


def load_watcher(path: str | Path, game: GameContract) -> Watcher:
    """From a zip; FileNotFoundError and ValueError as `load_policy` raises them."""
    policy, _ = load_policy(path, game)
    assert isinstance(policy, TrainedPolicy)
    return Watcher(policy, game)
