"""What the numbers on the screen say, digit by digit; a number that cannot be read with confidence is not guessed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gamengen.objects.games import game_objects
from gamengen.objects.look import Floats, GameObjects, Number, likeness

MAX_BLANK = 0.08
"""Mean brightness of a cell, up to which it is blank; Pong's 1 has 0.33, Activision's 0.38."""
MIN_CORRELATION = 0.75
"""With the nearest digit, below which a cell is unreadable; a dim picture correlates as well as a bright one."""
MIN_MARGIN = 0.03
"""By how much the next digit must correlate less: between 6 and 8 of Pong it is 0.1."""


def read_numbers(frames: npt.NDArray[np.uint8], env_id: str) -> dict[str, Floats]:
    """The numbers of a game in every frame.

    Args:
        frames: uint8 (T, H, W, 3) of the whole picture, at native size; in a smaller one digits may be unreadable.
    Returns:
        Name -> (T,) whole numbers, NaN where unreadable (blurred, half gone, or not shown).
    Raises:
        ValueError: the game is not in `GAMES`, or these are no frames.
    """
    game = game_objects(env_id)
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3:
        raise ValueError(f"expected uint8 frames (T, H, W, 3), got {frames.dtype} {frames.shape}")
    return {name: _read(frames, number, game) for name, number in game.numbers.items()}


def _read(frames: npt.NDArray[np.uint8], number: Number, game: GameObjects) -> Floats:
    value = np.zeros(len(frames))
    begun = np.zeros(len(frames), bool)
    for left in number.lefts:
        digit, is_blank = _digit(frames, number, left, game)
        value = 10 * value + np.where(is_blank, np.where(begun, np.nan, 0.0), digit)
        begun |= ~is_blank
    value[~begun] = np.nan
    return value


def _digit(
    frames: npt.NDArray[np.uint8], number: Number, left: int, game: GameObjects
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """The digit in a cell (NaN where unreadable), and whether the cell is blank."""
    height, width = number.font.glyphs.shape[1:]
    rows = _nearest(number.top, height, game.frame_height, frames.shape[1])
    columns = _nearest(left, width, game.frame_width, frames.shape[2])
    shown = likeness(frames[:, rows][:, :, columns], number.colour, number.background)
    is_blank = shown.mean((1, 2)) <= MAX_BLANK
    correlations = _centred(shown) @ _centred(number.font.glyphs.astype(np.float64)).T
    second, first = np.partition(correlations, -2, axis=1)[:, -2:].T
    readable = (first >= MIN_CORRELATION) & (first - second >= MIN_MARGIN)
    return np.where(readable & ~is_blank, correlations.argmax(1), np.nan), is_blank


def _centred(cells: Floats) -> Floats:
    """(N, h, w) -> (N, h * w) of mean 0 and length 1; what is the same everywhere becomes 0."""
    flat = cells.reshape(len(cells), -1) - cells.mean((1, 2))[:, None]
    length = np.sqrt((flat**2).sum(1, keepdims=True))
    unit: Floats = flat / np.maximum(length, 1e-6)
    return unit


def _nearest(first: int, count: int, native: int, size: int) -> npt.NDArray[np.int64]:
    """For native rows (or columns), those of a picture of another size that show them."""
    centres = (np.arange(first, first + count) + 0.5) * size / native
    return np.minimum(centres.astype(np.int64), size - 1)
