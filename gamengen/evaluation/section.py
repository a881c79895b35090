"""What a report is made of: sections of text, tables, plots and clips, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Figure


@dataclass(frozen=True)
class Table:
    """Rows of figures. Cells: a `Figure` (shown with its interval), a text, or None (a dash)."""

    columns: Sequence[str]
    """The first is over the rows' names."""
    rows: Sequence[tuple[str, Sequence[Figure | str | None]]]
    title: str = ""
    digits: int = 2


@dataclass(frozen=True)
class Series:
    """A line of a plot with its interval."""

    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    dashed: bool = False
    """For what a world is compared with."""


@dataclass(frozen=True)
class Plot:
    """Lines over one horizontal axis. A name alone makes the file: `<name>.png`."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Series]
    log_x: bool = False
    y_range: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class Clip:
    """Frames to look at, panel beside panel."""

    panels: Mapping[str, npt.NDArray[np.uint8]]
    """Caption -> uint8 (T, H, W, 3), all of one size; `real game` first."""
    actions: npt.NDArray[np.int64] | None = None
    """(T,) what was pressed."""


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    explanation: str
    """One paragraph: what is measured, how to read it, what it cannot tell."""
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    """What was not measured and why."""


def curve(figure: Figure, x: Sequence[float], *, dashed: bool = False) -> Series:
    """A curve's figure as a line with its interval."""
    return Series(x, figure.value, figure.low, figure.high, dashed)
