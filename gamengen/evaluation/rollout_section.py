"""What the report shows of free-running rollouts: pixels by horizon, and distances between distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gamengen.evaluation.figures import Figures, Measure
from gamengen.evaluation.frechet import FRECHET_MEASURES
from gamengen.evaluation.horizons import marks_within
from gamengen.evaluation.next_frame import PIXEL_MEASURES
from gamengen.evaluation.section import Plot, Section, Series, Table, curve


def horizon_of(figures: Figures) -> int:
    """Frames of the rollouts that these figures were made of."""
    return len(next(figure.value for path, figure in figures.items() if path.endswith("/psnr_curve")))


def rollout_section(
    figures: Figures, labels: Sequence[str], measures: Mapping[str, Measure], not_measured: Sequence[str]
) -> Section:
    """Tables at the marks, curves over all frames.

    Args:
        labels: the settings'; the baselines are what else the figures hold.
        not_measured: notes.
    """
    horizon = horizon_of(figures)
    marks = marks_within(horizon)
    found = dict.fromkeys(path.split("/")[0] for path in figures if path.split("/")[1] in PIXEL_MEASURES)
    everyone = [*(label for label in labels if label in found), *(label for label in found if label not in labels)]
    tables = [
        Table(
            ["frame", *(str(mark) for mark in marks)],
            [
                (label, [figures[f"{label}/{name}"].at(i) for i in range(len(marks))])
                for label in everyone
                if f"{label}/{name}" in figures
            ],
            title=f"{measure.title}{', ' + measure.unit if measure.unit else ''}",
            digits=measure.digits,
        )
        for name, measure in ((name, measures[name]) for name in PIXEL_MEASURES)
        if any(path.split("/")[1] == name for path in figures)
    ]
    frechet = [name for name in FRECHET_MEASURES if any(path.split("/")[1] == name for path in figures)]
    if frechet:
        rows = [(label, [figures.get(f"{label}/{name}") for name in frechet]) for label in labels]
        tables.append(Table(["", *(measures[name].title for name in frechet)], rows, title="Distributions of clips"))
    plots = [_curves(figures, name, measures[f"{name}_curve"], everyone, labels) for name in ("psnr", "moving_psnr")]
    return Section("Free-running rollouts", ROLLOUT_TEXT, tables, plots, tuple(not_measured))


def _curves(figures: Figures, name: str, measure: Measure, everyone: Sequence[str], labels: Sequence[str]) -> Plot:
    series: dict[str, Series] = {}
    for label in everyone:
        path = f"{label}/{name}_curve"
        marks = marks_within(horizon_of(figures))
        if path in figures:
            frames = list(range(1, len(figures[path].value) + 1))
            series[label] = curve(figures[path], frames, dashed=label not in labels)
        elif f"{label}/{name}" in figures:
            series[label] = curve(figures[f"{label}/{name}"], marks, dashed=True)
    return Plot(f"rollout_{name}", f"{measure.title} of rollouts", "frame of the dream", "dB", series, log_x=True)


ROLLOUT_TEXT = (
    "The world sees real frames once and then only its own, under the actions that the recorded player chose. Frame 1 "
    "is the first dreamt one. A game with chance in it, or a small error in time, moves objects away from where the "
    "recording has them: the figures fall although the dream may still be a good game, so read them beside the objects "
    "and the control figures. The dashed lines are the last real frame shown for ever and the codec's reconstruction "
    "of the real frames."
)
