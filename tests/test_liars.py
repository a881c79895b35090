"""No liar above the real game, and each liar caught by the metric that is named for it."""

from __future__ import annotations

from functools import cache

import pytest

from gamengen.evaluation.counterfactual import Counterfactual
from gamengen.evaluation.delta_psnr import DeltaPsnr
from gamengen.evaluation.figures import Figures
from gamengen.evaluation.metric import Metric
from gamengen.evaluation.run import evaluate
from gamengen.evaluation.stability import Stability
from tests.liar_worlds import LIARS, pong_study

SMALL: dict[str, Metric] = {
    metric.name: metric for metric in (Counterfactual(num_starts=3), DeltaPsnr(num_starts=3), Stability(num_starts=3))
}
CAUGHT_BY = [
    ("copies the last frame", "counterfactual", "right", 0.0),
    ("copies the last frame", "stability", "round_trip", 0.0),
    ("copies the last frame", "delta_psnr", "last", 0.0),
    ("ignores actions", "counterfactual", "right", 0.0),
    ("ignores actions", "counterfactual", "direction", 0.0),
    ("ignores actions", "delta_psnr", "last", 0.0),
    ("ignores actions", "stability", "round_trip", 0.0),
    ("swaps left and right", "counterfactual", "direction", -0.9),
    ("swaps left and right", "counterfactual", "right", 0.0),
    ("swaps left and right", "stability", "round_trip", 0.5),
    ("blurs", "delta_psnr", "last", 5.0),
    ("blurs", "counterfactual", "direction", 0.99),
]
"""Liar, metric, measure, and the most that it may reach there. The real game's own figures are far above."""


@cache
def figures_of(liar: str | None, metric: str) -> Figures:
    study = pong_study()
    if liar is not None:
        study = pong_study(LIARS[liar](study.world))
    return evaluate(study, [SMALL[metric]])[metric].figures


@pytest.mark.parametrize(("liar", "metric", "measure", "most"), CAUGHT_BY)
def test_a_liar_is_caught(liar: str, metric: str, measure: str, most: float) -> None:
    lie, truth = (figures_of(who, metric)[f"world/{measure}"].value for who in (liar, None))
    assert lie <= most < truth


@pytest.mark.parametrize("metric", SMALL)
@pytest.mark.parametrize("liar", sorted({row[0] for row in CAUGHT_BY}))
def test_no_liar_is_ranked_above_the_real_game(liar: str, metric: str) -> None:
    truth = figures_of(None, metric)
    for path, figure in figures_of(liar, metric).items():
        if not path.startswith("world/") or not figure.better or figure.value is None:
            continue
        for lie, true in zip(figure.array().ravel(), truth[path].array().ravel(), strict=True):
            assert lie <= true if figure.better == "higher" else lie >= true, path
