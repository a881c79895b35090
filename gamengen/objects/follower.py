"""A player who sees the picture and nothing else, and so plays the real game and a dream of it alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gamengen.contract import GameContract
from gamengen.objects.games import GAMES, game_objects
from gamengen.objects.reader import read_objects
from gamengen.objects.turns import BALL

DEAD_ZONE = 0.25
"""Of the length of what it moves: a ball that is no farther off its middle needs no move."""


def can_follow(game: GameContract) -> bool:
    """Whether there is a ball to follow, something to follow it with, and the actions that this takes."""
    return follow_obstacle(game) is None


def follow_obstacle(game: GameContract) -> str | None:
    """Why nobody can follow the ball of a game; None if somebody can."""
    known = GAMES.get(game.env_id)
    if known is None or BALL not in known.objects or known.moves is None:
        return f"{game.env_id} has no ball that could be followed"
    meanings = [action.meaning for action in game.actions]
    missing = [meaning for meaning in (*known.moves, known.serve) if meaning not in meanings]
    return f"{game.env_id}: following the ball takes {missing[0]}, the actions are {meanings}" if missing else None


class Follower:
    """Moves what the actions move to where the ball is, and asks for a ball where it sees none.

    It holds no state: the newest frame decides.

    Raises:
        ValueError: a game without a ball that could be followed, or that lacks an action which that takes.
    """

    def __init__(self, game: GameContract) -> None:
        known, obstacle = game_objects(game.env_id), follow_obstacle(game)
        if obstacle is not None:
            raise ValueError(obstacle)
        assert known.moves is not None  # or it were the obstacle
        meanings = [action.meaning for action in game.actions]
        self._env_id, self._own, self._axis = game.env_id, known.own, known.own_axis or "y"
        self._less, self._more, self._serve = (meanings.index(m) for m in (*known.moves, known.serve))
        self._stay = game.noop_action
        look = known.objects[known.own]
        self._zone = DEAD_ZONE * (look.height if self._axis == "y" else look.width)

    def __call__(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """The action that answers to each of n games' newest frames: uint8 (n, H, W, 3) -> int64 (n,)."""
        seen = read_objects(frames, self._env_id, (BALL, self._own))
        ball, own = (getattr(seen[name], self._axis) for name in (BALL, self._own))
        off = ball - own  # NaN where one of them is not seen
        actions = np.full(len(frames), self._stay, np.int64)
        actions[off < -self._zone] = self._less
        actions[off > self._zone] = self._more
        actions[~seen[BALL].present] = self._serve
        return actions
