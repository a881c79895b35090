"""No liar above the real game, and each liar caught by the metric that is named for it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from gamengen.evaluation.action_reading import ActionReading
from gamengen.evaluation.agent_play import AgentPlay
from gamengen.evaluation.counterfactual import Counterfactual
from gamengen.evaluation.delta_psnr import DeltaPsnr
from gamengen.evaluation.drift import Drift
from gamengen.evaluation.figures import Figures
from gamengen.evaluation.metric import Metric
from gamengen.evaluation.next_frame import NextFrame
from gamengen.evaluation.recordings import Recordings
from gamengen.evaluation.rollouts import Rollouts
from gamengen.evaluation.run import evaluate
from gamengen.evaluation.stability import Stability
from gamengen.evaluation.study import Study
from gamengen.games.emulator import make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from tests.liar_worlds import LIARS, Freezes, played_episode, pong_study
from tests.test_evaluation_agent_play import FollowsBall

pytest.importorskip("ale_py", reason="the extra `record` is not installed")

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        NextFrame(num_starts=3),
        Rollouts(num_starts=3, horizon=16),
        Counterfactual(num_starts=3),
        DeltaPsnr(num_starts=3),
        Stability(num_starts=3),
        AgentPlay(num_starts=3, horizon=16, bins=4),
        Drift(num_starts=1, horizon=100, bins=4, num_bank=20, num_pieces=2, piece_frames=60),
    )
}
CAUGHT_BY = [
    ("copies the last frame", "next_frame", "moving_psnr", 30.0),
    ("copies the last frame", "stability", "round_trip", 0.0),
    ("ignores actions", "counterfactual", "right", 0.0),
    ("ignores actions", "counterfactual", "direction", 0.0),
    ("swaps left and right", "counterfactual", "right", 0.0),
    ("swaps left and right", "counterfactual", "direction", -0.9),
    ("blurs", "next_frame", "ssim", 0.95),
    ("drops the ball", "rollouts", "first_lost", 12.0),
    ("freezes", "drift", "inside", 75.0),
]
"""Liar, metric, measure, and the most that it may reach there. The real game's own figures are above."""
ALSO_CAUGHT_BY = [
    ("copies the last frame", "counterfactual", "right", 0.0),
    ("copies the last frame", "delta_psnr", "last", 0.0),
    ("copies the last frame", "drift", "inside", 90.0),
    ("ignores actions", "delta_psnr", "last", 0.0),
    ("ignores actions", "stability", "round_trip", 0.0),
    ("ignores actions", "next_frame", "moving_psnr", 60.0),
    ("swaps left and right", "stability", "round_trip", 0.5),
    ("swaps left and right", "rollouts", "moving_psnr", 40.0),
    ("blurs", "delta_psnr", "last", 5.0),
    ("blurs", "counterfactual", "direction", 0.99),
    ("blurs", "drift", "inside", 0.0),
    ("blurs", "rollouts", "psnr", 40.0),
]


class FreezesSoon(Freezes):
    """After 20 frames: nobody has to wait for a hundred to see it caught."""

    after = 20


def path_of(metric: str, measure: str) -> str:
    return f"world, random/{measure}" if metric == "drift" else f"world/{measure}"


@cache
def figures_of(liar: str | None, metric: str) -> Figures:
    study = pong_study(num_worlds=3, training=pong_study().held_out, agent=FollowsBall())
    if liar is not None:
        lie = FreezesSoon if liar == "freezes" else LIARS[liar]
        study = pong_study(lie(study.world), training=study.training, agent=study.agent)
    return evaluate(study, [METRICS[metric]])[metric].figures


def check_caught(liar: str, metric: str, measure: str, most: float) -> None:
    lie, truth = (figures_of(who, metric)[path_of(metric, measure)].array().min() for who in (liar, None))
    assert lie <= most < truth


def check_rank(lies: Figures, truth: Figures) -> None:
    for path, figure in lies.items():
        if not path.startswith("world") or not figure.better:
            continue
        for lie, true in zip(figure.array().ravel(), truth[path].array().ravel(), strict=True):
            above = lie > true + 1e-9 if figure.better == "higher" else lie < true - 1e-9
            assert not above, f"{path}: {lie}, the real game {true}"  # a figure that is undefined is above nothing


@pytest.mark.parametrize(("liar", "metric", "measure", "most"), CAUGHT_BY)
def test_a_liar_is_caught_by_the_metric_for_it(liar: str, metric: str, measure: str, most: float) -> None:
    check_caught(liar, metric, measure, most)


@pytest.mark.parametrize(("liar", "metric"), sorted({row[:2] for row in CAUGHT_BY}))
def test_no_liar_is_ranked_above_the_real_game(liar: str, metric: str) -> None:
    check_rank(figures_of(liar, metric), figures_of(None, metric))


def test_every_liar_is_caught_by_something() -> None:
    assert {row[0] for row in CAUGHT_BY} == set(LIARS)


@pytest.mark.slow
@pytest.mark.parametrize(("liar", "metric", "measure", "most"), ALSO_CAUGHT_BY)
def test_a_liar_is_caught_by_others_too(liar: str, metric: str, measure: str, most: float) -> None:
    check_caught(liar, metric, measure, most)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("liar", LIARS)
def test_no_metric_ranks_any_liar_above_the_real_game(liar: str, metric: str) -> None:
    check_rank(figures_of(liar, metric), figures_of(None, metric))


@pytest.mark.slow
def test_freezing_after_a_hundred_frames_is_seen_in_a_long_dream() -> None:
    study = pong_study(training=pong_study().held_out)
    metric = Drift(num_starts=1, horizon=200, bins=4, num_bank=20, num_pieces=2, piece_frames=60)
    frozen = evaluate(pong_study(Freezes(study.world), training=study.training), [metric])["drift"].figures
    for kind in ("no-op", "random", "recorded"):
        assert 90 <= frozen[f"world, {kind}/inside"].value <= 170 < frozen[f"real game, {kind}/inside"].value


@pytest.mark.slow
def test_actions_are_read_from_the_real_game_and_from_no_liar() -> None:
    """A reader trained on real frames of Pong finds what was pressed in the real game, and not where a world lies."""
    game = make_game_contract("ALE/Pong-v5")
    training = Recordings.of([played_episode(game, 700, seed, split="train") for seed in range(10, 14)])
    metric = ActionReading(num_starts=4, horizon=48)

    def found(liar: str | None) -> Figures:
        study = pong_study(training=training)
        lying = study if liar is None else pong_study(LIARS[liar](study.world), training=training)
        return evaluate(lying, [metric])["action_reading"].figures

    truth = found(None)
    assert truth["world/kappa"].value > 0.4 and truth["world/of_ceiling"].value > 0.95
    for liar in LIARS:
        lies = found(liar)
        check_rank(lies, truth)
        if liar in ("copies the last frame", "ignores actions", "swaps left and right"):
            assert lies["world/kappa"].value < 0.15, liar


@pytest.mark.slow
@pytest.mark.parametrize("liar", LIARS)
def test_no_liar_is_ranked_above_the_real_game_in_breakout(liar: str) -> None:
    game = make_game_contract("ALE/Breakout-v5")
    held_out = Recordings.of([played_episode(game, 80, seed) for seed in (1, 2)])
    world = EmulatorWorld(game, 3)
    study = Study(world=world, held_out=held_out, training=held_out, real_game=lambda count: EmulatorWorld(game, count))
    lying = replace(study, world=LIARS[liar](world))
    for name in ("next_frame", "rollouts", "counterfactual", "stability", "drift"):
        truth, lies = (evaluate(one, [METRICS[name]])[name].figures for one in (study, lying))
        check_rank(lies, truth)
    world.close()
