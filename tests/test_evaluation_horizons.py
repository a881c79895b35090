"""evaluation.horizons: windows and means of curves, by plain sums."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.horizons import at_marks, by_window, marks_within, up_to_marks, window_names


@pytest.mark.parametrize(
    ("horizon", "marks"),
    [(1, (1,)), (4, (1, 4)), (6, (1, 4, 6)), (256, (1, 4, 16, 64, 256)), (300, (1, 4, 16, 64, 256, 300))],
)
def test_marks_reach_the_last_frame(horizon: int, marks: tuple[int, ...]) -> None:
    assert marks_within(horizon) == marks


def test_windows_and_means_are_sums_of_their_frames() -> None:
    curve = np.arange(1, 21, dtype=float).reshape(2, 10)
    marks = (1, 4, 10)
    assert np.array_equal(at_marks(curve, marks), curve[:, [0, 3, 9]])
    assert np.array_equal(up_to_marks(curve, marks), np.stack([curve[:, :m].sum(1) for m in marks], 1))
    windows = [curve[:, :1].sum(1), curve[:, 1:4].sum(1), curve[:, 4:].sum(1)]
    assert np.array_equal(by_window(curve, marks), np.stack(windows, 1))
    assert window_names(marks) == ["1", "2-4", "5-10"]
