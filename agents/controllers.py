"""Policies as controllers of the browser player: they see what a world shows, real or dreamt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from agents.observation import FrameStack
from agents.policies import DecisionContext, Policy
from gamengen.contract import GameContract
from gamengen.noise import key_of
from gamengen.world import StartState


class PolicyController:
    """One policy plays one client's game from its frames.

    A policy that reads the console's memory cannot: a dream has none.
    """

    def __init__(self, policy: Policy, game: GameContract) -> None:
        self._policy = policy
        self._stack: FrameStack | None = None
        if policy.observation_skip is not None:
            self._stack = FrameStack(max(1, round(policy.observation_skip / game.frame_skip)))
        self._rng = np.random.default_rng(0)
        self._first = 0

    def begin(self, start: StartState, seed: int, t: int, frame: np.ndarray) -> None:
        """Fill the stack with the newest frame; chance is a function of (seed, t)."""
        self._rng = np.random.default_rng(key_of("policy", seed, t))
        self._first = t
        if self._stack is not None:
            self._stack.reset(frame)

    def act(self, t: int, frame: np.ndarray) -> int:
        """The policy's answer to the newest frame; ValueError for a policy that needs the console's memory."""
        if self._stack is not None and t > self._first:
            self._stack.push(frame)
        observation = None if self._stack is None else self._stack.observation()
        return self._policy.act([DecisionContext(0, self._rng, frame, None, observation)])[0]


def agent_controller(
    path: str | Path, *, trust_remote_code: bool = False
) -> Callable[[GameContract], PolicyController]:
    """A factory over a Stable-Baselines3 zip; the file is read once, when the agent plays first.

    Raises:
        FileNotFoundError: at once, no such file. What else is wrong with it is said when it is read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"--agent {path}: no such file; expected a Stable-Baselines3 zip")
    loaded: dict[str, Policy] = {}

    def make(game: GameContract) -> PolicyController:
        if "policy" not in loaded:
            from agents.sb3_policy import load_policy  # imports Stable-Baselines3

            loaded["policy"] = load_policy(path, game, batch_size=1, trust_remote_code=trust_remote_code)[0]
        return PolicyController(loaded["policy"], game)

    return make
