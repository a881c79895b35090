"""Breakout's wall read from pixels, against the console's memory and in painted pictures."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.objects import BREAKOUT, read_grids
from tests.played_games import play

BREAKOUT_ID = "ALE/Breakout-v5"
WALL = BREAKOUT.grids["bricks"]
BITS_OF_A_BRICK = 2


def follow_the_ball(memory: np.ndarray, random: np.random.Generator, t: int) -> int:
    """NOOP, FIRE, RIGHT, LEFT."""
    if memory[101] == 0:
        return 1
    offset = memory[99] - memory[72] - 8
    return 2 if offset > 3 else 3 if offset < -3 else 0


def wall_picture(missing: tuple[int, int] | None = None) -> np.ndarray:
    """uint8 (210, 160, 3): the whole wall, or without the brick at (row, column)."""
    frame = np.zeros((210, 160, 3), np.uint8)
    for row, colour in enumerate(WALL.colours):
        top = WALL.top + row * WALL.cell_height
        frame[top : top + WALL.cell_height, 8:152] = colour
    if missing is not None:
        top, left = WALL.top + missing[0] * WALL.cell_height, WALL.left + missing[1] * WALL.cell_width
        frame[top : top + WALL.cell_height, left : left + WALL.cell_width] = 0
    return frame


def test_bricks_go_when_the_memory_says_so() -> None:
    """The console keeps the wall as bits, each drawn 4 pixels wide."""
    frames, memory = play(BREAKOUT_ID, follow_the_ball, 500)
    there = read_grids(frames, BREAKOUT_ID)["bricks"] >= 0.5
    assert there.shape == (500, 6, 18)
    bits = np.unpackbits(memory[:, :36].astype(np.uint8), axis=1).sum(1).astype(int)
    gone = (bits.max() - bits) / BITS_OF_A_BRICK
    assert gone[-1] >= 5, "no brick was hit"
    same = (~there).sum((1, 2)) == gone
    assert same.mean() >= 0.97, "the picture follows the memory by a frame"


@pytest.mark.parametrize("place", [(0, 0), (3, 9), (5, 17)])
def test_a_missing_brick_is_found_where_it_is_missing(place: tuple[int, int]) -> None:
    shares = read_grids(wall_picture(place)[None], BREAKOUT_ID)["bricks"][0]
    expected = np.ones((6, 18))
    expected[place] = 0
    np.testing.assert_allclose(shares, expected, atol=1e-6)


def test_a_dim_wall_and_a_small_picture_are_read() -> None:
    dim = (wall_picture((2, 4)) * 0.7).astype(np.uint8)[None]
    assert ((read_grids(dim, BREAKOUT_ID)["bricks"] >= 0.5).sum()) == 107
    small = wall_picture((2, 4)).reshape(105, 2, 80, 2, 3).mean((1, 3)).astype(np.uint8)[None]
    assert ((read_grids(small, BREAKOUT_ID)["bricks"] >= 0.5).sum()) == 107


def test_a_ball_in_a_gap_is_no_brick_and_games_without_walls_have_none() -> None:
    frame = wall_picture((0, 5))
    frame[58:62, 50:52] = (200, 72, 72)
    assert read_grids(frame[None], BREAKOUT_ID)["bricks"][0, 0, 5] < 0.5
    assert read_grids(frame[None], "ALE/Pong-v5") == {}
    with pytest.raises(ValueError, match="expected uint8 frames"):
        read_grids(frame, BREAKOUT_ID)
