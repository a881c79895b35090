"""What an evaluation leaves behind: report.json, report.html and the plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gamengen.durable import read_json, write_bytes, write_json
from gamengen.evaluation.budget import Budget
from gamengen.evaluation.clips import show
from gamengen.evaluation.figures import Figure, Figures
from gamengen.evaluation.metric import Metric
from gamengen.evaluation.page import Block, page
from gamengen.evaluation.plots import draw
from gamengen.evaluation.run import Measured
from gamengen.evaluation.section import Section
from gamengen.evaluation.study import Study
from gamengen.evaluation.summary import summary_section

REPORT_FILE, PAGE_FILE, PLOT_FOLDER = "report.json", "report.html", "plots"
FORMAT_VERSION = 1


def write_report(
    folder: str | Path,
    study: Study,
    metrics: Sequence[Metric],
    measured: Mapping[str, Measured],
    facts: Mapping[str, str],
    record: Mapping[str, Any],
    *,
    clip_minutes: float | None = None,
) -> dict[str, Any]:
    """Write all three and give back what report.json holds.

    Args:
        facts: for the head of the page: name -> value.
        record: JSON values that belong to the run: config, seeds, fingerprints, versions.
        clip_minutes: for dreaming the best, median and worst samples again to show them; 0 shows none, None all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    report = {"format_version": FORMAT_VERSION, **record, "metrics": to_json(measured)}
    write_json(folder / REPORT_FILE, report)
    figures = {name: one.figures for name, one in measured.items()}
    summary = summary_section(figures, study.game.env_id)
    summary = replace(summary, notes=tuple(shortened(measured)))
    blocks = [Block(summary, _plots(folder, summary))]
    clip_budget = None if clip_minutes == 0 else Budget(clip_minutes)
    # One game is dreamt again at a time: in a world of one slot where there is one.
    alone = replace(study, world=study.play_world or study.world)
    for metric in metrics:
        one = measured[metric.name]
        if one.missing is not None:
            text = "Not measured."
            blocks.append(Block(Section(_title(metric.name), text, notes=[f"Not measured: {one.missing}"])))
            continue
        sections = metric.sections(one.figures)
        clips = [] if clip_budget is None else list(show(metric, alone, one.samples, clip_budget))
        for number, section in enumerate(sections):
            blocks.append(Block(section, _plots(folder, section), clips if number == len(sections) - 1 else ()))
    title = f"{study.game.env_id}: how good is the dream?"
    write_bytes(folder / PAGE_FILE, page(title, facts, blocks).encode())
    return report


def to_json(measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Metric -> its figures and how much of it was measured."""
    return {
        name: {
            "missing": one.missing,
            "parts_done": one.parts_done,
            "parts_planned": one.parts_planned,
            "samples": len(one.samples),
            "figures": {path: asdict(figure) for path, figure in one.figures.items()},
        }
        for name, one in measured.items()
    }


def read_report(folder: str | Path) -> tuple[dict[str, Any], dict[str, Figures]]:
    """report.json of an evaluation's folder, and its figures by metric.

    Raises:
        FileNotFoundError, ValueError: missing, damaged or of another version, by name.
    """
    path = Path(folder) / REPORT_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected the output folder of an evaluation")
    report = read_json(path)
    if not isinstance(report, dict) or report.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path}: expected a report of format version {FORMAT_VERSION}; evaluate again")
    figures = {
        name: {key: Figure(**values) for key, values in metric["figures"].items()}
        for name, metric in report["metrics"].items()
    }
    return report, figures


def shortened(measured: Mapping[str, Measured]) -> list[str]:
    """A sentence for every metric that the time did not suffice for, and for those that took more than theirs."""
    sentences = []
    for name, one in measured.items():
        if one.parts_done < one.parts_planned:
            starts = f"{len(one.samples)} start{'' if len(one.samples) == 1 else 's'}"
            sentences.append(
                f"{_title(name)}: the time was over after {one.parts_done} of {one.parts_planned} parts, so it stands "
                f"on {starts}; the same command with more --max_minutes goes on from here."
            )
        if one.seconds_over >= 1:
            sentences.append(
                f"{_title(name)}: ended {one.seconds_over:.0f} s after its share of the time; the first part is always "
                "measured, and one that was begun is ended."
            )
    return sentences


def _plots(folder: Path, section: Section) -> dict[str, bytes]:
    drawn = {}
    for plot in section.plots:
        (folder / PLOT_FOLDER).mkdir(exist_ok=True)
        drawn[plot.title] = draw(plot)
        write_bytes(folder / PLOT_FOLDER / f"{plot.name}.png", drawn[plot.title])
    return drawn


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
