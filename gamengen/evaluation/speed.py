"""Metric 7: how fast the world is played, measured in the same run as its quality."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gamengen.evaluation.figures import Figures, Measure, Sample, Values, ratio
from gamengen.evaluation.metric import Part
from gamengen.evaluation.recordings import Place
from gamengen.evaluation.section import Clip, Section, Table
from gamengen.evaluation.study import Setting, Study

WARM_UP_STEPS = 3
SLOW_SHARE = 95


def frames_a_second(sums: Values) -> Values:
    """(2,) milliseconds and steps -> steps a second."""
    rate: Values = 1000 / np.maximum(ratio(sums), 1e-9)
    return rate


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Play of one game: the world with one slot, step after step."""

    settings: Sequence[Setting] = (Setting("world"),)
    num_starts: int = 4
    """Plays from different places, so that there is an interval."""
    timed_steps: int = 20
    share: float = 0.3

    name = "speed"

    @property
    def measures(self) -> Mapping[str, Measure]:
        """The median step of each play, and its slow ones."""
        return {
            "fps": Measure(title="FPS", unit="1/s", digits=1, of_sums=frames_a_second),
            "step_ms": Measure(title="median step", unit="ms", better="lower", digits=1),
            "slow_ms": Measure(title=f"{SLOW_SHARE} % of steps within", unit="ms", better="lower", digits=1),
        }

    @property
    def ranked_by(self) -> Sequence[str]:
        return ()

    def missing(self, study: Study) -> str | None:
        """Without a world of one slot there is no play to measure."""
        return None if study.play_world is not None else "no world with one slot was given"

    def parts(self, study: Study) -> Sequence[Part]:
        """A play each."""
        horizon = min(self.timed_steps + WARM_UP_STEPS, max(study.held_out.lengths.values()))
        places = study.held_out.places(self.num_starts, horizon, study.seed)
        return [Part(f"{number:05d}", [place]) for number, place in enumerate(places)]

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Time every step, under every setting."""
        assert study.play_world is not None and study.play_world.num_worlds == 1
        excerpts = study.excerpts(part.places, self.timed_steps + WARM_UP_STEPS)
        actions = np.resize(excerpts[0].actions, (1, self.timed_steps + WARM_UP_STEPS))
        values: dict[str, Values] = {}
        for setting in self.settings:
            with study.using(setting, study.play_world) as world:
                times = [time.perf_counter()]
                times += [time.perf_counter() for _ in study.dream(world, excerpts, actions)]
            milliseconds = 1000 * np.diff(times)[WARM_UP_STEPS:]
            median, slow = np.median(milliseconds), np.percentile(milliseconds, SLOW_SHARE)
            values[f"{setting.label}/fps"] = values[f"{setting.label}/step_ms"] = np.array([median, 1.0])
            values[f"{setting.label}/slow_ms"] = np.array([slow, 1.0])
        return [Sample(part.places[0].episode, part.places[0].frame, values)]

    def sections(self, figures: Figures) -> list[Section]:
        """One table."""
        headings = [f"{measure.title}, {measure.unit}" for measure in self.measures.values()]
        rows = [(s.label, [figures.get(f"{s.label}/{name}") for name in self.measures]) for s in self.settings]
        return [Section("Speed", SPEED_TEXT, [Table(["one game", *headings], rows, digits=1)])]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """Nothing to see."""
        return None


SPEED_TEXT = (
    "One game on this machine, from the call of a step to its frame, in the same run as everything else in this "
    "report. Steps that a start needs for warming up are left out."
)
