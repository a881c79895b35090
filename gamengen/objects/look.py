"""How objects and numbers look: what a game's table is made of, in native pixels."""

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
Nearest misses: the opponent's orange paddle in Pong has 0.92 towards the ball's white, the yellow car in Freeway 0.947
towards the chickens'."""
MAX_RESIDUE = 45.0
"""RGB distance of a pixel from that way."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How an object looks, in native pixels."""

    colour: Colour
    background: Colour
    height: int
    """Of the box that holds it; for one that changes its shape, of the part that does not."""
    width: int
    rows: tuple[tuple[int, int], ...]
    """Bands [top, bottom) in which it is looked for: without walls, score and what has the same colour."""
    columns: tuple[int, int]
    """[left, right)."""
    area: int = 0
    """Pixels of the whole object in its box; 0: all of the box."""
    min_share: float = 0.3
    """Share of its area that must be visible for it to be present."""
    centre: Literal["mass", "extent"] = "mass"
    """Vertically: of its pixels, or between the first and the last row that they fill, for one that moves its arms."""
    resolution: float = 1.0
    """Pixels by which its place may be off in a sharp picture, because its shape changes."""
    first_from_top: bool = False
    """There are several: the uppermost that is wholly visible is meant, else the one most visible."""

    @property
    def full_area(self) -> int:
        """Pixels of the whole object."""
        return self.area or self.height * self.width


@dataclass(frozen=True)
class Font:
    """Digits 0 to 9."""

    glyphs: npt.NDArray[np.bool_]
    """(10, h, w), a pixel a cell."""

    @classmethod
    def drawn(cls, picture: str, *, block_height: int = 1, block_width: int = 1) -> Font:
        """From ten digits drawn side by side with `#` and `.`, each character a block of pixels."""
        rows = [line.split() for line in picture.split("\n") if line.strip()]
        glyphs = np.array([[[mark == "#" for mark in row[digit]] for row in rows] for digit in range(10)])
        return cls(glyphs.repeat(block_height, axis=1).repeat(block_width, axis=2))


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number on the screen, right-aligned in cells that stand still."""

    colour: Colour
    background: Colour
    top: int
    """First row of its digits."""
    lefts: tuple[int, ...]
    """First column of each cell, from left to right."""
    font: Font


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Cells that stand still and are each there or not, such as the bricks of a wall."""

    colours: tuple[Colour, ...]
    """Of each row, from the top."""
    background: Colour
    worth: tuple[int, ...]
    """By how much `score` rises when a cell of each row goes."""
    columns: int
    top: int
    left: int
    cell_height: int
    cell_width: int


@dataclass(frozen=True)
class Paddle:
    """From where the ball comes to an object that throws it back."""

    axis: Literal["y", "x"]
    side: Literal[-1, 1]
    """1: the ball comes towards greater y (or x)."""


@dataclass(frozen=True, kw_only=True)
class GameObjects:
    """The objects and numbers of a game."""

    frame_height: int
    """Native picture size, in which all is written and positions are given."""
    frame_width: int
    objects: dict[str, Look] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    """`score`, and what else the game counts."""
    grids: dict[str, Grid] = field(default_factory=dict)
    paddles: dict[str, Paddle] = field(default_factory=dict)
    """Objects, by their names, off which the object `ball` bounces."""
    own: str = "own_paddle"
    """The object that the actions move."""
    own_axis: Literal["y", "x"] | None = "y"
    """The axis along which they move it; None: both."""
    moves: tuple[str, str] | None = None
    """Meanings of the actions that move it towards smaller and towards greater y (or x); None: there is more to it."""
    serve: str = "NOOP"
    """Meaning of the action that brings a ball."""


def likeness(pixels: npt.NDArray[np.uint8], colour: Colour, background: Colour) -> Floats:
    """How far each pixel (..., 3) is on the way from the background to the colour: (...) in [0, 1]."""
    way = np.array(colour, np.float32) - np.array(background, np.float32)
    offset = pixels.astype(np.float32) - np.array(background, np.float32)
    length = np.sqrt(way @ way)
    along = offset @ (way / length)
    found = np.zeros(along.shape)
    bright = along >= MIN_BRIGHTNESS * length  # few pixels: the rest need no second look
    distance, way_along = (offset[bright] ** 2).sum(-1), along[bright]
    alike = (way_along >= MIN_COSINE * np.sqrt(distance)) & (distance - way_along**2 <= MAX_RESIDUE**2)
    found[bright] = np.where(alike, np.clip(way_along / length, 0, 1), 0.0)
    return found
