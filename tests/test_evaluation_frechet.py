"""evaluation.frechet against its closed form, also for singular covariances."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.figures import Sample, figures_of
from gamengen.evaluation.frechet import FRECHET_MEASURES, ClipFeatures, clip_values, frechet_distance


def test_it_is_the_closed_form_for_diagonal_gaussians() -> None:
    """With exact sample moments: sum of (m1 - m2)^2 + (s1 - s2)^2."""
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T * np.sqrt(7 / 8)
    one, other = corners * [1, 2, 3], corners * [2, 2, 0] + [1, 0, -2]
    assert frechet_distance(one, other) == pytest.approx((1 + 0 + 4) + (1 + 0 + 9))
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)


def test_it_is_symmetric_and_holds_for_fewer_samples_than_dimensions() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(5, 20)), rng.normal(1, 2, (6, 20))
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one), rel=1e-6)
    rotation = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    assert frechet_distance(one @ rotation, other @ rotation) == pytest.approx(frechet_distance(one, other), rel=1e-6)
    assert np.isnan(frechet_distance(one[:1], other))


@pytest.mark.parametrize("apart", [0.0, 0.5])
def test_the_interval_holds_the_distance(apart: float) -> None:
    """Also of as few clips as an evaluation has, with more features than clips."""
    rng = np.random.default_rng(3)
    clips = rng.normal(size=(32, 2, 1, 64)) + np.array([0.0, apart]).reshape(1, 2, 1, 1)
    samples = [Sample(f"e{i}", 0, {"world/fvd16": clip}) for i, clip in enumerate(clips)]
    figure = figures_of(samples, FRECHET_MEASURES, seed=0)["world/fvd16"]
    assert 0 <= figure.low <= figure.value <= figure.high and figure.low < figure.high


def test_raw_values_pool_all_vectors_of_all_clips() -> None:
    features = ClipFeatures("agent_distance", 4, lambda frames: frames[::2, 0, 0].astype(float))
    rng = np.random.default_rng(1)
    clips = rng.integers(0, 255, (6, 2, 9, 2, 2, 3), dtype=np.uint8)
    samples = [
        Sample(f"e{i}", 0, {f"world/{name}": value for name, value in clip_values(features, *pair).items()})
        for i, pair in enumerate(clips)
    ]
    figure = figures_of(samples, FRECHET_MEASURES, seed=0)["world/agent_distance"]
    real, shown = (clips[:, side, :4:2, 0, 0].reshape(-1, 3).astype(float) for side in (0, 1))
    assert figure.value == pytest.approx(frechet_distance(real, shown)) and figure.high > figure.low
    assert clip_values(features, clips[0, 0, :3], clips[0, 1, :3]) == {}, "a rollout shorter than the clip"
