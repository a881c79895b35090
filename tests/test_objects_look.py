"""gamengen.objects.look: fonts as they are drawn, and how near a colour is."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.objects.games import PONG_DIGITS
from gamengen.objects.look import Look, likeness


def test_a_drawn_font_has_ten_different_digits_of_blocks() -> None:
    glyphs = PONG_DIGITS.glyphs
    assert glyphs.shape == (10, 20, 12)
    assert len({glyph.tobytes() for glyph in glyphs}) == 10
    assert np.array_equal(glyphs[1, :4], np.tile([False] * 4 + [True] * 4 + [False] * 4, (4, 1)))
    assert glyphs[8].sum() == 13 * 16 and not glyphs[8, 4:8, 4:8].any()


def test_likeness_is_the_share_of_the_way_and_nothing_beside_it() -> None:
    background, colour = (144, 72, 17), (236, 236, 236)
    half = np.round((np.array(background) + colour) / 2).astype(np.uint8)
    pixels = np.stack([np.array(background, np.uint8), half, np.array(colour, np.uint8), np.array([255] * 3, np.uint8)])
    assert likeness(pixels, colour, background) == pytest.approx([0, 0.5, 1, 1], abs=0.01)
    assert likeness(np.array([213, 130, 74], np.uint8), colour, background) == 0  # the opponent's paddle
    assert likeness(np.array([110, 50, 10], np.uint8), colour, background) == 0  # darker than the background


def test_the_full_area_is_the_box_unless_it_is_given() -> None:
    values = dict(colour=(0, 0, 0), background=(1, 1, 1), height=4, width=2, rows=((0, 9),), columns=(0, 9))
    assert Look(**values).full_area == 8 and Look(**values, area=5).full_area == 5  # type: ignore[arg-type]
