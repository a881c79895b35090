"""Does a dream keep the rules of its game, whatever the recording did: bounces, and bricks with their points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Figures, Measure, Values
from gamengen.evaluation.horizons import by_window, marks_within, window_names
from gamengen.evaluation.object_values import Reading, matched_changes, number_changes
from gamengen.evaluation.section import Section, Table
from gamengen.objects.games import game_objects
from gamengen.objects.look import Grid, Look, Paddle
from gamengen.objects.reader import Track

REAL = "real game"
"""The label of the recordings' own figures: what the readers make of a perfect dream."""
BOUNCE_FRAMES = 4
"""A ball that meets a paddle must fly away from it within so many frames."""
EDGE = 1.0
"""Pixels: what would pass so near a paddle's end may do either."""
STEADY_FRAMES = 3
"""A brick has gone (or come) when it was there for so many frames and then is not for as many."""
PAID_FRAMES = 16
"""The score may rise so many frames earlier or later than a brick goes."""
PER_FRAMES = 500

RULE_MEASURES: Mapping[str, Measure] = {
    "reflected": Measure(title="balls thrown back", is_share=True, digits=3),
    "paid": Measure(title="bricks that go and score", is_share=True, digits=3),
    "earned": Measure(title="points with a brick gone", is_share=True, digits=3),
    "returned": Measure(title="came back", unit=f"in {PER_FRAMES} frames", better="lower", digits=2),
    "like_recording": Measure(title="as in the recording", is_share=True, digits=4),
}


def rule_values(shown: Reading, env_id: str) -> dict[str, Values]:
    """Raw values of one course of a game, dreamt or real: `measure/object` -> (2,)."""
    game = game_objects(env_id)
    values = {
        f"reflected/{name}": _bounces(shown.tracks["ball"], shown.tracks[name], game.objects, name, paddle)
        for name, paddle in game.paddles.items()
    }
    for name, cells in shown.grids.items():
        values |= {f"{measure}/{name}": value for measure, value in _bricks(cells, shown, game.grids[name]).items()}
    return values


def likeness_values(real: Reading, dream: Reading, marks: Sequence[int]) -> dict[str, Values]:
    """Cells that are there or not as the recording has them, by window; real: T + 1 frames, dream: T."""
    values = {}
    for name, cells in dream.grids.items():
        same = ((cells >= 0.5) == (real.grids[name][1:] >= 0.5)).sum((1, 2)).astype(float)
        of = np.full(len(same), float(cells[0].size))
        values[f"like_recording/{name}"] = by_window(np.stack([same, of]), marks)
    return values


def _bounces(ball: Track, paddle: Track, looks: Mapping[str, Look], name: str, spec: Paddle) -> Values:
    """(2,): balls that flew away again, of those that came where the paddle stood before and after."""
    along, across = (ball.x, ball.y) if spec.axis == "x" else (ball.y, ball.x)
    face, stand = (paddle.x, paddle.y) if spec.axis == "x" else (paddle.y, paddle.x)
    sizes = [(looks[thing].width, looks[thing].height) for thing in ("ball", name)]
    depths, breadths = zip(*(size if spec.axis == "x" else size[::-1] for size in sizes), strict=True)
    thrown, came, free = 0, 0, 1
    for t in range(1, len(along) - BOUNCE_FRAMES):
        speed = spec.side * (along[t] - along[t - 1])
        gap = spec.side * (face[t] - along[t]) - sum(depths) / 2
        if t < free or not (speed > 0 and -0.5 <= gap <= speed):  # NaN, where something is missing, is neither
            continue
        meets = across[t] + (across[t] - across[t - 1]) * gap / speed
        reach = sum(breadths) / 2 - EDGE
        if not (abs(meets - stand[t]) <= reach and abs(meets - stand[t + 1]) <= reach):
            continue
        came, free = came + 1, t + BOUNCE_FRAMES + 1
        steps = spec.side * np.diff(along[t : t + BOUNCE_FRAMES + 1])
        thrown += bool((steps < -0.5).any())
    return np.array([thrown, came], float)


def _bricks(cells: Values, shown: Reading, grid: Grid) -> dict[str, Values]:
    there = cells >= 0.5
    whole: npt.NDArray[np.bool_] = np.asarray(there.all((1, 2)))
    gone, back = _changes(there), _changes(~there)
    lost = [(t, float(grid.worth[row])) for t, row, _ in gone]
    # A wall that is whole again is a new one.
    returned = sum(not whole[t : t + STEADY_FRAMES].any() for t, _, _ in back)
    last = len(cells) - STEADY_FRAMES
    rises = [change for change in number_changes(shown.numbers["score"]) if STEADY_FRAMES <= change[0] < last]
    points = [rise for rise in rises if rise[1] > 0]
    return {
        "paid": np.array([matched_changes(lost, rises, PAID_FRAMES), len(lost)], float),
        "earned": np.array([matched_changes(points, lost, PAID_FRAMES), len(points)], float),
        "returned": np.array([PER_FRAMES * returned, len(cells)], float),
    }


def _changes(there: npt.NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(frame, row, column) of each cell that was steadily there before the frame, and steadily is not from it on."""
    steady = STEADY_FRAMES
    if len(there) < 2 * steady:
        return []
    runs = np.lib.stride_tricks.sliding_window_view(there, steady, axis=0)
    before, after = np.asarray(runs.all(-1))[:-steady], ~np.asarray(runs.any(-1))[steady:]
    return [(int(t) + steady, int(row), int(column)) for t, row, column in np.argwhere(before & after)]


def rule_section(figures: Figures, labels: Sequence[str], measures: Mapping[str, Measure]) -> Section | None:
    """None where the game has no rules that can be read."""
    known = {path.split("/", 1)[1]: None for path in figures if path.split("/")[1] in RULE_MEASURES}
    single = [path for path in known if not path.startswith("like_recording/")]
    if not single:
        return None
    titles = [
        f"{measures[measure].title}, {thing.replace('_', ' ')}{', ' + unit if (unit := measures[measure].unit) else ''}"
        for measure, thing in (path.split("/") for path in single)
    ]
    rows = [(label, [figures.get(f"{label}/{path}") for path in single]) for label in (*labels, REAL)]
    tables = [Table(["", *titles], rows, digits=3)]
    marks = marks_within(len(figures[f"{labels[0]}/kept_curve"].value))
    tables += [
        Table(
            ["frames", *window_names(marks)],
            [(label, [figures[f"{label}/{path}"].at(i) for i in range(len(marks))]) for label in labels],
            title=f"{path.split('/')[1].capitalize()} that are there, or not, as in the recording",
            digits=4,
        )
        for path in known
        if path not in single
    ]
    return Section("Rules", RULE_TEXT, tables)


RULE_TEXT = (
    "What the dream does by its own lights, read from the same rollouts; the last row is the recording read in the "
    "same way. `Balls thrown back`: of the balls that fly to where a paddle stands, the share that flies away from it "
    f"within {BOUNCE_FRAMES} frames. `Bricks that go and score`: of the bricks that vanish for good, the share for "
    f"which the score rises by their worth within {PAID_FRAMES} frames. `Points with a brick gone`: the reverse. "
    "`Came back`: bricks that were gone and are there again, without the whole wall being new."
)
