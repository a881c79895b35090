"""importing/colours.py: exchanged red and blue are told; gray and noise are not accused."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.importing.colours import ColourCount, check_same_order


def scene(seed: int, sky: tuple[int, int, int] = (60, 120, 230)) -> np.ndarray:
    """Blue sky, brown ground, noise of a lossy codec."""
    frame = np.zeros((40, 40, 3), int)
    frame[:25], frame[25:] = sky, (140, 90, 40)
    return (frame + np.random.default_rng(seed).integers(-6, 7, frame.shape)).clip(0, 255).astype(np.uint8)


def count(*frames: np.ndarray, known: tuple[tuple[int, int, int], ...] = ()) -> ColourCount:
    colours = ColourCount(known)
    for frame in frames:
        colours.add(frame)
    return colours


def test_the_palette_is_the_share_of_pixels() -> None:
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 0] = (255, 0, 33)
    palette = count(frame).palette
    assert palette[7, 0, 1] == 0.25 and palette[0, 0, 0] == 0.75 and palette.sum() == 1


def test_exchanged_channels_are_told_from_another_clip() -> None:
    reference = count(scene(0), scene(1)).palette
    check_same_order(count(scene(2)).palette, reference, "b", "a")
    with pytest.raises(
        ValueError, match=r"b: its colours overlap with those of a by 0\.\d+, and by .* one of the two is BGR"
    ):
        check_same_order(count(scene(2)[..., ::-1]).palette, reference, "b", "a")


def test_gray_games_and_other_scenes_are_not_accused() -> None:
    reference = count(scene(0)).palette
    gray = np.random.default_rng(0).integers(0, 256, (40, 40, 1)).repeat(3, axis=2).astype(np.uint8)
    check_same_order(count(gray).palette, reference, "b", "a")
    check_same_order(count(gray[..., ::-1]).palette, count(gray).palette, "b", "a")
    check_same_order(count(scene(0, sky=(20, 200, 20))).palette, reference, "b", "a")


def test_known_colours() -> None:
    count(scene(0), known=((60, 120, 230),)).check_known("a")
    with pytest.raises(
        ValueError, match="a: no pixel has the known colour #3c78e6, but 1000 have it with red and blue"
    ):
        count(scene(0)[..., ::-1], known=((60, 120, 230),)).check_known("a")
    with pytest.raises(ValueError, match="a: no pixel has the known colour #ff00ff; another clip"):
        count(scene(0), known=((255, 0, 255),)).check_known("a")
