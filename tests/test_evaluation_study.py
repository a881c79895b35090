"""evaluation.study: settings are put back, and a dream depends on its place and seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.study import Setting, Study, step_settings
from tests.evaluated_worlds import SquareWorld, recordings


def test_settings_of_steps_and_of_a_world_that_has_none() -> None:
    assert [s.label for s in step_settings(SquareWorld(with_steps=True), (1, 4, 4))] == ["1 step", "4 steps"]
    assert step_settings(SquareWorld(), (1, 4)) == [Setting("world")]


def test_options_are_put_back_even_after_an_error() -> None:
    world = SquareWorld(with_steps=True)
    study = Study(world=world, held_out=recordings())
    with pytest.raises(RuntimeError), study.using(Setting("4 steps", {"num_inference_steps": 4})) as used:
        assert used is world and world.options["num_inference_steps"].value == 4
        raise RuntimeError
    assert world.options["num_inference_steps"].value == 1


def test_a_dream_is_the_same_in_any_batch_and_slot() -> None:
    places = recordings().places(3, 6, seed=0)
    shown = {}
    for size, order in ((3, places), (4, places[::-1]), (1, places[:1])):
        study = Study(world=SquareWorld(size, noise=40), held_out=recordings(), seed=5)
        excerpts = study.excerpts(order, 6)
        actions = np.stack([excerpt.actions for excerpt in excerpts])
        frames = np.stack([step.frames for step in study.dream(study.world, excerpts, actions)], axis=1)
        assert frames.shape[:2] == (len(order), 6)
        for place, dream in zip(order, frames, strict=True):
            assert np.array_equal(shown.setdefault(place, dream), dream)
    another = Study(world=SquareWorld(3, noise=40), held_out=recordings(), seed=6)
    assert another.seed_of(places[0]) != Study(world=SquareWorld(3), held_out=recordings(), seed=5).seed_of(places[0])
    assert another.seed_of(places[0], "a") != another.seed_of(places[0], "b")


def test_more_excerpts_than_slots_are_refused() -> None:
    study = Study(world=SquareWorld(1), held_out=recordings())
    excerpts = study.excerpts(recordings().places(2, 2, 0), 2)
    with pytest.raises(ValueError, match="1 to 1 excerpts"):
        next(iter(study.dream(study.world, excerpts, np.zeros((2, 2), np.int64))))
    assert [len(batch) for batch in Study(world=SquareWorld(2), held_out=recordings()).batches(range(5))] == [2, 2, 1]  # type: ignore[arg-type]
