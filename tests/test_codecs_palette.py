"""gamengen.codecs.palette: a game's own colours, and what is near them."""

from __future__ import annotations

import numpy as np
import torch

from gamengen.codecs.palette import MAX_COLOURS, NEAR, measure_palette, nearest_colours

PALETTE = [[0, 0, 0], [200, 72, 72], [210, 80, 70], [236, 236, 236]]


def test_the_palette_is_every_colour_of_the_frames_once() -> None:
    rng = np.random.default_rng(0)
    frames = np.array(PALETTE, dtype=np.uint8)[rng.integers(0, 4, (5, 12, 9))]
    assert measure_palette([frames[:2], frames[2:]]) == PALETTE
    assert measure_palette([frames]) == np.unique(frames.reshape(-1, 3), axis=0).tolist()


def test_a_game_of_many_colours_has_none() -> None:
    shades = np.arange(MAX_COLOURS + 1, dtype=np.uint8)[:, None].repeat(3, axis=1).reshape(1, 1, -1, 3)
    assert measure_palette([shades]) is None
    assert len(measure_palette([shades[:, :, 1:]]) or []) == MAX_COLOURS


def test_each_pixel_becomes_the_nearest_colour_if_that_is_near() -> None:
    """As one finds by measuring every distance, pixel by pixel."""
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (2, 30, 40, 3)).astype(np.uint8)
    found = nearest_colours(torch.from_numpy(frames), PALETTE).numpy()
    distances = np.linalg.norm(frames[..., None, :].astype(float) - np.array(PALETTE), axis=-1)
    nearest = np.array(PALETTE)[distances.argmin(-1)]
    expected = np.where(distances.min(-1, keepdims=True) <= NEAR, nearest, frames)
    assert np.array_equal(found, expected) and found.dtype == np.uint8
    changed = (found != frames).any(-1).mean()
    assert 0.05 < changed < 0.8, "both happen here"


def test_the_colours_themselves_stay_and_so_does_what_is_half_way() -> None:
    frames = torch.tensor([[*PALETTE, [118, 118, 118]]], dtype=torch.uint8)
    assert torch.equal(nearest_colours(frames, PALETTE), frames)
    near = frames.clone()
    near[0, 3] -= 30
    assert nearest_colours(near, PALETTE)[0, 3].tolist() == PALETTE[3]
