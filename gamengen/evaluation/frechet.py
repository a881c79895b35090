"""Frechet distances between real and dreamt clips, on the features of a network that somebody else trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Measure, Values

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class ClipFeatures:
    """What a network says of a clip, and under which measure the distance is reported."""

    measure: str
    """A key of `FRECHET_MEASURES`: a distance has the name of its network, never another's."""
    num_frames: int
    """The clip: the first so many frames of a rollout."""
    of_clip: Callable[[Frames], Values]
    """uint8 (T, H, W, 3) -> (K, d): one feature vector of the clip, or one of each of K places in it."""


def frechet_distance(real: Values, shown: Values) -> float:
    """Between the Gaussians of two sets of feature vectors (N, d): |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)).

    NaN for fewer than two vectors: they have no covariance.

    Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6. The trace of the root comes from the eigenvalues of
        C1^(1/2) C2 C1^(1/2), which is symmetric: no complex root of an ill-conditioned product.
    """
    if len(real) < 2 or len(shown) < 2:
        return float("nan")
    first, second = np.cov(real, rowvar=False), np.cov(shown, rowvar=False)
    first, second = np.atleast_2d(first), np.atleast_2d(second)
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ second @ root)
    mean = real.mean(0) - shown.mean(0)
    trace = np.trace(first) + np.trace(second) - 2 * np.sqrt(np.maximum(inner, 0)).sum()
    return float(max(0.0, mean @ mean + trace))


def clip_values(features: ClipFeatures, real: Frames, shown: Frames) -> dict[str, Values]:
    """Raw values of one rollout: {measure: (2, K, d)}; nothing where the rollout is shorter than the clip."""
    if len(shown) < features.num_frames:
        return {}
    both = [features.of_clip(frames[: features.num_frames]) for frames in (real, shown)]
    return {features.measure: np.stack(both)}


def _of_samples(values: Values) -> Values:
    """(N, 2, K, d) -> the distance over all N * K vectors."""
    real, shown = (values[:, side].reshape(-1, values.shape[-1]) for side in (0, 1))
    return np.array(frechet_distance(real, shown))


FRECHET_MEASURES: Mapping[str, Measure] = {
    "fvd16": Measure(title="FVD, 16 frames", better="lower", digits=1, of_samples=_of_samples),
    "fvd32": Measure(title="FVD, 32 frames", better="lower", digits=1, of_samples=_of_samples),
    "agent_distance": Measure(
        title="Frechet distance, agent's features", better="lower", digits=4, of_samples=_of_samples
    ),
}
