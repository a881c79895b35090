"""action_effects: what the real game says of its actions, whatever they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gamengen.evaluation.action_effects import effects_of, measure_effects, unmeasured_effects
from gamengen.evaluation.recordings import Place
from tests.liar_worlds import IgnoresActions, SwapsLeftAndRight, pong_study


def test_fire_is_the_no_op_in_pong_and_the_paddle_goes_both_ways() -> None:
    study = pong_study()  # of 3 slots, for 7 states: the last batch is not full
    game, world = study.game, study.world
    starts = [e.start for e in study.excerpts([Place("played-3", frame) for frame in range(10, 80, 10)], 0)]
    effects = measure_effects(world, starts)
    assert effects.groups == ((0, 1), (2, 4), (3, 5)) and effects.num_states == 7
    assert effects.names(game) == ["NOOP = FIRE", "RIGHT = RIGHTFIRE", "LEFT = LEFTFIRE"]
    assert effects.labels.tolist() == [0, 0, 1, 2, 1, 2]
    assert measure_effects(SwapsLeftAndRight(world), starts).groups == effects.groups  # names mean nothing to it
    assert measure_effects(IgnoresActions(world), starts).groups == (tuple(range(6)),)


def test_a_study_measures_once_and_says_when_it_cannot() -> None:
    study = pong_study()
    first = effects_of(study)
    assert effects_of(study) is first and len(first.groups) == 3
    alone = effects_of(replace(study, real_game=None))
    assert alone == unmeasured_effects(study.game) and alone.num_states == 0
    assert np.array_equal(alone.labels, np.arange(6))
