"""evaluation.clips: the best, the median and the worst, in the direction of the measure, at the speed of the game."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from gamengen.evaluation.budget import Budget
from gamengen.evaluation.clips import animate, extremes, show
from gamengen.evaluation.figures import Measure, Sample
from gamengen.evaluation.rollouts import Rollouts
from gamengen.evaluation.run import evaluate
from gamengen.evaluation.section import Clip
from gamengen.evaluation.study import Study
from tests.evaluated_worlds import SquareWorld, draw, recordings
from tests.worlds import tiny_game


def test_extremes_follow_what_is_better() -> None:
    values = [3.0, 1.0, 2.0, np.nan, 5.0, 4.0]
    samples = [Sample(f"e{i}", i, {"world/error": np.array([v, 1.0])}) for i, v in enumerate(values)]
    found = extremes(samples, "world/error", Measure(title="error", better="lower"))
    assert [(name, value) for name, _, value in found] == [("best", 1.0), ("median", 3.0), ("worst", 5.0)]
    found = extremes(samples, "world/error", Measure(title="quality"))
    assert [(name, value) for name, _, value in found] == [("best", 5.0), ("median", 3.0), ("worst", 1.0)]
    assert [name for name, *_ in extremes(samples[:1], "world/error", Measure(title="error"))] == ["best"]
    assert extremes(samples, "world/other", Measure(title="other")) == []


@pytest.mark.parametrize("count", [2, 6])
def test_an_animation_has_the_panels_the_keys_and_the_games_speed(count: int) -> None:
    frames = np.stack([draw(2 * t) for t in range(count)])
    clip = Clip({"real game": frames, "dream": frames}, np.array([-1, 1, 2, 0, 1, 2])[:count])
    image = Image.open(io.BytesIO(animate(clip, tiny_game(16))))
    assert image.n_frames == count and image.width > 2 * 13 * 16  # type: ignore[attr-defined]
    image.seek(1)
    image.load()
    assert image.info["duration"] == (700 if count == 2 else round(1000 / 15))


def test_the_shown_samples_are_the_ranked_ones_and_time_ends_them() -> None:
    study = Study(world=SquareWorld(1, wrong=True), held_out=recordings())
    metric = Rollouts(num_starts=5, horizon=8)
    samples = evaluate(study, [metric])["rollouts"].samples
    ((title, shown),) = list(show(metric, study, samples, Budget(None)))
    assert title == "PSNR, moving pixels, world" and [one.title for one in shown] == ["best", "median", "worst"]
    assert all(one.text.startswith(tuple("0123456789")) and "episode e" in one.text for one in shown)
    spent = Budget(1, clock=iter([0.0] + [1e9] * 99).__next__)
    assert list(show(metric, study, samples, spent)) == []
