"""player.start_image: any picture fits or is refused with a reason, before it can cost anything."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gamengen.games.emulator import make_game_contract
from gamengen.player.start_image import MAX_IMAGE_BYTES, start_from_image
from tests.worlds import tiny_game

GAME = tiny_game(16)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def test_a_picture_of_the_frames_size_is_taken_as_it_is() -> None:
    picture = noise(16, 16)
    start = start_from_image(encoded(picture), GAME)
    assert np.array_equal(start.frames, picture[None]) and start.replay is None
    start.check(GAME)


def test_others_are_fitted_as_a_whole_and_their_border_is_repeated() -> None:
    picture = np.zeros((8, 16, 3), np.uint8)
    picture[0], picture[-1] = (255, 0, 0), (0, 0, 255)
    frame = start_from_image(encoded(picture), GAME).frames[0]
    assert np.array_equal(frame[4:12], picture)
    assert (frame[:4] == (255, 0, 0)).all() and (frame[12:] == (0, 0, 255)).all()
    halved = start_from_image(encoded(noise(32, 32)), GAME).frames[0].astype(float)
    mean = noise(32, 32).reshape(16, 2, 16, 2, 3).mean((1, 3))
    assert np.abs(halved - mean).max() <= 1, "every pixel counts equally"
    doubled = start_from_image(encoded(noise(8, 8)), GAME).frames[0]
    assert np.array_equal(doubled, noise(8, 8).repeat(2, 0).repeat(2, 1))
    pong = make_game_contract("ALE/Pong-v5")
    assert start_from_image(encoded(noise(600, 800), "JPEG"), pong).frames.shape == (1, 210, 160, 3)


def test_transparency_is_black_and_photographs_stand_upright() -> None:
    clear = np.dstack([noise(16, 16), np.zeros((16, 16), np.uint8)])
    assert not start_from_image(encoded(clear), GAME).frames.any()
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    assert start_from_image(encoded(picture, exif=exif), GAME).frames[0][-1].min() == 255


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(99)))]
    chunks.append((b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a picture"), (b"\x89PNG\r\n\x1a\n", "not a picture"), (b"<svg/>", "not a picture"),
        (encoded(noise(16, 16))[:200], "not a picture"), (encoded(noise(16, 16), "TIFF"), "not a picture"),
        (bomb(50_000, 50_000), "not a picture|megapixels"), (bomb(6_000, 6_000), "megapixels"),
        (encoded(noise(4, 4)), "at least 8"), (encoded(noise(10, 200)), "differ too much"),
        (bytes(MAX_IMAGE_BYTES + 1), "at most 8 MB"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_frame_is_refused_at_once(data: bytes, reason: str) -> None:
    began = time.monotonic()
    with pytest.raises(ValueError, match=reason):
        start_from_image(data, GAME)
    assert time.monotonic() - began < 2
