"""The pixel convention: uint8 RGB (H, W, 3) outside, float (3, H, W) in [-1, 1] inside; the project's only rounding."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Padding = tuple[int, int, int, int]
"""Pixels added at the top, bottom, left and right."""


def to_float(frames: Tensor | np.ndarray) -> Tensor:
    """Frames to network input.

    Args:
        frames: uint8 (..., H, W, 3), RGB.
    Returns:
        float32 (..., 3, H, W) in [-1, 1].
    Raises:
        ValueError: other dtype or layout. The range is never guessed from the values.
    """
    frames = torch.as_tensor(frames)
    if frames.dtype != torch.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
        raise ValueError(f"frames: expected uint8 (..., H, W, 3), got {frames.dtype} {tuple(frames.shape)}")
    return frames.movedim(-1, -3).to(torch.float32).div(127.5).sub(1.0)


def to_frames(values: Tensor) -> Tensor:
    """Network output to frames: clamped, rounded to nearest.

    Args:
        values: float (..., 3, H, W), nominally in [-1, 1].
    Returns:
        uint8 (..., H, W, 3), contiguous, on the device of `values`.
    """
    pixels = values.float().add(1.0).mul(127.5).clamp(0.0, 255.0).round().to(torch.uint8)
    # Counted from the front: the ONNX exporter takes no negative axes here.
    return pixels.movedim(values.ndim - 3, values.ndim - 1).contiguous()


def padding_to_multiple(height: int, width: int, multiple: int) -> Padding:
    """The least padding that makes both sides a multiple, split evenly over opposite sides."""
    vertical, horizontal = -height % multiple, -width % multiple
    return (vertical // 2, vertical - vertical // 2, horizontal // 2, horizontal - horizontal // 2)


def pad(values: Tensor, padding: Padding) -> Tensor:
    """Repeat the border pixels of (N, 3, H, W) outwards; `crop` undoes it."""
    top, bottom, left, right = padding
    return F.pad(values, (left, right, top, bottom), mode="replicate") if any(padding) else values


def crop(values: Tensor, padding: Padding) -> Tensor:
    """Remove what `pad` added from (..., H, W)."""
    top, bottom, left, right = padding
    return values[..., top : values.shape[-2] - bottom, left : values.shape[-1] - right]


def check_size(height: int, width: int, expected_height: int, expected_width: int, where: str) -> None:
    """Raise ValueError when frames are not of the size that a contract names."""
    if (height, width) != (expected_height, expected_width):
        raise ValueError(
            f"{where}: frames are {height}x{width} (height x width), expected {expected_height}x{expected_width}"
        )
