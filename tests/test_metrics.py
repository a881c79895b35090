"""gamengen.metrics: against independent, slow versions of the same formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gamengen.metrics import MAX_PSNR, SquaredError, copy_last_frame, moving_pixels, psnr, psnr_of, ssim


def frames(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_psnr_is_that_of_the_mean_error_over_everything() -> None:
    real, other = frames(4, 5, 6), frames(4, 5, 6, seed=1)
    total = sum((int(a) - int(b)) ** 2 for a, b in zip(real.ravel(), other.ravel(), strict=True))
    assert psnr(real, other) == pytest.approx(20 * math.log10(255) - 10 * math.log10(total / real.size))
    # uint8 arithmetic would wrap around
    assert psnr(np.zeros((1, 1, 1, 3), np.uint8), np.full((1, 1, 1, 3), 255, np.uint8)) == pytest.approx(0)


def test_batches_add_up_to_the_psnr_of_all_and_not_to_the_mean_of_their_decibels() -> None:
    real = frames(6, 5, 6)
    other = real.copy()
    other[:2] ^= 1
    other[2:] ^= 64
    error = SquaredError()
    assert error.psnr is None
    error.add(real[:2], other[:2])
    error.add(real[2:], other[2:])
    assert error.psnr == pytest.approx(psnr(real, other))
    mean_of_decibels = (psnr(real[:2], other[:2]) + psnr(real[2:], other[2:])) / 2
    assert abs(error.psnr - mean_of_decibels) > 5


def test_equal_frames_and_empty_masks_give_numbers_that_json_can_hold() -> None:
    real = frames(2, 5, 6)
    assert psnr(real, real) == MAX_PSNR and psnr_of(0.0) == MAX_PSNR
    assert psnr(real, frames(2, 5, 6, seed=1), np.zeros((2, 5, 6), bool)) is None


def test_a_mask_leaves_only_its_pixels() -> None:
    real, other = frames(2, 5, 6), frames(2, 5, 6, seed=1)
    mask = np.zeros((2, 5, 6), bool)
    mask[1, 2, 3] = True
    assert psnr(real, other, mask) == pytest.approx(psnr(real[1:, 2:3, 3:4], other[1:, 2:3, 3:4]))


def test_moving_pixels_differ_in_any_channel_by_more_than_the_threshold() -> None:
    before = np.full((2, 4, 4, 3), 100, np.uint8)
    after = before.copy()
    after[0, 1, 2, 1] = 109
    after[1, 3, 3, 2] = 91
    after[1, 0, 0, 0] = 108
    assert np.argwhere(moving_pixels(before, after)).tolist() == [[0, 1, 2], [1, 3, 3]]
    assert np.argwhere(moving_pixels(before, after, threshold=0)).tolist() == [[0, 1, 2], [1, 0, 0], [1, 3, 3]]


def test_copying_the_last_frame_is_blind_to_movement_only() -> None:
    real = frames(3, 8, 8).repeat(2, axis=0)[:5]  # every second frame stands still
    after, copied = real[1:], copy_last_frame(real)
    assert copied.shape == after.shape
    assert np.array_equal(copied[0], after[0]) and not np.array_equal(copied[1], after[1])
    assert psnr(after, copied, ~moving_pixels(copied, after, threshold=0)) == MAX_PSNR


def naive_ssim(real: np.ndarray, other: np.ndarray) -> float:
    """Window by window, weighted sums written out."""
    offsets = range(-5, 6)
    weights = np.array([[math.exp(-(dy * dy + dx * dx) / 4.5) for dx in offsets] for dy in offsets])
    weights = weights / weights.sum()
    values = []
    for image, twin in zip(real.astype(float), other.astype(float), strict=True):
        for y in range(5, image.shape[0] - 5):
            for x in range(5, image.shape[1] - 5):
                for channel in range(3):
                    a = image[y - 5 : y + 6, x - 5 : x + 6, channel]
                    b = twin[y - 5 : y + 6, x - 5 : x + 6, channel]
                    mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                    var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
                    both = (weights * (a - mean_a) * (b - mean_b)).sum()
                    c1, c2 = 2.55**2, 7.65**2
                    up = (2 * mean_a * mean_b + c1) * (2 * both + c2)
                    values.append(up / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return float(np.mean(values))


def test_ssim_equals_the_formula_written_out() -> None:
    real = frames(2, 14, 16)
    noise = np.random.default_rng(2).integers(-40, 40, real.shape)
    other = np.clip(real.astype(int) + noise, 0, 255).astype(np.uint8)
    assert ssim(real, other) == pytest.approx(naive_ssim(real, other), abs=1e-9)
    assert ssim(real, real) == pytest.approx(1)
    assert ssim(real, other) == pytest.approx(ssim(other, real))
    assert ssim(real, frames(2, 14, 16, seed=5)) < 0.3 < ssim(real, other)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        psnr(frames(2, 5, 6), frames(3, 5, 6))
    with pytest.raises(ValueError, match="float64"):
        psnr(frames(2, 5, 6) / 255, frames(2, 5, 6))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(frames(2, 5, 16), frames(2, 5, 16))
