"""The driver: measure part by part, store each, then figures and sections."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gamengen.evaluation.budget import Budget
from gamengen.evaluation.figures import Figures, Sample, figures_of
from gamengen.evaluation.metric import Metric
from gamengen.evaluation.recordings import TooShort
from gamengen.evaluation.store import PartStore
from gamengen.evaluation.study import Study

PARTS_FOLDER = "parts"


@dataclass(frozen=True)
class Measured:
    """What one metric gave."""

    figures: Figures
    samples: Sequence[Sample]
    parts_done: int
    parts_planned: int
    missing: str | None = None
    """Why it was not measured."""
    seconds_over: float = 0.0
    """How long after the end of its share of the time it ended."""


def evaluate(
    study: Study,
    metrics: Sequence[Metric],
    folder: str | Path | None = None,
    *,
    max_minutes: float | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> dict[str, Measured]:
    """Measure a world.

    Args:
        folder: parts that lie in it are not measured again, new ones are stored; None keeps nothing.
        max_minutes: each metric stops planning new parts when its share of the time is over; at least one is done, and
            what one that was begun takes longer is in `Measured.seconds_over`.
        progress: called with (metric, parts done, parts planned) before the first part and after each.
    Returns:
        By the metrics' names, in their order.
    """
    budget = Budget(max_minutes)
    results = {}
    for number, metric in enumerate(metrics):
        share = metric.share / sum(one.share for one in metrics[number:])
        try:
            results[metric.name] = _measure(study, metric, folder, budget.part(share), progress)
        except TooShort as error:
            results[metric.name] = Measured({}, [], 0, 0, str(error))
    return results


def _measure(
    study: Study,
    metric: Metric,
    folder: str | Path | None,
    budget: Budget,
    progress: Callable[[str, int, int], object] | None,
) -> Measured:
    missing = metric.missing(study)
    if missing is not None:
        return Measured({}, [], 0, 0, missing)
    store = None if folder is None else PartStore(Path(folder) / PARTS_FOLDER, metric.name)
    parts = metric.parts(study)
    samples: list[Sample] = []
    seconds: list[float] = []
    done = 0
    if progress is not None:
        progress(metric.name, 0, len(parts))
    for part in parts:
        found = None if store is None else store.read(part.name)
        if found is None:
            # A part that would not end in time is not begun. The last one says how long it takes: the first also pays
            # for what is made once, such as a reader that is trained.
            if done and budget.seconds_left() <= (seconds[-1] if seconds else 0):
                break
            began = time.monotonic()
            found = metric.measure(study, part)
            seconds.append(time.monotonic() - began)
            if store is not None:
                store.write(part.name, found)
        samples += found
        done += 1
        if progress is not None:
            progress(metric.name, done, len(parts))
    over = budget.seconds_over()
    figures = figures_of(samples, metric.measures, study.seed)
    return Measured(figures, samples, done, len(parts), seconds_over=over)
