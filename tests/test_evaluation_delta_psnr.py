"""delta_psnr: Genie's measure of control, from its definition. More in test_liars.py."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.delta_psnr import DeltaPsnr, delta
from gamengen.evaluation.run import evaluate
from gamengen.metrics import psnr
from gamengen.noise import key_of
from tests.liar_worlds import Blurs, pong_study


def test_it_is_the_difference_of_two_psnrs_of_mean_errors() -> None:
    squared = np.array([[[100.0], [10.0]], [[4000.0], [10.0]]])
    assert delta(squared)[0] == pytest.approx(10 * np.log10(400 / 10))


def test_it_equals_the_psnr_of_frames_that_were_made_by_hand() -> None:
    study = pong_study(num_worlds=1)
    study = pong_study(Blurs(study.world))
    metric = DeltaPsnr(num_starts=1, horizon=3)
    figures = evaluate(study, [metric])["delta_psnr"].figures
    (excerpt,) = study.excerpts(study.held_out.places(1, 3, study.seed), 3)
    place = excerpt.place
    drawn = np.random.default_rng(key_of("delta", study.seed, place.episode, place.frame)).integers(6, size=3)
    shown = [
        np.concatenate([step.frames for step in study.dream(study.world, [excerpt], actions[None])])
        for actions in (excerpt.actions, drawn)
    ]
    for t in range(3):
        near, far = (psnr(excerpt.frames[t + 1], frames[t]) for frames in shown)
        assert near is not None and far is not None
        assert figures["world/curve"].value[t] == pytest.approx(near - far, abs=1e-4)
    assert figures["world/last"].value == pytest.approx(figures["world/curve"].value[-1])
    (section,) = metric.sections(figures)
    assert "real game" not in section.plots[0].series and "world" in section.plots[0].series
