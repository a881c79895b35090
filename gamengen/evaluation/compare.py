"""Several evaluations side by side: one table, one plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gamengen.durable import write_bytes
from gamengen.evaluation.figures import Figure, Figures
from gamengen.evaluation.page import Block, page
from gamengen.evaluation.plots import draw
from gamengen.evaluation.report import read_report
from gamengen.evaluation.section import Plot, Section, Table, curve
from gamengen.evaluation.summary import table_text

CURVE = "moving_psnr_curve"
BASELINES = ("copy last frame", "copy start frame", "codec (ceiling)", "standing still")


def compare(folders: Sequence[Path], output: str | Path | None = None) -> str:
    """The table as text; with `output` also compare.html and compare.png there.

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
    table = _table(names, figures)
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


def _table(names: Sequence[str], figures: Sequence[dict[str, Figures]]) -> Table:
    """Every single figure that at least two have; of figures by horizon the last mark."""
    rows: list[tuple[str, Sequence[Figure | str | None]]] = []
    for metric in dict.fromkeys(name for one in figures for name in one):
        paths = dict.fromkeys(path for one in figures for path in one.get(metric, {}))
        for path in paths:
            if path.split("/")[0] in BASELINES or path.split("/")[1].endswith("_curve"):
                continue
            found = [_single(one.get(metric, {}).get(path)) for one in figures]
            if sum(figure is not None and figure.value is not None for figure in found) >= 2:
                rows.append((f"{metric}: {path}", found))
    return Table(["figure", *names], rows, digits=3)


def _single(figure: Figure | None) -> Figure | None:
    """The figure itself, or the last of a row of them; None for tables."""
    while figure is not None and isinstance(figure.value, list):
        if figure.value and isinstance(figure.value[-1], list):
            return None
        figure = figure.at(len(figure.value) - 1)
    return figure


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
    "The same held-out episodes. Intervals are 95 %, bootstrapped over episodes; where they overlap widely the worlds "
    "may be equally good. Of figures by horizon the last mark is shown."
)
