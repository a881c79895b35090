"""evaluation.figures: sums before ratios, dB of means, and intervals that know which samples belong together."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from gamengen.evaluation.figures import Figure, Measure, Sample, decibel, figures_of, ratio
from gamengen.metrics import psnr_of

MEASURES = {"share": Measure(title="share"), "psnr": Measure(title="PSNR", unit="dB", of_sums=decibel)}


def samples(values: np.ndarray, episodes: list[str], path: str = "world/share") -> list[Sample]:
    return [Sample(episode, i, {path: value}) for i, (episode, value) in enumerate(zip(episodes, values, strict=True))]


def test_a_ratio_is_of_sums_and_psnr_of_the_mean_error() -> None:
    values = np.array([[1.0, 2.0], [3.0, 8.0]])
    figure = figures_of(samples(values, ["a", "b"]), MEASURES, seed=0)["world/share"]
    assert figure.value == pytest.approx(4 / 10) and (figure.samples, figure.episodes) == (2, 2)
    errors = np.array([[100.0, 1.0], [300.0, 1.0]])
    found = figures_of(samples(errors, ["a", "b"], "world/psnr"), MEASURES, seed=0)["world/psnr"]
    assert found.value == pytest.approx(10 * np.log10(255**2 / 200)) and found.unit == "dB"
    assert np.isnan(ratio(np.array([0.0, 0.0])))
    means = np.array([0.0, 1e-12, 0.5, 200.0, 65025.0])
    assert decibel(np.stack([means, np.ones(5)])) == pytest.approx([psnr_of(mean) for mean in means])


def test_the_interval_is_that_of_drawing_whole_episodes() -> None:
    """Against a bootstrap written out, and unmoved by repeating an episode's samples."""
    rng = np.random.default_rng(0)
    per_episode = rng.random(12)
    values = np.stack([per_episode, np.ones(12)], axis=1)
    names = [f"e{i}" for i in range(12)]
    once = figures_of(samples(values, names), MEASURES, seed=1)["world/share"]
    draws = [per_episode[rng.integers(12, size=12)].mean() for _ in range(4000)]
    assert [once.low, once.high] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)
    often = figures_of(samples(values.repeat(50, axis=0), [n for n in names for _ in range(50)]), MEASURES, seed=1)
    assert [often["world/share"].low, often["world/share"].high] == pytest.approx([once.low, once.high])
    assert often["world/share"].samples == 600 and often["world/share"].episodes == 12


def test_all_draws_at_once_are_those_one_by_one() -> None:
    rng = np.random.default_rng(3)
    values, names = rng.random((8, 2, 3)) + 0.1, [f"e{i % 4}" for i in range(8)]
    together = figures_of(samples(values, names), {"share": Measure(title="x", of_sums=ratio)}, seed=4)
    apart = figures_of(samples(values, names), {"share": Measure(title="x", of_sums=lambda s: s[0] / s[1])}, seed=4)
    for side in ("value", "low", "high"):
        assert together["world/share"].array(side) == pytest.approx(apart["world/share"].array(side))  # type: ignore[arg-type]


def test_more_episodes_tell_more_and_one_tells_nothing() -> None:
    rng = np.random.default_rng(2)
    widths = []
    for count in (4, 64):
        values = np.stack([rng.random(count), np.ones(count)], axis=1)
        figure = figures_of(samples(values, [str(i) for i in range(count)]), MEASURES, seed=0)["world/share"]
        assert figure.low < figure.value < figure.high
        widths.append(figure.high - figure.low)
    assert widths[1] < widths[0] / 2
    alone = figures_of(samples(np.ones((5, 2)), ["a"] * 5), MEASURES, seed=0)["world/share"]
    assert (alone.value, alone.low, alone.high) == (1.0, None, None)


def test_curves_have_an_interval_at_each_point_and_are_json() -> None:
    values = np.stack([np.array([[1.0, 0.0, 0.0], [2.0, 1.0, 0.0]])] * 4)
    figure = figures_of(samples(values, ["a", "a", "b", "c"]), MEASURES, seed=0)["world/share"]
    assert figure.value == [0.5, 0.0, None] and figure.low == [0.5, 0.0, None]
    assert json.loads(json.dumps(asdict(figure)))["value"] == [0.5, 0.0, None]
    assert figure.at(0) == Figure(0.5, 0.5, 0.5, 4, 3, "", "higher")
    assert np.isnan(figure.array()[2])


def test_what_is_no_ratio_is_computed_from_the_samples_and_again_without_each_episode() -> None:
    """The jackknife of a mean is its standard error; no distance is below 0."""
    measures = {"mean": Measure(title="mean", of_samples=lambda values: np.mean(values, axis=0))}
    values = np.array([10.0, 11.0, 15.0, 20.0])
    figure = figures_of(samples(values, ["a", "b", "c", "d"], "world/mean"), measures, seed=0)["world/mean"]
    half = 1.96 * values.std(ddof=1) / 2
    assert (figure.value, figure.low, figure.high) == pytest.approx((14, 14 - half, 14 + half))
    near = figures_of(samples(values - 9.9, ["a", "b", "c", "d"], "world/mean"), measures, seed=0)["world/mean"]
    assert near.low == 0 and near.high == pytest.approx(4.1 + half)
    # Several of very many episodes are left out at a time: about the same.
    many = np.random.default_rng(0).random(500)
    figure = figures_of(samples(many, [str(i) for i in range(500)], "world/mean"), measures, seed=0)["world/mean"]
    assert figure.high - figure.value == pytest.approx(1.96 * many.std(ddof=1) / np.sqrt(500), rel=0.3)


def test_starts_with_nothing_to_count_are_not_counted() -> None:
    values = np.array([[7.0, 0.0], [3.0, 4.0], [0.0, 0.0], [2.0, 4.0]])  # the first: something, but of nothing
    figure = figures_of(samples(values, ["a", "b", "c", "d"]), MEASURES, seed=0)["world/share"]
    assert (figure.samples, figure.episodes, figure.value) == (2, 2, 5 / 8) and figure.low < figure.high
    alone = figures_of(samples(values[:3], ["a", "b", "c"]), MEASURES, seed=0)["world/share"]
    assert (alone.samples, alone.episodes, alone.low, alone.high) == (1, 1, None, None)
    nothing = figures_of(samples(values[:1], ["a"]), MEASURES, seed=0)["world/share"]
    assert (nothing.samples, nothing.episodes, nothing.value) == (0, 0, None)
    # Of a curve each point by itself: the second one only one episode has.
    curves = np.array([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [2.0, 2.0]]])
    figure = figures_of(samples(curves, ["a", "b"]), MEASURES, seed=0)["world/share"]
    assert figure.low[0] is not None and figure.low[1] is None and figure.high[1] is None and figure.samples == 2
    # Of a measure that is made of whole tables: a table of nothing.
    table = {"all": Measure(title="all", of_sums=lambda sums: np.array(sums.sum()))}
    tables = [np.zeros((2, 2)), np.eye(2), 2 * np.eye(2)]
    figure = figures_of(samples(np.stack(tables), ["a", "b", "c"], "world/all"), table, seed=0)["world/all"]
    assert (figure.samples, figure.episodes) == (2, 2)


def test_a_share_that_all_episodes_agree_on_has_the_exact_bound() -> None:
    """Four of four: a chance of 0.398 gives that once in 40 times."""
    measures = {"share": Measure(title="share", is_share=True), "error": Measure(title="error")}
    for counted, low, high in ((1.0, 0.025**0.25, 1.0), (0.0, 0.0, 1 - 0.025**0.25)):
        values = np.array([[counted, 1.0]] * 8)
        episodes = ["a", "a", "b", "b", "c", "c", "d", "d"]
        figure = figures_of(samples(values, episodes), measures, seed=0)["world/share"]
        assert (figure.value, figure.low, figure.high) == pytest.approx((counted, low, high))
        other = figures_of(samples(values, episodes, "world/error"), measures, seed=0)["world/error"]
        assert other.low == other.high == counted, "no share: 1 px is no end of anything"
    # Those that had nothing to count are no trials, and where they differ it is the bootstrap.
    values = np.array([[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]])
    assert figures_of(samples(values, ["a", "b", "c"]), measures, seed=0)["world/share"].low == pytest.approx(
        0.025**0.5
    )
    values = np.array([[1.0, 1.0], [1.0, 2.0], [2.0, 3.0]])
    mixed = [figures_of(samples(values, ["a", "b", "c"]), one, seed=0)["world/share"] for one in (measures, MEASURES)]
    assert mixed[0] == mixed[1]


def test_an_unknown_measure_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="world/shade"):
        figures_of(samples(np.ones((1, 2)), ["a"], "world/shade"), MEASURES, seed=0)
