"""Who chooses the actions while the human does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from gamengen.contract import GameContract
from gamengen.noise import key_of
from gamengen.objects import Follower, can_follow
from gamengen.rollout import random_actions
from gamengen.world import StartState

HUMAN = "human"
"""The name under which the page's keys play; not a controller."""
_BLOCK = 256
"""Random actions that are drawn at once."""


class Controller(Protocol):
    """One player of one client's game. Called from the thread that steps the worlds."""

    def begin(self, start: StartState, seed: int, t: int, frame: np.ndarray) -> None:
        """A game begins, or goes on after a rewind, or the controls are taken over.

        Args:
            start: the state that the game started from, `t` frames ago.
            frame: uint8 (H, W, 3), the newest frame.
        """
        ...

    def act(self, t: int, frame: np.ndarray) -> int:
        """The action that answers to the newest frame, which is number `t` since the start state.

        Called once a frame, in order, after `begin` named the first of them.
        """
        ...


ControllerFactory = Callable[[GameContract], Controller]


class RecordedController:
    """Repeats what the recorded player did after the start state; the no-op where the recording ends."""

    def __init__(self, game: GameContract) -> None:
        self._noop = game.noop_action
        self._actions = np.zeros(0, np.int64)

    def begin(self, start: StartState, seed: int, t: int, frame: np.ndarray) -> None:
        """ValueError for a start state without recorded actions."""
        if start.future_actions is None:
            raise ValueError(f"start state {start.name!r} has no recorded actions after it")
        self._actions = start.future_actions

    def act(self, t: int, frame: np.ndarray) -> int:
        """Action `t` of the recording."""
        return int(self._actions[t]) if t < len(self._actions) else self._noop


class RandomController:
    """Each action held for 1 to 8 frames, as `rollout --actions random` plays; a function of (seed, t)."""

    def __init__(self, game: GameContract) -> None:
        self._game = game
        self._seed, self._block = 0, -1
        self._actions = np.zeros(0, np.int64)

    def begin(self, start: StartState, seed: int, t: int, frame: np.ndarray) -> None:
        """Another seed, other actions."""
        self._seed, self._block = seed, -1

    def act(self, t: int, frame: np.ndarray) -> int:
        """Drawn in blocks, so that a rewind finds the same actions again."""
        if t // _BLOCK != self._block:
            self._block = t // _BLOCK
            self._actions = random_actions(self._game, _BLOCK, key_of("player", self._seed, self._block))
        return int(self._actions[t % _BLOCK])


class NoopController:
    """Does nothing: what the world does by itself."""

    def __init__(self, game: GameContract) -> None:
        self._noop = game.noop_action

    def begin(self, start: StartState, seed: int, t: int, frame: np.ndarray) -> None:
        """Nothing to remember."""

    def act(self, t: int, frame: np.ndarray) -> int:
        """The no-op."""
        return self._noop


class FollowController:
    """Moves to where the ball is: a game plays itself, by what the picture shows."""

    def __init__(self, game: GameContract) -> None:
        self._follower = Follower(game)

    def begin(self, start: StartState, seed: int, t: int, frame: np.ndarray) -> None:
        """Nothing to remember."""

    def act(self, t: int, frame: np.ndarray) -> int:
        """By the newest frame alone."""
        return int(self._follower(frame[None])[0])


BUILT_IN: dict[str, ControllerFactory] = {
    "recorded": RecordedController,
    "random": RandomController,
    "noop": NoopController,
}


def built_in(game: GameContract) -> dict[str, ControllerFactory]:
    """Those of `BUILT_IN`, and one that follows the ball where there is one."""
    return BUILT_IN | ({"follow": FollowController} if can_follow(game) else {})
