"""When a ball turns: the few frames of a game of bats and balls in which most that can go wrong does."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from gamengen.objects.reader import Track

BALL = "ball"
FASTEST = 16.0
"""Pixels a frame: what is farther away is another ball, such as one that is served."""
Axes: TypeAlias = Literal["xy", "x", "y", "up"]


def turns(ball: Track, axes: Axes = "xy") -> npt.NDArray[np.bool_]:
    """(T,), True in the first frame after a turn: across or down, the ball has moved the other way than before.

    A frame without a ball before or after says nothing, nor does a ball that jumps or stands.

    Args:
        axes: `x` finds only what turns across, such as at the paddles of Pong; `y` only what turns up or down; `up`
            only what fell before and rises now, such as at the paddle of Breakout.
    """
    found = np.zeros(len(ball.y), bool)
    if len(found) < 3:
        return found
    steps = np.diff(np.stack([ball.x, ball.y]), axis=1)  # (2, T - 1)
    turning = steps[["xy".index(axis) for axis in ("y" if axes == "up" else axes)]]
    with np.errstate(invalid="ignore"):  # NaN, where it is missing, is neither
        moves = np.asarray((np.abs(steps) <= FASTEST).all(0))
        back = np.asarray((turning[:, :-1] * turning[:, 1:] < 0).any(0))
        if axes == "up":  # pixels count downwards
            back &= steps[1, 1:] < 0
    found[2:] = back & moves[:-1] & moves[1:]
    return found
