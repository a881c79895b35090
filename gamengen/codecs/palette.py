"""The few flat colours of a game, and frames in nothing but them.

A console draws with some colours; a decoder comes near them, off by a level here, with a seam there. Where what it
shows is near one of the game's own colours that one is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Palette = list[list[int]]
"""(red, green, blue) of each colour, 0 to 255."""
MAX_COLOURS = 32
"""A game with more has no flat colours to speak of."""
NEAR = 64
"""Distance in RGB, in grey levels, up to which a pixel is taken for a colour. Half-way between two that are far from
each other is neither: there the decoder has not decided."""


def measure_palette(clips: Sequence[npt.NDArray[np.uint8]]) -> Palette | None:
    """The colours of clips of uint8 frames (N, H, W, 3), sorted; None when there are more than `MAX_COLOURS`."""
    # Three bytes as one number: many times faster than unique rows.
    places = np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    colours = np.unique(np.concatenate([np.unique(clip.astype(np.uint32) @ places) for clip in clips]))
    if len(colours) > MAX_COLOURS:
        return None
    return [[int(c) >> 16, int(c) >> 8 & 255, int(c) & 255] for c in colours]


def nearest_colours(frames: Tensor, palette: Sequence[Sequence[int]]) -> Tensor:
    """uint8 frames (..., H, W, 3) with each pixel that is near a colour of the palette made that colour.

    Whole numbers below 2^24 throughout, so that every device and backend finds the same.
    """
    colours = torch.tensor(palette, dtype=torch.float32, device=frames.device)
    values = frames.float()
    # |v - p|^2 = |v|^2 - (2 v.p - |p|^2)
    scores = values @ (2.0 * colours.T) - colours.square().sum(1)
    score, index = scores.max(-1)
    near = values.square().sum(-1) - score <= float(NEAR**2)
    return torch.where(near.unsqueeze(-1), colours[index], values).to(torch.uint8)
