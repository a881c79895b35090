"""Which metrics an evaluation has, and how much of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gamengen.evaluation.action_reading import ActionReading
from gamengen.evaluation.agent_play import AgentPlay
from gamengen.evaluation.ball_play import BallPlay
from gamengen.evaluation.counterfactual import Counterfactual
from gamengen.evaluation.delta_psnr import DeltaPsnr
from gamengen.evaluation.drift import Drift
from gamengen.evaluation.frechet import ClipFeatures
from gamengen.evaluation.metric import Metric
from gamengen.evaluation.next_frame import NextFrame, PairDistance
from gamengen.evaluation.rollouts import Rollouts
from gamengen.evaluation.speed import Speed
from gamengen.evaluation.stability import Stability
from gamengen.evaluation.study import step_settings
from gamengen.world import World


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured."""

    num_starts: int = 256
    """Next frames that are predicted, spread over the held-out episodes."""
    steps: tuple[int, ...] = (1, 2, 4, 8)
    """Denoising steps a frame at which next frames and speed are compared."""
    num_rollouts: int = 32
    """Free-running rollouts."""
    horizon: int = 256
    """Frames of a rollout; no more than half of the held-out episodes (and two) have."""
    rollout_steps: tuple[int, ...] = (1, 4)
    """Denoising steps a frame of the rollouts, of control and of drift."""
    drift_frames: int = 1000
    """Frames of a long dream, in whole hundreds; under the first of `rollout_steps` alone."""
    metrics: tuple[str, ...] = ()
    """Only these, by their names in report.json; none: all."""


@dataclass(frozen=True)
class Networks:
    """Networks that somebody else trained, where they are at hand, and what is missing where they are not."""

    perceptual: PairDistance | None = None
    clip_features: tuple[ClipFeatures, ...] = ()
    lpips_backbone: str = ""
    lpips_missing: str = ""
    clips_missing: tuple[str, ...] = ()


def suite(world: World, scale: Scale, networks: Networks) -> Sequence[Metric]:
    """All metrics, or those that are asked for, in the order of the report. ValueError names an unknown one."""
    settings, rollout_settings = step_settings(world, scale.steps), step_settings(world, scale.rollout_steps)
    metrics: list[Metric] = [
        NextFrame(
            settings=settings, num_starts=scale.num_starts, perceptual=networks.perceptual,
            perceptual_backbone=networks.lpips_backbone, perceptual_missing=networks.lpips_missing,
        ),
        Rollouts(
            settings=rollout_settings, num_starts=scale.num_rollouts, horizon=scale.horizon,
            perceptual=networks.perceptual, perceptual_backbone=networks.lpips_backbone,
            clip_features=networks.clip_features, not_measured=networks.clips_missing,
        ),
        ActionReading(settings=rollout_settings),
        Counterfactual(settings=rollout_settings),
        DeltaPsnr(settings=rollout_settings),
        Stability(settings=rollout_settings),
        AgentPlay(settings=rollout_settings),
        BallPlay(settings=rollout_settings[:1]),
        Drift(settings=rollout_settings[:1], horizon=scale.drift_frames),
        Speed(settings=settings),
    ]  # fmt: skip
    names = [metric.name for metric in metrics]
    unknown = sorted(set(scale.metrics) - set(names))
    if unknown:
        raise ValueError(f"--metrics: there is no {unknown[0]!r}; expected some of: {', '.join(names)}")
    return [metric for metric in metrics if not scale.metrics or metric.name in scale.metrics]
