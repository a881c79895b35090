"""Where a game's objects are in each frame, also in dim, blurred or doubled dreams of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gamengen.objects.games import game_objects
from gamengen.objects.look import Floats, GameObjects, Look, likeness

CHUNK_FRAMES = 64
COPY_SHARE = 0.5
"""Of the most visible place: a second one, apart from it, that is as visible as this counts as another copy."""
FILLED_SHARE = 0.1
"""Of the fullest row: a row with less is not part of the object's extent."""
WHOLE_SHARE = 0.8
"""Of the most visible place: what is as visible counts as whole for `Look.first_from_top`."""


@dataclass(frozen=True)
class Track:
    """Where an object is in each frame."""

    y: Floats
    """(T,) centre of its visible part in native pixels (pixel n spans n to n + 1); NaN where absent."""
    x: Floats
    share: Floats
    """(T,) visible share of its full area: dim and small objects have less than 1."""
    copies: npt.NDArray[np.int64]
    """(T,) how often it is seen: 0 where absent, 2 where it is doubled (or more often)."""

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        return ~np.isnan(self.y)


def read_objects(frames: npt.NDArray[np.uint8], env_id: str, names: Collection[str] | None = None) -> dict[str, Track]:
    """Find every known object in every frame.

    Args:
        frames: uint8 (T, H, W, 3) of the whole picture, at native size or resized; dreams may be dim or blurred.
        names: only these objects.
    Raises:
        ValueError: the game is not in `GAMES`, or these are no frames.
    """
    game = game_objects(env_id)
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[-1] != 3:
        raise ValueError(f"expected uint8 frames (T, H, W, 3), got {frames.dtype} {frames.shape}")
    tracks = {}
    for name, look in game.objects.items():
        if names is not None and name not in names:
            continue
        starts = range(0, len(frames), CHUNK_FRAMES)
        parts = [_find(frames[start : start + CHUNK_FRAMES], look, game) for start in starts]
        y, x, share, copies = (np.concatenate([part[i] for part in parts] or [np.zeros(0)]) for i in range(4))
        tracks[name] = Track(y=y, x=x, share=share, copies=copies.astype(np.int64))
    return tracks


def _find(frames: npt.NDArray[np.uint8], look: Look, game: GameObjects) -> tuple[Floats, ...]:
    """The place of size `look` with the most of its colour, then the centre of mass there."""
    down, across = frames.shape[1] / game.frame_height, frames.shape[2] / game.frame_width
    left, right = _inside(look.columns, across)
    bands = [_inside(band, down) for band in look.rows]
    above = min(top for top, _ in bands)
    weights = np.zeros((len(frames), max(bottom for _, bottom in bands) - above, right - left))
    for top, bottom in bands:
        pixels = frames[:, top:bottom, left:right]
        weights[:, top - above : bottom - above] = likeness(pixels, look.colour, look.background)
    height, width = max(1, round(look.height * down)), max(1, round(look.width * across))
    # One pixel more on each side: a blurred object is wider than a sharp one.
    padded = np.pad(weights, ((0, 0), (height, height), (width, width)))
    sums = _box_sums(padded, height, width)
    y, x, share, copies = np.full((4, len(frames)), np.nan)
    for t, places in enumerate(sums):
        row, column = _place(places, look)
        first_row, first_column = max(0, row - 1), max(0, column - 1)
        patch = padded[t, first_row : row + height + 1, first_column : column + width + 1]
        mass = patch.sum()
        share[t] = mass / (down * across * look.full_area)
        copies[t] = 0
        if share[t] >= look.min_share:
            y[t] = (_centre(patch.sum(1), look.centre) + first_row - height + above) / down
            x[t] = (_centre(patch.sum(0), "mass") + first_column - width + left) / across
            alike = max(COPY_SHARE * places[row, column], look.min_share * down * across * look.full_area)
            copies[t] = 1 if look.first_from_top else 1 + _is_twice(places, row, column, height, width, alike)
    return y, x, share, copies


def _place(sums: Floats, look: Look) -> tuple[int, int]:
    """Row and column of the box that is meant, in (H, W) box sums."""
    if look.first_from_top and sums.max() > 0:
        top = int((sums >= WHOLE_SHARE * sums.max()).any(1).argmax())
        sums = sums[: top + look.height]
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(row), int(column)


def _centre(profile: Floats, kind: Literal["mass", "extent"]) -> float:
    """Of the pixels of a row or column, counted from its outer edge."""
    if kind == "mass":
        return float(profile @ (np.arange(len(profile)) + 0.5) / profile.sum())
    filled = np.flatnonzero(profile >= FILLED_SHARE * profile.max())
    return float(filled[0] + filled[-1] + 1) / 2


def _is_twice(sums: Floats, row: int, column: int, height: int, width: int, alike: float) -> bool:
    """Is there another box, with a box's margin around the first, that holds `alike` or more?"""
    apart = sums.copy()
    apart[max(0, row - 2 * height + 1) : row + 2 * height, max(0, column - 2 * width + 1) : column + 2 * width] = 0
    return bool(apart.max(initial=0.0) >= alike)


def _inside(bounds: tuple[int, int], scale: float) -> tuple[int, int]:
    """Only pixels that lie wholly inside: those on the border of a resized frame are mixed with what is outside."""
    return int(np.ceil(bounds[0] * scale - 1e-9)), int(np.floor(bounds[1] * scale + 1e-9))


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
