"""What the report shows of objects and numbers: presence and place by horizon, survival, and how the score counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gamengen.evaluation.figures import Figure, Figures, Measure
from gamengen.evaluation.horizons import marks_within, window_names
from gamengen.evaluation.object_values import CHANGE_FRAMES, LOST_FRAMES, SEEN_SHARE, STILL
from gamengen.evaluation.section import Plot, Section, Table, curve

BY_WINDOW = ("recall", "precision", "error", "doubled", "visible")
NUMBER_MEASURES = ("readable", "right", "change_recall", "change_precision")
MAX_PLOTTED = 4
"""Objects that get a plot of their own: ten cars look alike."""


def object_section(figures: Figures, labels: Sequence[str], measures: Mapping[str, Measure]) -> Section | None:
    """None where no figure tells of objects."""
    objects = _third_words(figures, "recall")
    if not objects:
        return None
    label = labels[-1]
    marks = marks_within(len(figures[f"{label}/recall_curve/{objects[0]}"].value))
    tables = [_lost_table(figures, labels, measures)]
    tables += [_table(figures, [*labels, STILL], objects, name, measures[name], marks) for name in BY_WINDOW]
    numbers = _third_words(figures, "readable")
    if numbers:
        tables.append(
            Table(
                ["number", *(measures[name].title for name in NUMBER_MEASURES)],
                [
                    (f"{number}, {one}", [figures.get(f"{one}/{name}/{number}") for name in NUMBER_MEASURES])
                    for number in numbers
                    for one in labels
                ],
                title="Numbers on the screen, over the whole rollout",
                digits=3,
            )
        )
    return Section("Objects", OBJECT_TEXT, tables, _plots(figures, labels, objects, measures))


def _lost_table(figures: Figures, labels: Sequence[str], measures: Mapping[str, Measure]) -> Table:
    measure = measures["first_lost"]
    rows = [(label, [figures.get(f"{label}/first_lost")]) for label in labels]
    horizon = len(figures[f"{labels[-1]}/kept_curve"].value)
    return Table(["", f"{measure.title} (at most {horizon})"], rows, digits=measure.digits)


def _table(
    figures: Figures, labels: Sequence[str], objects: Sequence[str], name: str, measure: Measure, marks: Sequence[int]
) -> Table:
    rows: list[tuple[str, Sequence[Figure | str | None]]] = [
        (f"{thing}, {label}", [figures[f"{label}/{name}/{thing}"].at(i) for i in range(len(marks))])
        for thing in objects
        for label in labels
        if f"{label}/{name}/{thing}" in figures
    ]
    title = f"{measure.title.capitalize()}{', ' + measure.unit if measure.unit else ''}, by frames of the dream"
    return Table(["frames", *window_names(marks)], rows, title=title, digits=measure.digits)


def _plots(
    figures: Figures, labels: Sequence[str], objects: Sequence[str], measures: Mapping[str, Measure]
) -> list[Plot]:
    horizon = len(figures[f"{labels[-1]}/kept_curve"].value)
    frames = list(range(1, horizon + 1))
    lines = {label: curve(figures[f"{label}/kept_curve"], frames) for label in labels}
    text = "frame of the dream"
    plots = [Plot("objects_kept", "Rollouts that have lost no object yet", text, "share", lines, y_range=(0, 1.02))]
    for thing in objects[:MAX_PLOTTED]:
        errors = {
            label: curve(figures[f"{label}/error_curve/{thing}"], frames, dashed=label == STILL)
            for label in (*labels, STILL)
            if f"{label}/error_curve/{thing}" in figures
        }
        unit = f"{measures['error'].title}, px"
        plots.append(Plot(f"object_error_{thing}", f"{_words(thing)}: position", text, unit, errors))
        seen = {label: curve(figures[f"{label}/recall_curve/{thing}"], frames) for label in labels}
        title = f"{_words(thing)}: seen where the real game has it"
        plots.append(Plot(f"object_seen_{thing}", title, text, "share", seen, y_range=(0, 1.02)))
    return plots


def _third_words(figures: Figures, measure: str) -> list[str]:
    """The objects (or numbers) of a measure."""
    words = [path.split("/") for path in figures]
    return list(dict.fromkeys(word[2] for word in words if len(word) > 2 and word[1] == measure))


def _words(name: str) -> str:
    return name.replace("_", " ")


OBJECT_TEXT = (
    "The same rollouts, read by small readers of colour and region that know this game; tests hold the readers against "
    "the console's memory. `Seen`: of the frames in which the recording shows the object, the share in which the dream "
    f"does, with at least {SEEN_SHARE:.0%} of its pixels. `True of those shown`: of the objects that the dream shows, "
    "the share that the recording has too; a doubled object counts twice. `Visible share`: how much of it is there, "
    "blurred or dim objects have less. Position errors are in native pixels, for what the actions move along its own "
    "axis, beside those of an object that stands still. An object is lost when it is missing for "
    f"{LOST_FRAMES} frames in a row in which the recording shows it. A change of a number counts when it has the right "
    f"amount and comes within {CHANGE_FRAMES} frames; unreadable numbers are not guessed. A dream may rightly part "
    "from the recording: then places differ and the score too, but no object vanishes."
)
