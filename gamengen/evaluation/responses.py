"""Several courses of a game from one state, and how they differ, coarsely: what another action changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.recordings import Excerpt
from gamengen.evaluation.study import Study
from gamengen.world import World

BLOCKS_DOWN = 26
"""Differences are means over squares, about this many of them in a column: a paddle that stands two pixels beside
its true place is still the same answer."""

Floats = npt.NDArray[np.float64]


def response(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> Floats:
    """What one course shows more than the other: uint8 (..., H, W, 3) twice -> (..., h, w, 3), means over squares."""
    difference = one.astype(np.int16) - other
    *many, height, width, colours = difference.shape
    side = max(1, round(height / BLOCKS_DOWN))
    padded = np.pad(difference, [(0, 0)] * len(many) + [(0, -height % side), (0, -width % side), (0, 0)])
    squares = padded.reshape(*many, padded.shape[-3] // side, side, padded.shape[-2] // side, side, colours)
    means: Floats = squares.mean((-4, -2))
    return means


def inner(one: Floats, other: Floats) -> Floats:
    """Sum of products over the picture: (..., h, w, 3) twice -> (...)."""
    product: Floats = (one * other).sum((-3, -2, -1))
    return product


def branches(
    study: Study,
    world: World,
    excerpts: Sequence[Excerpt],
    courses: Sequence[npt.NDArray[np.int64]],
    key: int | str = "dream",
) -> list[npt.NDArray[np.uint8]]:
    """Several courses of one world from the same states, with the same seeds (those of `study.dream`).

    Args:
        excerpts: at most as many as the world has slots.
        courses: actions (n, T) of each, n as many as excerpts.
    Returns:
        uint8 (n, T, H, W, 3) of each course.
    """
    spare = world.num_worlds - len(excerpts)
    filled = [*excerpts, *[excerpts[-1]] * spare]
    world.reset([e.start for e in filled], [study.seed_of(e.place, key) for e in filled])
    before = world.snapshot()
    shown = []
    for actions in courses:
        world.restore(before)
        pressed = np.concatenate([actions, actions[-1:].repeat(spare, axis=0)])
        frames = [world.step(pressed[:, t]).frames[: len(excerpts)] for t in range(actions.shape[1])]
        shown.append(np.stack(frames, axis=1))
    return shown
