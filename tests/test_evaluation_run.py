"""evaluation.run: a killed evaluation continues, a bounded one ends early and says so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gamengen.evaluation import run
from gamengen.evaluation.budget import Budget
from gamengen.evaluation.figures import Measure, Sample
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.recordings import TooShort
from gamengen.evaluation.run import Measured, evaluate
from gamengen.evaluation.study import Study
from tests.evaluated_worlds import SquareWorld, recordings


@dataclass
class Counted:
    """A metric that counts what it is asked."""

    name: str = "counted"
    num_starts: int = 8
    die_at: int | None = None
    seconds: float = 0.0
    reason: str | None = None
    share: float = 1.0
    horizon: int = 1
    ranked_by: Sequence[str] = ()
    measured: list[str] = field(default_factory=list)
    measures = {"frame": Measure(title="frame")}

    def missing(self, study: Study) -> str | None:
        return self.reason

    def parts(self, study: Study) -> list[Part]:
        return batch_parts(study, study.held_out.places(self.num_starts, self.horizon, study.seed))

    def measure(self, study: Study, part: Part) -> list[Sample]:
        if self.die_at == len(self.measured):
            raise KeyboardInterrupt
        self.measured.append(part.name)
        time.sleep(self.seconds)
        return [Sample(p.episode, p.frame, {"world/frame": np.array([p.frame, 1.0])}) for p in part.places]


@pytest.fixture
def study() -> Study:
    return Study(world=SquareWorld(2), held_out=recordings())


def test_a_killed_evaluation_goes_on_and_ends_with_the_same_figures(study: Study, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(study, [Counted(die_at=2)], tmp_path)  # type: ignore[list-item]
    again = Counted()
    seen = []
    result = evaluate(study, [again], tmp_path, progress=lambda *p: seen.append(p))["counted"]  # type: ignore[list-item]
    assert again.measured == ["00002", "00003"] and (result.parts_done, result.parts_planned) == (4, 4)
    whole = evaluate(study, [Counted()], None)["counted"]  # type: ignore[list-item]
    assert result.figures == whole.figures and len(whole.samples) == 8
    assert seen == [("counted", n, 4) for n in range(5)]


def test_a_bounded_time_is_shared_and_every_metric_has_at_least_a_part(study: Study) -> None:
    slow, fast = Counted(seconds=0.05), Counted("fast", share=3.0)
    results = evaluate(study, [slow, fast], None, max_minutes=0.002)  # type: ignore[list-item]
    assert 1 <= results["counted"].parts_done < 4 and results["fast"].parts_done >= 1
    assert results["counted"].figures["world/frame"].samples == 2 * results["counted"].parts_done


def test_what_cannot_be_measured_says_why(study: Study) -> None:
    absent = Counted(reason="weights not found")
    result = evaluate(study, [absent], None)["counted"]  # type: ignore[list-item]
    assert result.missing == "weights not found" and not result.figures and not absent.measured


def test_what_no_episode_is_long_enough_for_is_missing_and_the_rest_is_measured(study: Study) -> None:
    results = evaluate(study, [Counted(horizon=48), Counted("other")], None)  # type: ignore[list-item]
    assert results["counted"].missing is not None and "no episode has 48 recorded steps" in results["counted"].missing
    assert not results["counted"].figures and results["other"].parts_done == 4

    class Untrained(Counted):
        def measure(self, study: Study, part: Part) -> list[Sample]:
            raise TooShort("no training episode has 7 steps")

    assert evaluate(study, [Untrained()], None)["counted"].missing == "no training episode has 7 steps"  # type: ignore[list-item]


@dataclass
class Timed(Counted):
    """Its parts take seconds of a clock of its own: the first, which also makes what is made once, and the others."""

    takes: tuple[float, float] = (10.0, 3.0)
    now: float = 0.0

    def measure(self, study: Study, part: Part) -> list[Sample]:
        found = super().measure(study, part)
        self.now += self.takes[len(self.measured) > 1]
        return found

    def evaluate(self, study: Study, seconds: float, monkeypatch: pytest.MonkeyPatch) -> Measured:
        monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(run, "Budget", lambda minutes: Budget(minutes, lambda: self.now))
        return evaluate(study, [self], None, max_minutes=seconds / 60)["counted"]  # type: ignore[list-item]


def test_what_is_made_once_is_not_expected_of_every_part(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 + 3 + 3 seconds of 21: another 3 fit, though the mean part takes more than the 5 that are left."""
    result = Timed(num_starts=16).evaluate(study, 21, monkeypatch)
    assert (result.parts_done, result.parts_planned, result.seconds_over) == (4, 8, 0)


def test_what_takes_longer_than_its_time_says_by_how_much(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    result = Timed().evaluate(study, 6, monkeypatch)
    assert (result.parts_done, result.seconds_over) == (1, pytest.approx(4))
