"""Frames to something to look at: panels with captions, pressed keys, GIF, WebP, MP4. Same frames, same bytes."""

from __future__ import annotations

import fractions
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from gamengen.contract import GameContract
from gamengen.durable import write_file

Frames = npt.NDArray[np.uint8]
"""uint8 RGB (T, H, W, 3)."""

STRIP_HEIGHT = 15  # Pillow's own bitmap font is 11 pixels high
CHARACTER_WIDTH = 6
GAP = 4
INK, PAPER, KEY_UP = (235, 235, 235), (24, 24, 28), (72, 72, 80)
MAX_GIF_FPS = 50  # browsers play a delay under 2/100 s as 10/100 s
MAX_COLOURS = 256
EXACT_COLOURS = 64
KEY_SYMBOLS = {"ArrowLeft": "<", "ArrowUp": "^", "ArrowDown": "v", "ArrowRight": ">", " ": "space"}


def upscale(frames: Frames, scale: int) -> Frames:
    """Every pixel becomes a square of `scale` pixels: uint8 (T, H, W, 3) -> (T, scale * H, scale * W, 3)."""
    _check(frames)
    if scale < 1:
        raise ValueError(f"scale: expected a whole number from 1 up, got {scale}")
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def caption(frames: Frames, text: str) -> Frames:
    """A line of text above: (T, H, W, 3) -> (T, H + 15, W, 3). Text that does not fit is cut."""
    _check(frames)
    strip = _strip(frames.shape[2], [(2, text, None)])
    return np.concatenate([np.broadcast_to(strip, (len(frames), *strip.shape)), frames], axis=1)


def side_by_side(panels: Mapping[str, Frames]) -> Frames:
    """Clips of one length and height beside each other, each under its name, such as `real game` and `dream`."""
    return _beside([caption(frames, text) for text, frames in panels.items()])


def grid(clips: Sequence[Frames], columns: int) -> Frames:
    """Clips of one size, row by row; a shorter one stands still at its end, empty places are dark."""
    if not clips or columns < 1:
        raise ValueError(f"grid: expected clips and at least one column, got {len(clips)} clips, {columns} columns")
    length = max(len(clip) for clip in clips)
    places = [np.concatenate([clip, clip[-1:].repeat(length - len(clip), axis=0)]) for clip in clips]
    empty = np.broadcast_to(np.array(PAPER, np.uint8), places[0].shape)
    places += [empty] * (-len(places) % min(columns, len(places)))
    rows = [_beside(places[start : start + columns]) for start in range(0, len(places), columns)]
    gap = np.broadcast_to(np.array(PAPER, np.uint8), (length, GAP, rows[0].shape[2], 3))
    return np.concatenate([part for row in rows for part in (gap, row)][1:], axis=1)


def draw_actions(frames: Frames, actions: Sequence[int] | npt.NDArray[np.int64], game: GameContract) -> Frames:
    """The game's keys below the frames, the pressed ones lit, and the action's name.

    Args:
        frames: uint8 (T, H, W, 3).
        actions: (T,) action ids: the one that each frame answers to; -1 where there is none.
    Returns:
        (T, H + 15, W, 3).
    Raises:
        ValueError: another number of actions than frames, or an id outside the table.
    """
    _check(frames)
    if len(actions) != len(frames):
        raise ValueError(f"draw_actions: expected {len(frames)} actions, one a frame (-1 for none), got {len(actions)}")
    used = {key: None for action in game.actions for key in action.keys}
    keys = [key for key in KEY_SYMBOLS if key in used] + [key for key in used if key not in KEY_SYMBOLS]
    strips = {}
    for action in {int(a) for a in actions}:
        if not -1 <= action < game.num_actions:
            raise ValueError(f"draw_actions: action {action} is not in the table of {game.env_id}")
        pressed = game.actions[action].keys if action >= 0 else ()
        words: list[tuple[int, str, bool | None]] = []
        left = 2
        for key in keys:
            symbol = KEY_SYMBOLS.get(key, key.removeprefix("Key"))
            words.append((left, symbol, key in pressed))
            left += CHARACTER_WIDTH * len(symbol) + 8
        words.append((left, game.actions[action].meaning if action >= 0 else "", None))
        strips[action] = _strip(frames.shape[2], words)
    return np.concatenate([frames, np.stack([strips[int(action)] for action in actions])], axis=1)


def write_animation(path: str | Path, frames: Frames, fps: float) -> Path:
    """Write an animation; the suffix says which kind.

    `.webp` is lossless. `.gif` is exact up to 256 colours in the whole clip, else its rare colours are rounded;
    its delays are hundredths of a second that add up to the right length, and above 50 frames a second, which no
    browser plays, it has every second frame (or third, ...). `.mp4` (H.264) needs PyAV.

    Args:
        frames: uint8 (T, H, W, 3).
        fps: frames a second.
    Returns:
        The path. Equal frames give equal bytes.
    Raises:
        ValueError: unknown suffix, or frames or fps that the format does not take.
        ImportError: MP4 without PyAV.
    """
    path = Path(path)
    _check(frames)
    if len(frames) == 0 or not fps > 0:
        raise ValueError(f"{path}: expected at least one frame and fps above 0, got {len(frames)} frames, {fps} fps")
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, lambda file: WRITERS[path.suffix](file, frames, fps))
    return path


def check_suffix(path: str | Path) -> None:
    """Raise ValueError for a suffix that `write_animation` does not know: better before the frames are made."""
    if Path(path).suffix not in WRITERS:
        known = ", ".join(sorted(WRITERS))
        raise ValueError(f"{path}: unknown suffix {Path(path).suffix!r}; expected one of: {known}")


def write_image(path: str | Path, frame: npt.NDArray[np.uint8]) -> Path:
    """One frame uint8 (H, W, 3) as PNG."""
    _check(frame[None])
    write_file(path, lambda file: Image.fromarray(frame).save(file, "PNG"))
    return Path(path)


def write_raw_frames(path: str | Path, frames: Frames, **columns: npt.NDArray[np.generic]) -> Path:
    """The frames themselves as compressed `.npz` (array `frames`, and what else is given, such as `actions`)."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path}: raw frames are written as .npz, got suffix {path.suffix!r}")
    arrays: dict[str, npt.NDArray[np.generic]] = {"frames": frames, **columns}
    write_file(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
    return path


def _check(frames: Frames) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"expected uint8 frames (T, H, W, 3), got {frames.dtype} {frames.shape}")


def _beside(clips: Sequence[Frames]) -> Frames:
    shapes = {(len(clip), clip.shape[1]) for clip in clips}
    if len(shapes) != 1:
        raise ValueError(f"expected clips of one length and height, got (length, height) {sorted(shapes)}")
    length, height = shapes.pop()
    gap = np.broadcast_to(np.array(PAPER, np.uint8), (length, height, GAP, 3))
    return np.concatenate([part for clip in clips for part in (gap, clip)][1:], axis=2)


def _strip(width: int, words: Sequence[tuple[int, str, bool | None]]) -> npt.NDArray[np.uint8]:
    """A line of words at their left edges; True and False are keys, pressed and not, None is plain text."""
    image = Image.new("RGB", (width, STRIP_HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default_imagefont()  # a bitmap: the same pixels on every machine
    for left, text, pressed in words:
        if pressed is not None:
            box = (left, 1, left + CHARACTER_WIDTH * len(text) + 4, STRIP_HEIGHT - 2)
            draw.rectangle(box, fill=INK if pressed else KEY_UP)
        shift = 3 if pressed is not None else 0
        draw.text((left + shift, 2), text, font=font, fill=PAPER if pressed else INK)
    return np.asarray(image)


def _write_gif(file: IO[bytes], frames: Frames, fps: float) -> None:
    every = math.ceil(fps / MAX_GIF_FPS)
    frames, fps = frames[::every], fps / every
    indices, palette = _to_palette(frames)
    images = []
    for plane in indices:
        image = Image.fromarray(plane, "P")
        image.putpalette(palette.tobytes())
        images.append(image)
    durations = [10 * delay for delay in _delays(len(frames), fps, per_second=100)]
    images[0].save(
        file, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False, disposal=1
    )


def _write_webp(file: IO[bytes], frames: Frames, fps: float) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    durations = _delays(len(frames), fps, per_second=1000)
    images[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        lossless=True,
        method=0,
        quality=20,
    )


def _write_mp4(file: IO[bytes], frames: Frames, fps: float) -> None:
    try:
        import av
    except ImportError as error:
        raise ImportError('MP4 needs PyAV: pip install "gamengen[video]"; or write .gif or .webp') from error
    # H.264 halves the colour planes: both sides must be even.
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    with av.open(file, "w", format="mp4", container_options={"fflags": "+bitexact"}) as container:
        rate = fractions.Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "14", "preset": "medium"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # the bytes depend on it
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))


WRITERS: dict[str, Callable[[IO[bytes], Frames, float], None]] = {
    ".gif": _write_gif,
    ".webp": _write_webp,
    ".mp4": _write_mp4,
}


def _delays(count: int, fps: float, per_second: int) -> list[int]:
    """Whole delays whose sums stay within half a unit of the true time."""
    times = np.round(np.arange(count + 1) * per_second / fps).astype(int)
    return [int(delay) for delay in np.diff(times)]


def _to_palette(frames: Frames) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Indices uint8 (T, H, W) and one palette uint8 (256, 3) for the whole clip; exact up to 256 colours."""
    codes = frames.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    counts = np.zeros(1 << 24, np.uint32)
    for plane in codes:
        colours, number = np.unique(plane, return_counts=True)
        counts[colours] += number.astype(np.uint32)
    used = np.flatnonzero(counts)
    colours = np.stack([used >> 16, used >> 8 & 255, used & 255], axis=1).astype(np.uint8)
    chosen = colours if len(used) <= MAX_COLOURS else _choose_colours(colours, counts[used])
    nearest = np.zeros(1 << 24, np.uint8)
    for start in range(0, len(used), 1 << 14):
        distance = chosen.astype(np.int32)[None] - colours[start : start + (1 << 14), None].astype(np.int32)
        nearest[used[start : start + (1 << 14)]] = (distance**2).sum(-1).argmin(-1)
    palette = np.zeros((MAX_COLOURS, 3), np.uint8)
    palette[: len(chosen)] = chosen
    return nearest[codes], palette


def _choose_colours(colours: npt.NDArray[np.uint8], counts: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
    """256 colours for more: the most frequent ones as they are, the others by median cut.

    Counts weigh by their square root only, else the few pixels of a ball would get no colour of their own.
    """
    order = np.argsort(-counts.astype(np.int64), kind="stable")
    exact, others = order[:EXACT_COLOURS], order[EXACT_COLOURS:]
    weights = np.ceil(np.sqrt(counts[others])).astype(int)
    sample = Image.fromarray(colours[others].repeat(weights, axis=0)[None])
    cut = sample.quantize(MAX_COLOURS - EXACT_COLOURS, Image.Quantize.MEDIANCUT).getpalette() or []
    rounded = np.array(cut, np.uint8).reshape(-1, 3)[: MAX_COLOURS - EXACT_COLOURS]
    return np.concatenate([colours[exact], rounded])
