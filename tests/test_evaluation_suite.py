"""evaluation.suite: every metric keeps the convention, and a report can be made of all of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gamengen.dataset.episodes import NO_SEED
from gamengen.evaluation.action_reading import ActionReading
from gamengen.evaluation.inverse_dynamics import InverseDynamicsConfig
from gamengen.evaluation.run import evaluate
from gamengen.evaluation.study import Study, step_settings
from gamengen.evaluation.suite import Networks, Scale, suite
from tests.evaluated_worlds import SquareWorld, recordings

QUICK = InverseDynamicsConfig(train_steps=5)


def test_metrics_have_names_of_their_own_and_rank_by_what_they_measure() -> None:
    world = SquareWorld(2, with_steps=True)
    metrics = suite(world, Scale(), Networks())
    names = [metric.name for metric in metrics]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-z_]+", name) for name in names)
    assert {"next_frame", "rollouts", "speed"} <= set(names)
    for metric in metrics:
        assert metric.share > 0
        assert all(path.split("/")[1] in metric.measures for path in metric.ranked_by), metric.name


def test_metrics_are_chosen_by_name() -> None:
    world = SquareWorld(2)
    assert [m.name for m in suite(world, Scale(metrics=("speed", "next_frame")), Networks())] == ["next_frame", "speed"]
    with pytest.raises(ValueError, match=r"no 'fid'; expected some of: next_frame, rollouts"):
        suite(world, Scale(metrics=("fid",)), Networks())


def test_the_scale_reaches_the_metrics() -> None:
    scale = Scale(num_starts=7, steps=(2, 8), num_rollouts=3, horizon=5, rollout_steps=(8,))
    world = SquareWorld(2, with_steps=True)
    by_name = {
        metric.name: metric for metric in suite(world, scale, Networks(lpips_missing="none", clips_missing=("x",)))
    }
    assert by_name["next_frame"].settings == step_settings(world, (2, 8))  # type: ignore[attr-defined]
    assert by_name["next_frame"].num_starts == 7 and by_name["next_frame"].perceptual_missing == "none"  # type: ignore[attr-defined]
    rollouts = by_name["rollouts"]
    assert (rollouts.num_starts, rollouts.horizon, rollouts.not_measured) == (3, 5, ("x",))  # type: ignore[attr-defined]


def test_all_is_measured_that_episodes_without_a_seed_allow() -> None:
    """Imported ones cannot be replayed: what needs the real game is missing, everything else is not."""
    study = Study(
        world=SquareWorld(2, with_steps=True), play_world=SquareWorld(1, with_steps=True),
        held_out=recordings((60, 70, 65), seed=NO_SEED), training=recordings((90, 80), seed=NO_SEED),
    )  # fmt: skip
    scale = Scale(num_starts=2, num_rollouts=2, horizon=4, steps=(1,), rollout_steps=(1,), drift_frames=100)
    metrics = list(suite(study.world, scale, Networks()))
    (place,) = [number for number, metric in enumerate(metrics) if metric.name == "action_reading"]
    metrics[place] = ActionReading(settings=step_settings(study.world, (1,)), reader=QUICK)
    measured = evaluate(study, metrics)
    missing = {name for name, one in measured.items() if one.missing is not None}
    assert missing == {"counterfactual", "stability", "agent_play", "ball_play"}
    assert "1 step, recorded/inside" in measured["drift"].figures
    assert all(metric.sections(measured[metric.name].figures) for metric in metrics if metric.name not in missing)


def test_the_network_of_lpips_is_in_its_title() -> None:
    networks = Networks(perceptual=lambda real, other: np.zeros(len(real)), lpips_backbone="vgg")
    for metric in suite(SquareWorld(2), Scale(metrics=("next_frame", "rollouts")), networks):
        assert metric.measures["lpips"].title == "LPIPS (vgg)"
