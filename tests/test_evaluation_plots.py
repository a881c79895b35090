"""evaluation.plots: PNG files that are the same for the same figures, gaps and single points included."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gamengen.evaluation.section import Plot, Series

pytest.importorskip("matplotlib", reason="the extra `eval` is not installed")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_a_plot_shows_its_lines_and_is_reproducible() -> None:
    from gamengen.evaluation.plots import COLOURS, draw

    lines = {
        "world": Series([1, 2, 4], [1.0, None, 3.0], [0.5, None, 2.0], [1.5, None, 4.0]),
        "bound": Series([1, 4], [2.0, 2.0], dashed=True),
        "point": Series([3], [2.5], [2.0], [3.0]),
    }
    plot = Plot("name", "title", "x", "y", lines, log_x=True, y_range=(0, None))
    png = draw(plot)
    assert png == draw(plot)
    picture = pixels(png)
    assert picture.shape[1] > 600
    for colour in COLOURS[:2]:
        assert (picture == np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])).all(-1).sum() > 20
    without = pixels(draw(Plot("name", "title", "x", "y", {"bound": lines["bound"]})))
    assert not (without == np.array([int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)])).all(-1).any()
