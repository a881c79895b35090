"""evaluation.next_frame: the real game is perfect, liars are not, and the bounds are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.next_frame import CODEC, COPY, NextFrame, pixel_values
from gamengen.evaluation.run import evaluate
from gamengen.evaluation.study import Study, step_settings
from gamengen.metrics import MAX_PSNR, moving_pixels, psnr
from tests.evaluated_worlds import SquareWorld, recordings


def measured(world: SquareWorld, **options: object) -> dict[str, float]:
    metric = NextFrame(settings=step_settings(world, (1, 4)), num_starts=20, **options)  # type: ignore[arg-type]
    result = evaluate(Study(world=world, held_out=recordings()), [metric])[metric.name]
    return {path: figure.value for path, figure in result.figures.items()}


def test_the_real_game_is_perfect_and_liars_are_caught() -> None:
    true, wrong, noisy = (measured(SquareWorld(4, **kind)) for kind in ({}, {"wrong": True}, {"noise": 60}))  # type: ignore[arg-type]
    assert true["world/psnr"] == true["world/moving_psnr"] == MAX_PSNR and true["world/ssim"] == pytest.approx(1)
    for liar in (wrong, noisy):
        assert all(liar[f"world/{name}"] < true[f"world/{name}"] - 0.01 for name in ("psnr", "moving_psnr", "ssim"))
    # Moving the wrong way spoils what moves more than copying does; noise spoils what does not move.
    assert wrong["world/moving_psnr"] <= wrong[f"{COPY}/moving_psnr"] + 3
    assert noisy["world/moving_psnr"] > wrong["world/moving_psnr"]


def test_the_figures_are_those_of_the_frames_put_together() -> None:
    """Against PSNR over all frames at once, baselines included."""
    study = Study(world=SquareWorld(4), held_out=recordings())
    pairs = np.stack([e.frames for e in study.excerpts(study.held_out.places(20, 1, 0), 1)])
    found = measured(SquareWorld(4))
    moving = moving_pixels(pairs[:, 0], pairs[:, 1])
    assert found[f"{COPY}/psnr"] == pytest.approx(psnr(pairs[:, 1], pairs[:, 0]))
    assert found[f"{COPY}/moving_psnr"] == pytest.approx(psnr(pairs[:, 1], pairs[:, 0], moving))
    through = SquareWorld(4).reconstruct(pairs[:, 1])
    assert through is not None and found[f"{CODEC}/psnr"] == pytest.approx(psnr(pairs[:, 1], through))


def test_steps_are_compared_on_the_same_starts() -> None:
    world = SquareWorld(4, noise=60, with_steps=True)
    found = measured(world)
    assert found["4 steps/psnr"] == MAX_PSNR > found["1 step/psnr"]
    seeds = [seed for _, seed in world.resets]
    assert len(seeds) == 40 and len(set(seeds)) == 20, "the same seeds under both settings"
    assert world.options["num_inference_steps"].value == 1


def test_a_perceptual_distance_is_used_where_it_is_at_hand() -> None:
    def difference(real: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.abs(real.astype(float) - other).mean((1, 2, 3))

    assert "lpips" not in pixel_values(*np.zeros((3, 16, 16, 3), np.uint8))
    found = measured(SquareWorld(4, wrong=True), perceptual=difference)
    assert found["world/lpips"] > found[f"{CODEC}/lpips"] > 0
    assert measured(SquareWorld(4), perceptual=difference)["world/lpips"] == 0


def test_the_section_has_worlds_first_then_their_bounds_and_says_what_is_missing() -> None:
    world = SquareWorld(4, noise=60, with_steps=True)
    metric = NextFrame(settings=step_settings(world, (1, 4)), num_starts=8, perceptual_missing="weights not found")
    result = evaluate(Study(world=world, held_out=recordings()), [metric])[metric.name]
    (section,) = metric.sections(result.figures)
    assert [name for name, _ in section.tables[0].rows] == ["1 step", "4 steps", COPY, CODEC]
    assert "LPIPS: not measured: weights not found" in section.notes
    assert [plot.series["world"].x for plot in section.plots] == [[1, 4], [1, 4]]


def test_the_clip_shows_the_frame_that_was_measured() -> None:
    study = Study(world=SquareWorld(1, wrong=True), held_out=recordings())
    metric = NextFrame(num_starts=4)
    (place, *_) = study.held_out.places(4, 1, 0)
    clip = metric.clip(study, place, "world/psnr")
    assert clip is not None and set(clip.panels) == {"real game", "dream", "codec"}
    (excerpt,) = study.excerpts([place], 1)
    assert np.array_equal(clip.panels["real game"], excerpt.frames)
    assert np.array_equal(clip.panels["dream"][0], excerpt.frames[0])
