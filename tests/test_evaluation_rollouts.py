"""evaluation.rollouts: the real game stays perfect, liars fall behind, objects are read in the same pass."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.frechet import ClipFeatures
from gamengen.evaluation.next_frame import CODEC
from gamengen.evaluation.object_values import LOST_FRAMES
from gamengen.evaluation.recordings import Recordings
from gamengen.evaluation.rollouts import START, Rollouts
from gamengen.evaluation.run import evaluate
from gamengen.evaluation.study import Study
from gamengen.games.emulator import make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.metrics import MAX_PSNR, psnr
from tests.evaluated_worlds import SquareWorld, recordings
from tests.liar_worlds import DropsBall, played_episode

HORIZON = 16


def test_the_real_game_stays_perfect_and_a_liar_falls_behind() -> None:
    metric = Rollouts(num_starts=6, horizon=HORIZON)
    found = {}
    for name, world in (("true", SquareWorld(4)), ("wrong", SquareWorld(4, wrong=True))):
        found[name] = evaluate(Study(world=world, held_out=recordings()), [metric])["rollouts"].figures
    assert found["true"]["world/psnr_curve"].value == [MAX_PSNR] * HORIZON
    curve = found["wrong"]["world/psnr_curve"].value
    assert max(curve) < 30 and found["wrong"]["world/psnr"].value == [curve[0], curve[3], curve[15]]
    assert found["true"]["world/ssim"].value == pytest.approx([1, 1, 1])
    for name in ("psnr", "moving_psnr", "ssim"):
        assert found["true"][f"{START}/{name}"].value == found["wrong"][f"{START}/{name}"].value


def test_the_curves_are_those_of_the_frames_put_together() -> None:
    study = Study(world=SquareWorld(4, wrong=True), held_out=recordings())
    metric = Rollouts(num_starts=4, horizon=HORIZON)
    figures = evaluate(study, [metric])["rollouts"].figures
    excerpts = study.excerpts(study.held_out.places(4, HORIZON, 0), HORIZON)
    actions = np.stack([excerpt.actions for excerpt in excerpts])
    shown = np.stack([step.frames for step in study.dream(study.world, excerpts, actions)], axis=1)
    real = np.stack([excerpt.frames for excerpt in excerpts])
    expected = [psnr(real[:, t + 1], shown[:, t]) for t in range(HORIZON)]
    assert figures["world/psnr_curve"].value == pytest.approx(expected)
    start = [psnr(real[:, t + 1], real[:, 0]) for t in range(HORIZON)]
    assert figures[f"{START}/psnr_curve"].value == pytest.approx(start)
    through = study.world.reconstruct(real[:, 4])
    assert through is not None and figures[f"{CODEC}/psnr"].value[1] == pytest.approx(psnr(real[:, 4], through))


def test_rollouts_end_where_half_of_the_episodes_do() -> None:
    """Not where the longest does: all rollouts would be of that one."""
    metric = Rollouts(num_starts=4, horizon=20)
    measured = evaluate(Study(world=SquareWorld(2), held_out=recordings((9, 10, 9, 9, 18))), [metric])["rollouts"]
    assert len(measured.figures["world/psnr_curve"].value) == 9
    assert len({sample.episode for sample in measured.samples}) == 4
    notes = metric.sections(measured.figures)[0].notes
    assert any(note.startswith("Rollouts have 9 frames, not 20") for note in notes)
    whole = evaluate(Study(world=SquareWorld(2), held_out=recordings()), [metric])["rollouts"]
    assert metric.sections(whole.figures)[0].notes == ()


def test_distances_of_clips_are_zero_for_the_real_game() -> None:
    features = ClipFeatures("agent_distance", 8, lambda frames: frames[::4, 6, :, 0].astype(float))
    metric = Rollouts(num_starts=6, horizon=HORIZON, clip_features=(features,))
    true, wrong = (
        evaluate(Study(world=world, held_out=recordings()), [metric])["rollouts"].figures["world/agent_distance"].value
        for world in (SquareWorld(4), SquareWorld(4, wrong=True))
    )
    assert true == pytest.approx(0, abs=1e-3) and wrong > 1


def test_a_world_that_drops_the_ball_is_caught_by_the_objects_alone() -> None:
    """Over the real game of Pong, whose own figures are perfect."""
    pytest.importorskip("ale_py", reason="the extra `record` is not installed")
    game = make_game_contract("ALE/Pong-v5", frame_skip=4)
    held_out = Recordings.of([played_episode(game, 110, seed) for seed in range(2)])
    metric = Rollouts(num_starts=2, horizon=HORIZON)
    found = {}
    for name, world in (("true", EmulatorWorld(game, 2)), ("liar", DropsBall(EmulatorWorld(game, 2)))):
        study = Study(world=world, held_out=held_out, seed=3)
        found[name] = evaluate(study, [metric])["rollouts"].figures
        world.close()
    true, liar = found["true"], found["liar"]
    assert true["world/psnr_curve"].value == [MAX_PSNR] * HORIZON
    seen, lost = (figures["world/recall/ball"].array() for figures in (true, liar))
    assert np.nanmin(seen) == 1 and lost[-1] < 0.5
    assert true["world/first_lost"].value == HORIZON > liar["world/first_lost"].value >= LOST_FRAMES
    assert liar["world/error/own_paddle"].value[-1] == 0 and liar["world/psnr"].value[-1] > 35, "the pixels hardly tell"
    assert [section.title for section in metric.sections(liar)] == ["Free-running rollouts", "Objects", "Rules"]


def test_the_clip_is_the_dream_that_was_measured() -> None:
    study = Study(world=SquareWorld(1, noise=40), held_out=recordings(), seed=2)
    metric = Rollouts(num_starts=3, horizon=HORIZON)
    result = evaluate(study, [metric])["rollouts"]
    (place, *_) = study.held_out.places(3, HORIZON, 2)
    clip = metric.clip(study, place, "world/moving_psnr")
    assert clip is not None and clip.actions is not None and len(clip.actions) == HORIZON
    sample = next(s for s in result.samples if (s.episode, s.frame) == (place.episode, place.frame))
    squares = (clip.panels["dream"][0].astype(float) - clip.panels["real game"][0]) ** 2
    assert sample.values["world/psnr"][0, 0] == pytest.approx(squares.sum())
