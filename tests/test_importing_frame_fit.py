"""importing/frame_fit.py: exact frames stay exact; the letterbox against direct arithmetic; wrong sizes."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.importing.frame_fit import check_source_size, fit_frame
from tests.own_clips import make_spec

FRAME = np.random.default_rng(0).integers(0, 256, (20, 28, 3), np.uint8)


def test_an_exact_frame_stays_and_bgr_is_exchanged() -> None:
    np.testing.assert_array_equal(fit_frame(FRAME, make_spec(), "x"), FRAME)
    np.testing.assert_array_equal(fit_frame(FRAME[..., ::-1], make_spec(colour_order="BGR"), "x"), FRAME)


def test_a_crop_cuts_before_anything_else() -> None:
    screen = np.zeros((50, 60, 3), np.uint8)
    screen[7:27, 11:39] = FRAME
    np.testing.assert_array_equal(fit_frame(screen, make_spec(crop=(7, 11, 20, 28)), "x"), FRAME)


@pytest.mark.parametrize("resize_filter", ["area", "nearest"])
def test_pixel_graphics_enlarged_by_a_whole_number_come_back(resize_filter: str) -> None:
    large = FRAME.repeat(3, axis=0).repeat(3, axis=1)
    spec = make_spec(resize="letterbox", resize_filter=resize_filter)
    np.testing.assert_array_equal(fit_frame(large, spec, "x"), FRAME)


def test_area_averages_blocks() -> None:
    blocks = np.random.default_rng(1).integers(0, 256, (40, 56, 3), np.uint8)
    fitted = fit_frame(blocks, make_spec(resize="letterbox"), "x")
    mean = blocks.reshape(20, 2, 28, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(fitted - mean).max() <= 1  # Pillow rounds after each of the two directions


@pytest.mark.parametrize(
    ("size", "box"), [((20, 20), (0, 4, 20, 20)), ((10, 28), (5, 0, 10, 28)), ((7, 28), (6, 0, 7, 28))]
)
def test_the_letterbox_keeps_the_shape_and_is_black_around(size: tuple[int, int], box: tuple[int, ...]) -> None:
    white = np.full((*size, 3), 255, np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    fitted = fit_frame(white, make_spec(resize="letterbox"), "x")
    top, left, height, width = box
    expected = np.zeros((20, 28, 3), np.uint8)
    expected[top : top + height, left : left + width] = 255
    np.testing.assert_array_equal(fitted, expected)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="x: frames are 40x56 .*frame_size says 20x28; write `resize: letterbox`"):
        check_source_size(40, 56, make_spec(), "x")
    with pytest.raises(ValueError, match="too small for crop"):
        check_source_size(40, 56, make_spec(crop=(30, 0, 20, 28)), "x")
    with pytest.raises(ValueError, match="after the crop"):
        check_source_size(40, 56, make_spec(crop=(0, 0, 21, 28)), "x")
    for wrong in (FRAME.astype(float), FRAME[..., :2], FRAME[..., 0]):
        with pytest.raises(ValueError, match="expected uint8"):
            fit_frame(wrong, make_spec(), "x")
