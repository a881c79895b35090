"""evaluation.run: a killed evaluation continues, a bounded one ends early and says so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from gamengen.evaluation.figures import Measure, Sample
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.run import evaluate
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
    ranked_by: Sequence[str] = ()
    measured: list[str] = field(default_factory=list)
    measures = {"frame": Measure(title="frame")}

    def missing(self, study: Study) -> str | None:
        return self.reason

    def parts(self, study: Study) -> list[Part]:
        return batch_parts(study, study.held_out.places(self.num_starts, 1, study.seed))

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
