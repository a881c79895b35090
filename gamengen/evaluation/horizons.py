"""Parts of a rollout's length: windows and means up to marks, of raw values (2, T)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gamengen.evaluation.figures import Values

MARKS = (1, 4, 16, 64, 256)


def marks_within(horizon: int) -> tuple[int, ...]:
    """The marks that a rollout reaches, and its last frame where it is none of them."""
    reached = [mark for mark in MARKS if mark <= horizon]
    return (*reached, *([] if horizon in reached else [horizon]))


def at_marks(values: Values, marks: Sequence[int]) -> Values:
    """(..., T) -> (..., M): the frames themselves; frame 1 is the first dreamt one."""
    return values[..., [mark - 1 for mark in marks]]


def up_to_marks(values: Values, marks: Sequence[int]) -> Values:
    """(..., T) -> (..., M): sums over the frames from the first to each mark."""
    return at_marks(values.cumsum(-1), marks)


def by_window(values: Values, marks: Sequence[int]) -> Values:
    """(..., T) -> (..., M): sums over the frames after the mark before, up to and with each mark."""
    sums = up_to_marks(values, marks)
    return np.diff(sums, axis=-1, prepend=0.0)


def window_names(marks: Sequence[int]) -> list[str]:
    """For `by_window`: `1`, `2-4`, `5-16`."""
    firsts = [1, *(mark + 1 for mark in marks[:-1])]
    return [str(last) if first == last else f"{first}-{last}" for first, last in zip(firsts, marks, strict=True)]
