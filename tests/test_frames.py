"""gamengen.frames: the only rounding in the project."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gamengen.frames import check_size, crop, pad, padding_to_multiple, to_float, to_frames

ALL_BYTES = torch.arange(256, dtype=torch.uint8).repeat_interleave(3).view(1, 16, 16, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_all_byte_values_survive_as_often_as_you_like(dtype: torch.dtype) -> None:
    """Truncation moved 63 of 256 values down by one, each time."""
    frames = ALL_BYTES
    for _ in range(5):
        frames = to_frames(to_float(frames).to(dtype))
    assert torch.equal(frames, ALL_BYTES)


def test_floats_are_rounded_to_nearest_and_clamped() -> None:
    levels = torch.tensor([-5.0, -1.0, 0.4, 0.6, 126.6, 254.4, 254.6, 300.0])
    values = (levels / 127.5 - 1).view(1, 1, 1, 8).expand(1, 3, 1, 8)
    assert to_frames(values)[0, 0, :, 0].tolist() == [0, 0, 0, 1, 127, 254, 255, 255]


def test_the_range_is_minus_one_to_one_and_channels_move() -> None:
    frames = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    frames[..., 1] = 255
    values = to_float(frames)
    assert values.shape == (2, 3, 4, 5) and values.dtype == torch.float32
    assert (values[:, 0] == -1).all() and (values[:, 1] == 1).all()
    assert to_frames(values).is_contiguous()


def test_numpy_frames_and_any_leading_shape() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), dtype=np.uint8)
    assert np.array_equal(to_frames(to_float(frames)).numpy(), frames)


@pytest.mark.parametrize(
    "frames", [torch.zeros(4, 5, 3), torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(3).byte()]
)
def test_the_layout_and_range_are_never_guessed(frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(\.\.\., H, W, 3\)"):
        to_float(frames)


@pytest.mark.parametrize(
    ("height", "width", "multiple"), [(210, 160, 8), (105, 80, 8), (64, 64, 8), (7, 9, 4), (1, 1, 1)]
)
def test_padding_is_the_least_and_crop_undoes_it(height: int, width: int, multiple: int) -> None:
    padding = padding_to_multiple(height, width, multiple)
    assert max(padding) <= (multiple + 1) // 2 and min(padding) >= 0
    values = torch.randn(2, 3, height, width)
    padded = pad(values, padding)
    assert padded.shape[-2] % multiple == padded.shape[-1] % multiple == 0
    assert padded.shape[-2] - height < multiple and padded.shape[-1] - width < multiple
    assert torch.equal(crop(padded, padding), values)


def test_padding_repeats_the_border() -> None:
    values = torch.arange(4.0).view(1, 1, 2, 2)
    padded = pad(values, (1, 0, 0, 2))
    assert padded[0, 0].tolist() == [[0, 1, 1, 1], [0, 1, 1, 1], [2, 3, 3, 3]]


def test_a_wrong_size_names_both() -> None:
    check_size(210, 160, 210, 160, "here")
    with pytest.raises(ValueError, match="here: frames are 160x210 .* expected 210x160"):
        check_size(160, 210, 210, 160, "here")
