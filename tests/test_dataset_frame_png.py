"""frame_png: any frame survives bit for bit, read by Pillow, an independent reader."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gamengen.dataset.frame_png import FrameEncoder, decode_png, decode_pngs


def coloured(num_colours: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    packed = rng.choice(1 << 24, size=num_colours, replace=False)
    palette = np.stack([packed & 255, packed >> 8 & 255, packed >> 16], axis=1).astype(np.uint8)
    choice = rng.integers(num_colours, size=(height, width))
    choice.reshape(-1)[:num_colours] = np.arange(num_colours)[: height * width]
    return palette[choice]


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 31), (210, 160)])
@pytest.mark.parametrize("num_colours", [1, 2, 3, 4, 5, 16, 17, 256, 257, 20_000])
def test_every_frame_survives(num_colours: int, size: tuple[int, int]) -> None:
    frame = coloured(min(num_colours, size[0] * size[1]), *size)
    data = FrameEncoder().encode(frame)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("P" if min(num_colours, size[0] * size[1]) <= 256 else "RGB")
        image.load()
        assert np.array_equal(np.array(image.convert("RGB")), frame)
    assert np.array_equal(decode_png(data), frame)


def test_bytes_do_not_depend_on_what_was_encoded_before() -> None:
    """A continued recording equals an uninterrupted one."""
    frames = [coloured(n, 40, 40, seed=n) for n in (3, 200, 17, 1500, 16)]
    used = FrameEncoder()
    assert [used.encode(f) for f in frames] == [FrameEncoder().encode(f) for f in frames]


def test_more_colours_than_an_encoder_remembers() -> None:
    encoder = FrameEncoder()
    rng = np.random.default_rng(0)
    for _ in range(4):  # 33600 colours a frame: the second overflows the table of 65535
        frame = rng.integers(0, 256, (210, 160, 3), dtype=np.uint8)
        assert np.array_equal(decode_png(encoder.encode(frame)), frame)
    flat = coloured(4, 210, 160)
    assert encoder.encode(flat) == FrameEncoder().encode(flat)
    huge = rng.integers(0, 256, (400, 400, 3), dtype=np.uint8)
    assert np.array_equal(decode_png(encoder.encode(huge)), huge)
    assert encoder.encode(flat) == FrameEncoder().encode(flat)


def test_damaged_and_wrong_input_is_named() -> None:
    data = FrameEncoder().encode(coloured(9, 20, 20))
    with pytest.raises(ValueError, match="row 7.*damaged"):
        decode_png(data[: len(data) // 2], "row 7")
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\)"):
        FrameEncoder().encode(np.zeros((4, 4, 3), np.float32))


def test_frames_of_several_sizes_are_refused_by_name() -> None:
    encoder = FrameEncoder()
    small, large = (encoder.encode(np.zeros((side, 4, 3), np.uint8)) for side in (4, 5))
    assert decode_pngs([small, small], "here").shape == (2, 4, 4, 3)
    with pytest.raises(ValueError, match=r"here: frame 1 is \(5, 4, 3\), the first is \(4, 4, 3\)"):
        decode_pngs([small, large], "here")
