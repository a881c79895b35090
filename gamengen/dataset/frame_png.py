"""Frames as PNG bytes, always bit-exact: a palette PNG up to 256 colours, an RGB PNG above."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from numpy.lib.stride_tricks import as_strided
from PIL import Image, UnidentifiedImageError

MAX_PALETTE = 256
COMPRESSION_LEVEL = 6
"""zlib level; unfiltered rows at level 6 are 1.5 times smaller than level 3 for 0.07 ms more a Pong frame."""
_MAX_KNOWN_COLOURS = (1 << 16) - 1
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class FrameEncoder:
    """Encodes frames of one game; it remembers the colours it met, so that most frames need no sort.

    The bytes depend on the frame alone, never on what was encoded before.
    """

    def __init__(self) -> None:
        # Colour (24 bit) -> its number + 1. The 128 MB are virtual: only the pages of colours in use get memory. All
        # indices are intp, which `take` and `bincount` use as they are.
        self._number_of = np.zeros(1 << 24, np.intp)
        self._colours = np.zeros(0, np.uint32)

    def encode(self, frame: np.ndarray) -> bytes:
        """uint8 (H, W, 3) RGB -> a PNG file.

        Source: the PNG specification. Departure from Pillow's writer: rows are never filtered, which for flat
        game graphics is four times faster and half the size.
        """
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"frame: expected uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
        packed = _pack(frame)
        numbers = self._number_of.take(packed, mode="wrap")
        counts = np.bincount(numbers)
        if counts[0]:
            self._learn(np.unique(packed))
            numbers = self._number_of.take(packed, mode="wrap")
            counts = np.bincount(numbers)
        used = np.flatnonzero(counts)
        if len(used) > MAX_PALETTE:
            return _encode_rgb(frame)
        order = np.argsort(self._colours[used - 1])  # by colour, so that the bytes do not depend on the history
        used = used[order]
        index_of = np.zeros(used.max() + 1, np.uint8)
        index_of[used] = np.arange(len(used), dtype=np.uint8)
        indices = index_of.take(numbers, mode="wrap").reshape(frame.shape[:2])
        return _palette_png(indices, self._colours[used - 1])

    def _learn(self, colours: np.ndarray) -> None:
        new = colours[self._number_of[colours] == 0]
        if len(self._colours) + len(new) > _MAX_KNOWN_COLOURS:
            self._number_of[self._colours] = 0
            self._colours, new = np.zeros(0, np.uint32), colours[:_MAX_KNOWN_COLOURS]
        self._number_of[new] = np.arange(len(self._colours) + 1, len(self._colours) + len(new) + 1)
        self._colours = np.concatenate([self._colours, new])


def decode_png(data: bytes, where: str = "frame") -> np.ndarray:
    """A PNG file -> uint8 (H, W, 3) RGB, a fresh array.

    Raises:
        ValueError: names `where` when the bytes are not a whole image.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{where}: damaged image, expected a PNG, {error}; restore it or make it again") from error


def _pack(frame: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> intp (H * W,): red | green << 8 | blue << 16. Reads each pixel and one byte too many at once."""
    buffer = np.zeros(frame.size + 1, np.uint8)
    buffer[:-1] = frame.reshape(-1)
    pixels = as_strided(buffer[:4].view("<u4"), (frame.shape[0] * frame.shape[1],), (3,))
    return pixels.astype(np.intp) & 0xFFFFFF


def _palette_png(indices: np.ndarray, colours: np.ndarray) -> bytes:
    height, width = indices.shape
    depth = next(bits for bits in (1, 2, 4, 8) if len(colours) <= 1 << bits)
    a_byte = 8 // depth
    if width % a_byte:
        indices = np.pad(indices, ((0, 0), (0, -width % a_byte)))
    packed = indices[:, ::a_byte]
    for place in range(1, a_byte):
        packed = packed << depth | indices[:, place::a_byte]
    rows = np.zeros((height, packed.shape[1] + 1), np.uint8)  # the first byte of a row: no filter
    rows[:, 1:] = packed
    palette = colours.astype("<u4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), COMPRESSION_LEVEL)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _encode_rgb(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG", compress_level=COMPRESSION_LEVEL)
    return buffer.getvalue()


def decode_pngs(images: list[bytes], where: str) -> np.ndarray:
    """PNG files -> uint8 (N, H, W, 3), each decoded into its place: a long episode is a gigabyte, once.

    Raises:
        ValueError: frames of several sizes, or what is no PNG; named by `where`.
    """
    first = decode_png(images[0], where)
    frames = np.empty((len(images), *first.shape), np.uint8)
    frames[0] = first
    for index, data in enumerate(images[1:], 1):
        frame = decode_png(data, where)
        if frame.shape != first.shape:
            raise ValueError(f"{where}: frame {index} is {frame.shape}, the first is {first.shape}; record it again")
        frames[index] = frame
    return frames
