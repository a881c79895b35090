"""Plots as PNG, all drawn in one style."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from gamengen.evaluation.section import Plot, Series

COLOURS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#65a30d")
BOUND_COLOURS = ("#64748b", "#94a3b8", "#475569")
"""Of what a world is compared with."""
SIZE_INCHES, DPI = (5.6, 3.3), 130


def draw(plot: Plot) -> bytes:
    """A PNG file.

    Raises:
        ImportError: without matplotlib, and says how to install it.
    """
    figure, axes = _figure()
    colours, bounds = iter(COLOURS * 4), iter(BOUND_COLOURS * 4)
    for name, series in plot.series.items():
        _line(axes, name, series, next(bounds) if series.dashed else next(colours))
    axes.set_title(plot.title, fontsize=11, loc="left", fontweight="bold", color="#0f172a")
    axes.set_xlabel(plot.x_label, fontsize=9)
    axes.set_ylabel(plot.y_label, fontsize=9)
    if plot.log_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(*plot.y_range)
    axes.legend(fontsize=8, frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "gamengen[eval]"') from error
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color="#e2e8f0", linewidth=0.8)
    axes.tick_params(labelsize=8)
    axes.set_axisbelow(True)
    return figure, axes


def _line(axes: Any, name: str, series: Series, colour: str) -> None:
    """Where a value is unknown the line has no point; a single point is a marker with its interval."""
    y = np.array(series.y, np.float64)
    known = np.isfinite(y)
    x = np.array(series.x, np.float64)[known]
    style = {"linestyle": "--", "linewidth": 1.2} if series.dashed else {"linewidth": 1.8}
    few = known.sum() <= 8
    axes.plot(x, y[known], color=colour, label=name, marker="o" if few else None, markersize=4, **style)
    if series.low is None or series.high is None:
        return
    low, high = (np.array(side, np.float64)[known] for side in (series.low, series.high))
    if len(x) == 1:
        axes.vlines(x, low, high, color=colour, linewidth=1.2)
    else:
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
