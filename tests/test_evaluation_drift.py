"""drift: the actions, the curves, and long dreams. More in test_liars.py."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.drift import KINDS, Drift
from gamengen.evaluation.recordings import Place
from gamengen.evaluation.run import evaluate
from tests.liar_worlds import pong_study


def test_recorded_actions_begin_again_when_the_episode_is_over() -> None:
    study, drift = pong_study(), Drift(horizon=200, bins=4)
    place = Place("played-3", 60)
    recorded = drift._actions(study, place, "recorded")
    whole = study.held_out.excerpt(Place("played-3", 0), 1, 1000).actions
    assert np.array_equal(recorded[:40], whole[60:]) and np.array_equal(recorded[40:140], whole)
    assert set(drift._actions(study, place, "no-op")) == {0} and len(set(drift._actions(study, place, "random"))) > 2
    with pytest.raises(ValueError, match="whole bins"):
        Drift(horizon=1001)


def test_the_real_game_stays_inside_and_equals_itself() -> None:
    study = pong_study()
    metric = Drift(num_starts=1, horizon=40, bins=2, num_bank=20, num_pieces=2, piece_frames=40)
    assert evaluate(study, [metric])["drift"].missing is not None  # no training split
    study = pong_study(training=study.held_out)
    pieces = [*metric._recorded_pieces(study), *metric._played_pieces(study)]
    assert {piece.kind for piece in pieces} == set(KINDS), "each kind has a limit of its own of standing still"
    assert [one.kind for one in metric._looks(study, study.world, Place("played-3", 0), KINDS, 5)] == list(KINDS)
    figures = evaluate(study, [metric])["drift"].figures
    for kind in KINDS:
        assert figures[f"world, {kind}/inside"].value == 40 and figures[f"world, {kind}/stayed"].value == 1
        assert figures[f"world, {kind}/inside_curve"].value == [1, 1]
        seen = figures[f"world, {kind}/seen/ball"].value
        assert seen == pytest.approx(np.mean(figures[f"world, {kind}/seen_curve/ball"].value)) and seen > 0
        for name in metric.measures:
            if f"world, {kind}/{name}" in figures:
                assert figures[f"world, {kind}/{name}"].value == figures[f"real game, {kind}/{name}"].value
    assert figures["world, random/sharpness_curve"].value[0] == pytest.approx(1, abs=0.1)
    (look,) = metric._looks(study, study.world, Place("played-3", 0), ["no-op"], 5)
    no_longer = metric._read(study, look, "no-op", most=25)  # where the real game itself was taken for something else
    assert [no_longer[name][0].tolist() for name in ("inside", "stayed", "inside_curve")] == [25, 0, [1, 0]]
    (section,) = metric.sections(figures)
    assert [len(table.rows) for table in section.tables] == [6, 6, 6] and "ball" in section.tables[2].columns
    assert {plot.name for plot in section.plots} > {"drift_seen_curve_ball"}
    clip = metric.clip(study, Place("played-3", 10), "world, random/inside")
    assert clip is not None and clip.panels["dream"].shape == clip.panels["real game"].shape
    assert clip.actions is not None and len(clip.actions) == len(clip.panels["dream"])
