"""The few flat colours of a game, and frames in nothing but them.

A console draws with some colours; a decoder comes near them, off by a level here, with a seam there. Where what it
shows is near one of the game's own colours that one is meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    # Many times faster than unique rows.
    colours = np.unique(np.concatenate([np.unique(_packed(*np.moveaxis(c.astype(np.uint32), -1, 0))) for c in clips]))
    if len(colours) > MAX_COLOURS:
        return None
    return [[int(c) >> 16, int(c) >> 8 & 255, int(c) & 255] for c in colours]


def nearest_colours(frames: Tensor, palette: Sequence[Sequence[int]]) -> Tensor:
    """uint8 frames (..., H, W, 3) with each pixel that is near a colour of the palette made that colour.

    Whole numbers below 2^24 throughout, so that every device and backend finds the same; of two that are equally near
    the first. A colour is one number meanwhile: a plane at a time is twice as fast as pixels of three.
    """
    red, green, blue = (plane.contiguous().float() for plane in frames.unbind(-1))
    shown = _packed(red, green, blue)
    least = torch.full_like(shown, NEAR**2 + 1)
    for r, g, b in palette:
        distance = (red - r).square() + (green - g).square() + (blue - b).square()
        shown = torch.where(distance < least, float(_packed(r, g, b)), shown)
        least = torch.minimum(least, distance)
    upper, middle = (shown / 65536).floor(), (shown / 256).floor()
    parts = (upper, middle - 256 * upper, shown - 256 * middle)
    return torch.stack([value.to(torch.uint8) for value in parts], frames.ndim - 1)


def _packed(red: Any, green: Any, blue: Any) -> Any:
    """Three bytes as one number."""
    return (red * 256 + green) * 256 + blue
