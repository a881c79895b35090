"""evaluation.speed: a world that is twice as slow has half the frames a second."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest

from gamengen.evaluation.run import evaluate
from gamengen.evaluation.speed import WARM_UP_STEPS, Speed
from gamengen.evaluation.study import Study, step_settings
from gamengen.world import WorldStep
from tests.evaluated_worlds import SquareWorld, recordings


class Slow(SquareWorld):
    """Takes 4 ms for each denoising step, and far longer for its first one, by a clock of its own."""

    count, clock = 0, 0.0

    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        self.count += 1
        self.clock += 0.2 if self.count == 1 else 0.004 * self.options["num_inference_steps"].value
        return super().step(actions)


def test_more_steps_are_slower_and_warming_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Slow(1, with_steps=True)
    monkeypatch.setattr(time, "perf_counter", lambda: world.clock)
    metric = Speed(settings=step_settings(world, (1, 4)), num_starts=2, timed_steps=5)
    study = Study(world=SquareWorld(4), held_out=recordings(), play_world=world)
    figures = evaluate(study, [metric])[metric.name].figures
    fast, slow = figures["1 step/fps"].value, figures["4 steps/fps"].value
    assert (fast, slow) == (pytest.approx(250), pytest.approx(62.5))
    assert figures["1 step/step_ms"].value == pytest.approx(4)
    assert world.count == 2 * 2 * (5 + WARM_UP_STEPS)
    (section,) = metric.sections(figures)
    assert [name for name, _ in section.tables[0].rows] == ["1 step", "4 steps"]


def test_without_a_world_of_one_slot_it_says_so() -> None:
    study = Study(world=SquareWorld(4), held_out=recordings())
    assert "one slot" in str(Speed().missing(study))
