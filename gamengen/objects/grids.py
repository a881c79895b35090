"""Which cells of a grid, such as the bricks of a wall, are there in each frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gamengen.objects.games import game_objects
from gamengen.objects.look import Floats, GameObjects, Grid, likeness


def read_grids(frames: npt.NDArray[np.uint8], env_id: str) -> dict[str, Floats]:
    """The grids of a game in every frame.

    Args:
        frames: uint8 (T, H, W, 3) of the whole picture, at native size or resized; dreams may be dim or blurred.
    Returns:
        Name -> (T, rows, columns) visible share of each cell, in [0, 1]; empty for a game without grids.
    Raises:
        ValueError: the game is not in `GAMES`, or these are no frames.
    """
    game = game_objects(env_id)
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3:
        raise ValueError(f"expected uint8 frames (T, H, W, 3), got {frames.dtype} {frames.shape}")
    return {name: _read(frames, grid, game) for name, grid in game.grids.items()}


def _read(frames: npt.NDArray[np.uint8], grid: Grid, game: GameObjects) -> Floats:
    down, across = frames.shape[1] / game.frame_height, frames.shape[2] / game.frame_width
    columns = [_pixels(grid.left + i * grid.cell_width, grid.cell_width, across) for i in range(grid.columns)]
    shares = np.zeros((len(frames), len(grid.colours), grid.columns))
    for row, colour in enumerate(grid.colours):
        top, bottom = _pixels(grid.top + row * grid.cell_height, grid.cell_height, down)
        shown = likeness(frames[:, top:bottom], colour, grid.background).mean(1)
        for column, (left, right) in enumerate(columns):
            shares[:, row, column] = shown[:, left:right].mean(1)
    return shares


def _pixels(first: int, size: int, scale: float) -> tuple[int, int]:
    """[first, end) of the pixels of a picture of another size whose middles lie inside; at least one."""
    start = round(first * scale)
    return start, max(start + 1, round((first + size) * scale))
