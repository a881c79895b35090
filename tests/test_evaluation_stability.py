"""stability: what undoes what in the real game, and how a round trip is judged. More in test_liars.py."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.action_effects import states_together
from gamengen.evaluation.stability import Stability, _judged, undoing_pairs
from tests.liar_worlds import IgnoresActions, pong_study


def judged(dream: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    (found,) = _judged(dream[None], truth[None])
    return {name: float(value[0] / value[1]) if value[1] else np.nan for name, value in found.items()}


def test_a_round_trip_must_go_the_real_way_and_come_back() -> None:
    truth = np.zeros((3, 2, 2, 3))  # out, half, back
    truth[0], truth[1] = 2, 1
    assert judged(truth, truth) == pytest.approx({"round_trip": 1, "went": 1, "left": 0})
    assert judged(0 * truth, truth)["round_trip"] == 0  # it never left: not stable
    assert judged(-truth, truth)["round_trip"] == 0
    stays = truth.copy()
    stays[2] = 2
    assert judged(stays, truth) == pytest.approx({"round_trip": 0, "went": 1, "left": 1})
    nearly = truth.copy()
    nearly[2] = 0.5
    assert judged(nearly, truth)["round_trip"] == 1
    gone = np.ones_like(truth)  # the real game does not come back either: nothing to compare with
    assert np.isnan(judged(truth, gone)["round_trip"])


def test_left_undoes_right_in_pong_and_fire_does_not() -> None:
    study = pong_study()
    excerpts = study.excerpts(states_together(study, 2), 0)
    assert undoing_pairs(study, study.world, excerpts, (2, 2, 3)) == [(2, 3), (3, 2)]
    assert undoing_pairs(study, IgnoresActions(study.world), excerpts, (2, 2, 3)) == []
    trips = Stability()._trips(study, [excerpt.place for excerpt in excerpts])
    assert {tuple(trip) for trip in trips} <= {(2, 2, 3, 3, 0, 0, 0), (3, 3, 2, 2, 0, 0, 0)}
