"""What a learning agent plays: grey stacked observations over a stream that records the raw frames below them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from agents.observation import OBSERVATION_SIZE, STACK_LENGTH, FrameStack
from agents.stream import GameStream, fire_action
from gamengen.contract import GameContract
from gamengen.games.doom import is_doom


def decision_frames(game: GameContract) -> int:
    """Recorded frames from one decision to the next, rounded where the hold is drawn from a range."""
    return max(1, round(sum(game.hold) / 2))


class AgentEnv(gymnasium.Env[np.ndarray, int]):
    """A Gymnasium env for the learner only; the recorded stream knows nothing of what happens here.

    As in Stable-Baselines3's AtariWrapper: a lost life ends the learner's episode but not the game, the fire button is
    pressed where a game waits for it, rewards are clipped to their sign. Departure: observations are of the
    recorded frames, without max-pooling unless the stream has it. Doom's rewards stay as they are: their sizes are
    what shapes the agent (GameNGen, appendix A.5).

    Args:
        agent_name: asked at the start of each game, for the record.
    """

    metadata: dict[str, Any] = {"render_modes": []}
    render_mode = None

    def __init__(self, stream: GameStream, agent_name: Callable[[], str]) -> None:
        game = stream.game
        shape = (STACK_LENGTH, OBSERVATION_SIZE, OBSERVATION_SIZE)
        self.observation_space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
        self.action_space: gymnasium.spaces.Discrete = gymnasium.spaces.Discrete(game.num_actions)
        self._stream, self._agent_name = stream, agent_name
        self._stack = FrameStack(decision_frames(game))
        self._fire = fire_action(game)
        self._game_over = True
        self._clip_rewards = not is_doom(game.env_id)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a game, or go on after a lost life. `seed` is not used: the stream seeds its games."""
        if self._game_over:
            self._begin()
        if self._fire is not None:
            self._advance(self._fire)
            if self._game_over:
                self._begin()
        return self._stack.observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold a decision for as many recorded frames as the contract draws."""
        lives = self._stream.lives
        low, high = self._stream.game.hold
        total, terminated, truncated = 0.0, False, False
        for _ in range(int(self._stream.rng.integers(low, high + 1))):
            reward, terminated, truncated = self._advance(int(action))
            total += reward
            if self._game_over:
                break
        info: dict[str, Any] = {}
        if self._game_over:
            info["episode"] = {"r": self._stream.episode_return, "l": self._stream.episode_length}
        lost_life = lives is not None and self._stream.lives is not None and self._stream.lives < lives
        reward = float(np.sign(total)) if self._clip_rewards else total
        return self._stack.observation(), reward, terminated or lost_life, truncated, info

    def close(self) -> None:
        """Free the game; what ran of it stays in the dataset as a truncated episode."""
        if not self._game_over and self._stream.episode_length > 0:
            self._stream.cut()
        self._stream.close()

    def _begin(self) -> None:
        self._stream.begin(self._agent_name())
        self._stack.reset(self._stream.frame)
        self._game_over = False

    def _advance(self, action: int) -> tuple[float, bool, bool]:
        reward, terminated, truncated = self._stream.step(action)
        self._stack.push(self._stream.frame)
        self._game_over = terminated or truncated
        return reward, terminated, truncated
