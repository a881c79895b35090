"""The best, the median and the worst sample of a metric, as small animations."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from gamengen.contract import GameContract
from gamengen.evaluation.budget import Budget
from gamengen.evaluation.figures import Measure, Sample
from gamengen.evaluation.metric import Metric
from gamengen.evaluation.recordings import Place
from gamengen.evaluation.section import Clip
from gamengen.evaluation.study import Study
from gamengen.media import draw_actions, side_by_side, upscale

PANEL_HEIGHT = 210
"""Smaller frames are enlarged by a whole number up to about this height."""
QUALITY = 85
SHORTEST_MS = 33
STILL_MS = 700
"""A frame of a clip of two: long enough to compare."""


@dataclass(frozen=True)
class Shown:
    """An animation of one sample."""

    title: str
    """Such as `worst`."""
    text: str
    """Where it is and what was measured there."""
    webp: bytes


def extremes(samples: Sequence[Sample], path: str, measure: Measure) -> list[tuple[str, Sample, float]]:
    """(best, median, worst) samples by a path's value, fewer where there are fewer; a curve counts by its mean."""
    values = []
    for sample in samples:
        if path in sample.values and measure.of_samples is None:
            value = np.asarray(measure.of_sums(np.asarray(sample.values[path], np.float64)))
            if np.isfinite(value).any():
                values.append((float(np.nanmean(value)), sample))
    values.sort(key=lambda pair: (pair[0], pair[1].episode, pair[1].frame), reverse=measure.better != "lower")
    if not values:
        return []
    chosen = {"best": 0, "median": len(values) // 2, "worst": len(values) - 1}
    first = {place: name for name, place in reversed(chosen.items())}
    return [(first[place], values[place][1], values[place][0]) for place in sorted(first)]


def show(metric: Metric, study: Study, samples: Sequence[Sample], budget: Budget) -> Iterator[tuple[str, list[Shown]]]:
    """(what they are ranked by, animations) for every path that the metric ranks its samples by; none without time."""
    for path in metric.ranked_by:
        label, name = path.split("/")[:2]
        measure = metric.measures[name]
        shown = []
        for title, sample, value in extremes(samples, path, measure):
            if budget.spent:
                break
            clip = metric.clip(study, Place(sample.episode, sample.frame), path)
            if clip is not None:
                text = f"{value:.{measure.digits}f} {measure.unit}".strip()
                text += f", episode {sample.episode}, frame {sample.frame}"
                shown.append(Shown(title, text, animate(clip, study.game)))
        if shown:
            yield f"{measure.title}, {label}", shown


def animate(clip: Clip, game: GameContract) -> bytes:
    """An animated WebP of the panels side by side, at the speed of the game."""
    height = next(iter(clip.panels.values())).shape[1]
    scale = max(1, round(PANEL_HEIGHT / height))
    frames = side_by_side({name: upscale(frames, scale) for name, frames in clip.panels.items()})
    if clip.actions is not None:
        frames = draw_actions(frames, clip.actions, game)
    images = [Image.fromarray(frame) for frame in frames]
    duration = STILL_MS if len(frames) <= 2 else max(SHORTEST_MS, round(1000 / game.fps))
    file = io.BytesIO()
    images[0].save(
        file, "WEBP", save_all=True, append_images=images[1:], duration=duration, loop=0, quality=QUALITY, method=2
    )
    return file.getvalue()
