"""How far frames are from the real ones. Pure functions of uint8 RGB frames (..., H, W, 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

MAX_PSNR = 100.0
"""What equal frames get: a number that JSON can hold."""
MOVING_THRESHOLD = 8
"""Of 255: a smaller difference is not seen as movement, and resizing makes some."""
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


@dataclass
class SquaredError:
    """A running mean squared error: PSNR over many batches is that of their mean error, not the mean of their dB."""

    total: float = 0.0
    count: int = 0

    def add(self, real: Frames, other: Frames, mask: Mask | None = None) -> None:
        """Add frames of one shape (..., H, W, 3), or only the pixels of `mask` (..., H, W)."""
        _check_pair(real, other)
        difference = real.astype(np.float64) - other
        if mask is not None:
            difference = difference[mask]
        self.total += float((difference**2).sum())
        self.count += difference.size

    @property
    def mean(self) -> float | None:
        """Mean squared error in 0..255 units; None before anything was added."""
        return self.total / self.count if self.count else None

    @property
    def psnr(self) -> float | None:
        """In dB, at most `MAX_PSNR`; None before anything was added."""
        return None if self.mean is None else psnr_of(self.mean)


def psnr_of(mean_squared_error: float) -> float:
    """Peak signal to noise ratio in dB of an error in 0..255 units, at most `MAX_PSNR`."""
    if mean_squared_error <= 0:
        return MAX_PSNR
    return min(MAX_PSNR, float(10 * np.log10(255.0**2 / mean_squared_error)))


def psnr(real: Frames, other: Frames, mask: Mask | None = None) -> float | None:
    """PSNR in dB of the mean squared error over all frames and channels.

    Args:
        real, other: uint8 (..., H, W, 3).
        mask: bool (..., H, W), the pixels that count.
    Returns:
        dB, at most 100; None where no pixel counts.
    Raises:
        ValueError: other dtypes, or different shapes.
    """
    error = SquaredError()
    error.add(real, other, mask)
    return error.psnr


def moving_pixels(before: Frames, after: Frames, threshold: int = MOVING_THRESHOLD) -> Mask:
    """Pixels in which two successive real frames differ by more than `threshold` in a channel: bool (..., H, W)."""
    _check_pair(before, after)
    difference = np.abs(before.astype(np.int16) - after)
    moving: Mask = (difference > threshold).any(-1)
    return moving


def ssim(real: Frames, other: Frames) -> float:
    """Mean structural similarity, over the colour channels and all places of an 11x11 Gaussian window.

    Args:
        real, other: uint8 (..., H, W, 3), both sides at least 11 pixels.
    Returns:
        At most 1, which is equality.
    Source: Wang et al. 2004, "Image quality assessment", section III-B (sigma 1.5, K1 .01, K2 .03).
        Departure: each colour channel is compared, not the luminance.
    """
    _check_pair(real, other)
    if min(real.shape[-3:-1]) < SSIM_WINDOW:
        raise ValueError(f"ssim: expected frames of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, got {real.shape}")
    first, second = real.astype(np.float64), other.astype(np.float64)
    mean_first, mean_second = _blur(first), _blur(second)
    variance_first = _blur(first**2) - mean_first**2
    variance_second = _blur(second**2) - mean_second**2
    covariance = _blur(first * second) - mean_first * mean_second
    c1, c2 = (SSIM_K1 * 255) ** 2, (SSIM_K2 * 255) ** 2
    luminance = (2 * mean_first * mean_second + c1) / (mean_first**2 + mean_second**2 + c1)
    structure = (2 * covariance + c2) / (variance_first + variance_second + c2)
    return float((luminance * structure).mean())


def copy_last_frame(frames: Frames) -> Frames:
    """The baseline that every world must beat: predict frames[t + 1] as frames[t]; (T + 1, H, W, 3) -> (T, H, W, 3)."""
    return frames[:-1]


def _blur(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Gaussian window over the two axes before the last, where it fits wholly."""
    position = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    weights = np.exp(-(position**2) / (2 * SSIM_SIGMA**2))
    weights /= weights.sum()
    for axis in (-3, -2):
        length = values.shape[axis] - SSIM_WINDOW + 1
        moved = np.moveaxis(values, axis, 0)
        blurred = weights[0] * moved[:length]
        for start in range(1, SSIM_WINDOW):
            blurred += weights[start] * moved[start : start + length]
        values = np.moveaxis(blurred, 0, axis)
    return values


def _check_pair(real: Frames, other: Frames) -> None:
    for frames in (real, other):
        if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
            raise ValueError(f"expected uint8 frames (..., H, W, 3), got {frames.dtype} {frames.shape}")
    if real.shape != other.shape:
        raise ValueError(f"expected frames of one shape, got {real.shape} and {other.shape}")
