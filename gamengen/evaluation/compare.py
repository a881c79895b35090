"""Several evaluations side by side: one table, one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gamengen.durable import write_bytes
from gamengen.evaluation.figures import INTERVALS, Figure, Figures
from gamengen.evaluation.frechet import FRECHET_MEASURES
from gamengen.evaluation.horizons import marks_within, window_names
from gamengen.evaluation.next_frame import PIXEL_MEASURES
from gamengen.evaluation.page import Block, page
from gamengen.evaluation.plots import draw
from gamengen.evaluation.report import read_report
from gamengen.evaluation.rollout_section import horizon_of
from gamengen.evaluation.section import Plot, Section, Table, curve
from gamengen.evaluation.summary import table_text

CURVE = "moving_psnr_curve"
BASELINES = ("copy last frame", "copy start frame", "codec (ceiling)", "standing still")
TABLES = ("confusion",)
"""Measures whose values are neither one figure nor a row by horizon."""
MEASURED_WITH = {
    "lpips": ("lpips", "network"), "fvd16": ("fvd", "network"), "fvd32": ("fvd", "network"),
    "agent_distance": ("agent", "agent"), "agent_play": ("agent", "agent"), "speed": ("machine", "machine"),
}  # fmt: skip
"""Measure or metric -> the fingerprint that must be the same in both reports, and what that is of."""

Report = Mapping[str, Any]


def compare(folders: Sequence[Path], output: str | Path | None = None) -> str:
    """The table as text; with `output` also compare.html and compare.png in that folder.

    Raises:
        FileNotFoundError, ValueError: fewer than two reports, a missing one, or different games, splits or datasets:
            their figures do not stand beside each other.
    """
    if len(folders) < 2:
        raise ValueError(f"--compare: expected at least two evaluations, got {len(folders)}")
    names = _names(folders)
    reports, figures = zip(*(read_report(folder) for folder in folders), strict=True)
    for name, report in zip(names[1:], reports[1:], strict=True):
        for what, one, other in (
            ("dataset", reports[0]["fingerprints"]["dataset"], report["fingerprints"]["dataset"]),
            ("split", reports[0]["config"]["split"], report["config"]["split"]),
        ):
            if one != other:
                raise ValueError(
                    f"{names[0]} and {name} were measured on another {what} ({str(one)[:12]}, {str(other)[:12]}); "
                    "evaluate both on the same held-out episodes"
                )
    table = _table(names, reports, figures)
    if output is not None:
        plot = _plot(names, figures)
        section = Section("Side by side", TEXT, [table], [plot])
        png = draw(plot)
        Path(output).mkdir(parents=True, exist_ok=True)
        write_bytes(Path(output) / "compare.png", png)
        facts = {name: str(folder) for name, folder in zip(names, folders, strict=True)}
        blocks = [Block(section, {plot.title: png})]
        write_bytes(Path(output) / "compare.html", page("Evaluations side by side", facts, blocks).encode())
    return table_text(table)


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that differ: `a/eval` and `b/eval` are `a` and `b`."""
    parts = [folder.resolve().parts for folder in folders]
    different = [level for level in zip(*(reversed(part) for part in parts), strict=False) if len(set(level)) > 1]
    names = list(different[0]) if different else [str(folder) for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _table(names: Sequence[str], reports: Sequence[Report], figures: Sequence[dict[str, Figures]]) -> Table:
    """Every figure that at least two have, of those by horizon the last mark that all reach.

    What was not measured in the same way (see `_unlike`) keeps its row, with dashes and the reason.
    """
    rows: list[tuple[str, Sequence[Figure | str | None]]] = []
    for metric in dict.fromkeys(name for one in figures for name in one):
        paths = dict.fromkeys(path for one in figures for path in one.get(metric, {}))
        for path in paths:
            label, measure = path.split("/")[:2]
            if label in BASELINES or measure.endswith("_curve") or measure in TABLES:
                continue
            found = [one.get(metric, {}).get(path) for one in figures]
            if sum(figure is not None for figure in found) < 2:
                continue
            reason = _unlike(metric, measure, reports, figures, found)
            if reason:
                rows.append((f"{metric}: {path}, {reason}", [None] * len(found)))
                continue
            at, where = _last_common(metric, measure, figures, found)
            cells = [figure if figure is None or at is None else figure.at(at) for figure in found]
            if sum(cell is not None and cell.value is not None for cell in cells) >= 2:
                rows.append((f"{metric}: {path}{where}", cells))
    return Table(["figure", *names], rows, digits=3)


def _unlike(
    metric: str,
    measure: str,
    reports: Sequence[Report],
    figures: Sequence[dict[str, Figures]],
    found: Sequence[Figure | None],
) -> str:
    """Why a measure's figures may not stand side by side, such as another machine; empty where they may."""
    having = [i for i, figure in enumerate(found) if figure is not None]
    depends_on = MEASURED_WITH.get(measure) or MEASURED_WITH.get(metric)
    if depends_on is not None:
        if len({reports[i]["fingerprints"].get(depends_on[0]) for i in having}) > 1:
            return f"measured with another {depends_on[1]}"
        return ""
    single = not any(isinstance(figure.value, list) for figure in found if figure is not None)
    horizons: set[Any] = set()
    if metric == "rollouts" and single and measure not in FRECHET_MEASURES:
        horizons = {_horizon(figures[i]) for i in having}
    elif metric == "drift":
        horizons = {reports[i]["config"].get("scale", {}).get("drift_frames") for i in having}
    return f"over {' and '.join(map(str, sorted(horizons, key=str)))} frames" if len(horizons) > 1 else ""


def _last_common(
    metric: str, measure: str, figures: Sequence[dict[str, Figures]], found: Sequence[Figure | None]
) -> tuple[int | None, str]:
    """Of a row of figures by horizon: the number of the last one that all have, and its name; of others None."""
    lengths = [len(figure.value) for figure in found if figure is not None and isinstance(figure.value, list)]
    if not lengths:
        return None, ""
    if metric != "rollouts":
        return min(lengths) - 1, f", frame {min(lengths)}"
    horizons = [_horizon(one) for one, figure in zip(figures, found, strict=True) if figure is not None]
    marks = marks_within(horizons[0])
    common = [mark for mark in marks if all(mark in marks_within(horizon) for horizon in horizons)]
    last = common[-1]
    if measure in PIXEL_MEASURES:
        return len(common) - 1, f", frame {last}"
    return len(common) - 1, f", frames {f'1-{last}' if measure == 'error_to' else window_names(common)[-1]}"


def _horizon(figures: dict[str, Figures]) -> int:
    """Frames of a report's rollouts."""
    return horizon_of(figures["rollouts"])


def _plot(names: Sequence[str], figures: Sequence[dict[str, Figures]]) -> Plot:
    series = {}
    for name, one in zip(names, figures, strict=True):
        for path, figure in one.get("rollouts", {}).items():
            label, measure = path.split("/")[:2]
            if measure == CURVE and label not in BASELINES:
                series[f"{name}, {label}"] = curve(figure, range(1, len(figure.value) + 1))
    title = "Free-running rollouts: PSNR of moving pixels"
    return Plot("compare", title, "frame of the dream", "dB", series, log_x=True)


TEXT = (
    f"The same held-out episodes. {INTERVALS} Where they overlap widely the worlds may be equally good. Of figures by "
    "horizon the last mark that all evaluations reach is shown. A row of dashes was not measured in the same way: on "
    "other machines, over other lengths, or with another network."
)
