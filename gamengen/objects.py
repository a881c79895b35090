"""What a game's picture shows: where its objects are, read from pixels alone, so that dreams can be read too.

`GAMES` is open to new games: a game is a few lines that say how each object looks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]
Floats = npt.NDArray[np.float64]

MIN_BRIGHTNESS = 0.15
"""Share of the way from the background to the object's colour below which a pixel counts as background."""
MIN_COSINE = 0.95
"""A blurred pixel lies on the way from the background to the colour; another object's pixel does not.
Nearest miss: the opponent's orange paddle in Pong has 0.92 towards the ball's white."""
MAX_RESIDUE = 45.0
"""RGB distance of a pixel from that way."""
CHUNK_FRAMES = 64


@dataclass(frozen=True, kw_only=True)
class Look:
    """How an object looks, in native pixels."""

    colour: Colour
    background: Colour
    height: int
    width: int
    rows: tuple[tuple[int, int], ...]
    """Bands [top, bottom) in which it is looked for: without walls, score and what has the same colour."""
    columns: tuple[int, int]
    """[left, right)."""
    min_share: float = 0.3
    """Share of its full area that must be visible for it to be present."""


@dataclass(frozen=True, kw_only=True)
class GameObjects:
    """The objects of a game."""

    frame_height: int
    """Native picture size, in which `Look` is written and positions are given."""
    frame_width: int
    objects: dict[str, Look] = field(default_factory=dict)
    own: str = "own_paddle"
    """The object that the actions move."""
    own_axis: Literal["y", "x"] = "y"
    """The axis along which they move it."""


@dataclass(frozen=True)
class Track:
    """Where an object is in each frame."""

    y: Floats
    """(T,) centre of its visible part in native pixels (pixel n spans n to n + 1); NaN where absent."""
    x: Floats
    share: Floats
    """(T,) visible share of its full area: dim and small objects have less than 1."""

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.y)


PONG = GameObjects(
    frame_height=210,
    frame_width=160,
    objects={
        "own_paddle": Look(
            colour=(92, 186, 92), background=(144, 72, 17), height=16, width=4, rows=((34, 194),), columns=(136, 148),
            min_share=0.1,
        ),
        "enemy_paddle": Look(
            colour=(213, 130, 74), background=(144, 72, 17), height=16, width=4, rows=((34, 194),), columns=(12, 24),
            min_share=0.1,
        ),
        "ball": Look(
            colour=(236, 236, 236), background=(144, 72, 17), height=4, width=2, rows=((34, 194),), columns=(0, 160)
        ),
    },
)  # fmt: skip

BREAKOUT = GameObjects(
    frame_height=210,
    frame_width=160,
    own_axis="x",
    objects={
        "own_paddle": Look(
            colour=(200, 72, 72), background=(0, 0, 0), height=4, width=16, rows=((189, 193),), columns=(8, 152)
        ),
        # Not among the bricks (rows 57 to 92) nor beside the paddle: both have the ball's colour.
        "ball": Look(
            colour=(200, 72, 72), background=(0, 0, 0), height=4, width=2, rows=((32, 57), (93, 189)), columns=(8, 152)
        ),
    },
)

GAMES: dict[str, GameObjects] = {
    "ALE/Pong-v5": PONG,
    "PongNoFrameskip-v4": PONG,
    "ALE/Breakout-v5": BREAKOUT,
    "BreakoutNoFrameskip-v4": BREAKOUT,
}
"""Env id -> its objects."""


def read_objects(frames: npt.NDArray[np.uint8], env_id: str) -> dict[str, Track]:
    """Find every known object in every frame.

    Args:
        frames: uint8 (T, H, W, 3) of the whole picture, at native size or resized; dreams may be dim or blurred.
    Raises:
        ValueError: the game is not in `GAMES`, or these are no frames.
    """
    if env_id not in GAMES:
        raise ValueError(f"no object readers for {env_id}; known: {', '.join(GAMES)}; add it to gamengen/objects.py")
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3:
        raise ValueError(f"expected uint8 frames (T, H, W, 3), got {frames.dtype} {frames.shape}")
    game = GAMES[env_id]
    tracks = {}
    for name, look in game.objects.items():
        starts = range(0, len(frames), CHUNK_FRAMES)
        parts = [_find(frames[start : start + CHUNK_FRAMES], look, game) for start in starts]
        y, x, share = (np.concatenate([part[axis] for part in parts] or [np.zeros(0)]) for axis in range(3))
        tracks[name] = Track(y=y, x=x, share=share)
    return tracks


def _find(frames: npt.NDArray[np.uint8], look: Look, game: GameObjects) -> tuple[Floats, Floats, Floats]:
    """The place of size `look` with the most of its colour, then the centre of mass there."""
    down, across = frames.shape[1] / game.frame_height, frames.shape[2] / game.frame_width
    left, right = _inside(look.columns, across)
    weights = np.zeros((*frames.shape[:2], right - left))
    for band in look.rows:
        top, bottom = _inside(band, down)
        weights[:, top:bottom] = _likeness(frames[:, top:bottom, left:right], look)
    height, width = max(1, round(look.height * down)), max(1, round(look.width * across))
    # One pixel more on each side: a blurred object is wider than a sharp one.
    padded = np.pad(weights, ((0, 0), (height, height), (width, width)))
    sums = _box_sums(padded, height, width)
    rows, columns = np.unravel_index(sums.reshape(len(sums), -1).argmax(1), sums.shape[1:])
    y, x, share = (np.full(len(frames), np.nan) for _ in range(3))
    for t, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        first_row, first_column = max(0, row - 1), max(0, column - 1)
        patch = padded[t, first_row : row + height + 1, first_column : column + width + 1]
        mass = patch.sum()
        share[t] = mass / (down * across * look.height * look.width)
        if share[t] >= look.min_share:
            y[t] = (patch.sum(1) @ (np.arange(patch.shape[0]) + first_row - height + 0.5)) / mass / down
            x[t] = (patch.sum(0) @ (np.arange(patch.shape[1]) + first_column - width + 0.5 + left)) / mass / across
    return y, x, share


def _inside(bounds: tuple[int, int], scale: float) -> tuple[int, int]:
    """Only pixels that lie wholly inside: those on the border of a resized frame are mixed with what is outside."""
    return int(np.ceil(bounds[0] * scale - 1e-9)), int(np.floor(bounds[1] * scale + 1e-9))


def _likeness(pixels: npt.NDArray[np.uint8], look: Look) -> Floats:
    """How far each pixel is on the way from the background to the object's colour: (...) in [0, 1]."""
    way = np.array(look.colour, float) - look.background
    offset = pixels.astype(np.float32) - np.array(look.background, np.float32)
    length = float(np.sqrt(way @ way))
    along = offset @ (way / length)
    distance = np.sqrt((offset**2).sum(-1))
    residue = np.sqrt(np.maximum(distance**2 - along**2, 0))
    alike = (along >= MIN_COSINE * distance) & (residue <= MAX_RESIDUE) & (along >= MIN_BRIGHTNESS * length)
    likeness: Floats = np.where(alike, np.clip(along / length, 0, 1), 0.0)
    return likeness


def _box_sums(weights: Floats, height: int, width: int) -> Floats:
    """(T, H, W) -> (T, H - height + 1, W - width + 1)."""
    total = np.pad(weights.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    sums: Floats = (
        total[:, height:, width:]
        - total[:, :-height, width:]
        - total[:, height:, :-width]
        + total[:, :-height, :-width]
    )
    return sums
