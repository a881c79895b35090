"""The figures that a hurried reader looks at first: quality and speed in one table, and as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gamengen.evaluation.figures import INTERVALS, Figure, Figures
from gamengen.evaluation.horizons import marks_within
from gamengen.evaluation.next_frame import CODEC, COPY
from gamengen.evaluation.object_values import STILL
from gamengen.evaluation.section import Plot, Section, Series, Table
from gamengen.objects import GAMES

OWN_ERROR_FRAMES = 64


def summary_section(measured: Mapping[str, Figures], env_id: str) -> Section:
    """One row a setting, the baselines below.

    Args:
        measured: metric -> its figures; what is missing stays a dash.
        env_id: the game, for the name of the object that the actions move.
    """
    next_frame, rollouts, speed = (measured.get(name, {}) for name in ("next_frame", "rollouts", "speed"))
    labels = [
        path.split("/")[0]
        for path in next_frame
        if path.endswith("/psnr") and not path.startswith((f"{COPY}/", f"{CODEC}/"))
    ]
    own = GAMES[env_id].own if env_id in GAMES else ""
    columns = ["", "next frame, dB", "moving pixels, dB"]
    columns += [f"{own.replace('_', ' ')} off, px", "first object lost, frame"] if own else []
    columns += ["FPS, one game"]
    rows = []
    for label in (*labels, COPY, CODEC):
        still = STILL if label == COPY else label
        objects = [_own_error(rollouts, still, own), rollouts.get(f"{label}/first_lost")] if own else []
        cells = [next_frame.get(f"{label}/psnr"), next_frame.get(f"{label}/moving_psnr"), *objects]
        if any(cell is not None for cell in cells):
            rows.append((label, [*cells, speed.get(f"{label}/fps")]))
    tables = [Table(columns, rows)] if rows else []
    plot = _quality_and_speed(next_frame, speed, labels)
    return Section("Summary", _text(own, rollouts), tables, [] if plot is None else [plot])


def table_text(table: Table) -> str:
    """A table for the terminal: values with the half width of their interval."""
    cells = [list(table.columns)]
    cells += [[name, *(cell_text(cell, table.digits) for cell in row)] for name, row in table.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [table.title] if table.title else []
    for first, *others in cells:
        words = [first.ljust(widths[0]), *(c.rjust(width) for c, width in zip(others, widths[1:], strict=True))]
        lines.append("  ".join(words).rstrip())
    return "\n".join(lines)


def cell_text(cell: Figure | str | None, digits: int) -> str:
    """`24.13 [23.70, 24.61]`; the value alone where there is no interval; a dash for nothing."""
    if cell is None or isinstance(cell, str):
        return cell or "-"
    if cell.value is None:
        return "-"
    interval = "" if cell.low is None else f" [{cell.low:.{digits}f}, {cell.high:.{digits}f}]"
    return f"{cell.value:.{digits}f}{interval}"


def _own_error(rollouts: Figures, label: str, own: str) -> Figure | None:
    figure = rollouts.get(f"{label}/error_to/{own}")
    if figure is None:
        return None
    return figure.at(len(_marks(rollouts, own)) - 1)


def _marks(rollouts: Figures, own: str) -> list[int]:
    """Those of the rollouts, up to `OWN_ERROR_FRAMES`; none without rollouts of this game."""
    curves = (figure for path, figure in rollouts.items() if path.endswith(f"/error_curve/{own}"))
    horizon = next((len(figure.value) for figure in curves), 0)
    return [mark for mark in marks_within(horizon) if 0 < mark <= OWN_ERROR_FRAMES]


def _quality_and_speed(next_frame: Figures, speed: Figures, labels: Sequence[str]) -> Plot | None:
    both = [label for label in labels if f"{label}/fps" in speed]
    if len(both) < 2:
        return None
    series = {}
    for label in both:
        quality, fps = next_frame[f"{label}/moving_psnr"], speed[f"{label}/fps"]
        series[label] = Series([fps.value], [quality.value], [quality.low], [quality.high])
    title = "Quality against speed"
    return Plot("quality_speed", title, "frames a second, one game", "next frame, moving pixels, dB", series)


def _text(own: str, rollouts: Figures) -> str:
    text = (
        f"{INTERVALS} A world is worth playing when it beats copying the last frame by far, keeps its objects and "
        "obeys; the sections below tell each of these apart."
    )
    if own and (marks := _marks(rollouts, own)):
        text += (
            f" `{own.replace('_', ' ')} off`: mean distance of what the actions move from where the recording has it, "
            f"over the first {marks[-1]} frames of rollouts with the recorded actions."
        )
    return text
