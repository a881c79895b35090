"""evaluation.section: curves as lines."""

from __future__ import annotations

from gamengen.evaluation.figures import Figure
from gamengen.evaluation.section import curve


def test_a_curve_keeps_its_interval_and_its_gaps() -> None:
    figure = Figure([1.0, None, 3.0], [0.5, None, 2.5], [1.5, None, 3.5], 4, 2)
    line = curve(figure, [1, 4, 16], dashed=True)
    assert (line.x, line.y, line.low, line.high) == ([1, 4, 16], figure.value, figure.low, figure.high) and line.dashed
