"""From raw values to figures: a value, how many samples it stands on, and an interval over episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gamengen.metrics import MAX_PSNR
from gamengen.noise import key_of

Values = npt.NDArray[np.float64]

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.96
"""Standard errors to either side that hold 95 % of a normal distribution."""
NO_ERROR = 1e-9
"""A mean squared error below it is 100 dB and more: none."""
RESAMPLES = 1000
MAX_LEFT_OUT = 100
"""Of measures that are no ratio of sums: each is computed anew so many times at most, without some of the episodes."""
INTERVALS = (
    "Intervals are 95 %, bootstrapped over episodes. Where every episode gives a share of 0, or of 1, they are the "
    "exact one-sided bound for so many episodes; those of distances between distributions come from leaving out an "
    "episode at a time."
)
"""For the reader of a report."""


@dataclass(frozen=True)
class Sample:
    """What one start gave."""

    episode: str
    """The unit of the bootstrap: samples of one episode are not independent."""
    frame: int
    """The newest frame that the world saw is `frames[frame]` of that episode."""
    values: Mapping[str, Values]
    """Path (see the room's docstring) -> raw values, (2, ...) for ratios. Equal shapes in all samples."""


def ratio(sums: Values) -> Values:
    """(2, ...) -> (...): what was counted by how much it was counted of; NaN where there was nothing."""
    counted, count = sums
    quotient: Values = np.divide(counted, count, out=np.full(np.shape(counted), np.nan), where=np.asarray(count) > 0)
    return quotient


def decibel(sums: Values) -> Values:
    """(2, ...) squared errors in 0..255 units and how many -> PSNR in dB of their mean, at most 100."""
    means = np.maximum(ratio(sums), NO_ERROR)
    values: Values = np.minimum(10 * np.log10(255.0**2 / means), MAX_PSNR)
    return values


ELEMENTWISE = (ratio, decibel)
"""Of (2, ...) they may be asked for all draws of a bootstrap at once: each value comes from its own two sums."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Something that a metric measures."""

    title: str
    """For people, such as `PSNR, moving pixels`."""
    unit: str = ""
    better: Literal["higher", "lower", ""] = "higher"
    digits: int = 2
    of_sums: Callable[[Values], Values] = ratio
    """Raw values summed over samples -> the figure."""
    of_samples: Callable[[Values], Values] | None = None
    """(N, ...) raw values of all samples -> the figure, a distance of at least 0; in place of `of_sums`."""
    is_share: bool = False
    """A ratio between 0 and 1: when all episodes agree on an end of that the interval still has a width."""


@dataclass(frozen=True)
class Figure:
    """A measured value. `value`, `low` and `high` are lists (of lists) for curves and tables, None where undefined."""

    value: Any
    low: Any
    """Of the 95 % interval; None below two episodes: nothing is known of how episodes differ."""
    high: Any
    samples: int
    """Those that tell something: starts in which there was nothing to count are left out."""
    episodes: int
    """Those of these samples."""
    unit: str = ""
    better: str = ""

    def at(self, *index: int) -> Figure:
        """One value of a curve or table, with its interval."""
        value, low, high = self.value, self.low, self.high
        for i in index:
            value, low, high = value[i], low[i], high[i]
        return replace(self, value=value, low=low, high=high)

    def array(self, which: Literal["value", "low", "high"] = "value") -> Values:
        """The curve or table as floats, NaN where undefined."""
        return np.array(getattr(self, which), dtype=np.float64)


Figures = dict[str, Figure]
"""Path -> figure, of one metric."""


def figures_of(samples: Sequence[Sample], measures: Mapping[str, Measure], seed: int) -> Figures:
    """All figures of a metric's samples.

    Raises:
        ValueError: a path whose second word is no measure.
    """
    by_path: dict[str, list[Sample]] = {}
    for sample in samples:
        for path in sample.values:
            by_path.setdefault(path, []).append(sample)
    figures = {}
    for path, found in by_path.items():
        words = path.split("/")
        if len(words) < 2 or words[1] not in measures:
            raise ValueError(f"path {path!r}: expected setting/measure with a measure of {sorted(measures)}")
        values = np.stack([np.asarray(sample.values[path], np.float64) for sample in found])
        figures[path] = _figure(values, [sample.episode for sample in found], measures[words[1]], key_of(seed, path))
    return figures


def _figure(values: Values, episodes: Sequence[str], measure: Measure, seed: int) -> Figure:
    telling = _telling(values, measure)
    names, group = np.unique(np.array(episodes)[telling], return_inverse=True)
    value = measure.of_samples(values) if measure.of_samples is not None else measure.of_sums(values[telling].sum(0))
    low, high = (np.full(np.shape(value), np.nan) for _ in range(2))
    if len(names) > 1 and measure.of_samples is not None:
        low, high = _jackknifed(values, group, len(names), measure.of_samples)
    elif len(names) > 1:
        sums = np.zeros((len(names), *values.shape[1:]))
        np.add.at(sums, group, values[telling])
        draws = _resampled(sums, measure, np.random.default_rng(seed))
        outside = (1 - CONFIDENCE) / 2
        known = np.isfinite(draws).any(0)
        if known.any():
            low[known], high[known] = np.nanquantile(draws[:, known], [outside, 1 - outside], axis=0)
        if measure.of_sums in ELEMENTWISE:
            low, high = _bounded(low, high, sums, measure)
    return Figure(
        _plain(value), _plain(low), _plain(high), int(telling.sum()), len(names), measure.unit, measure.better
    )


def _telling(values: Values, measure: Measure) -> npt.NDArray[np.bool_]:
    """(N,) of (N, ...): the samples in which there was something to count."""
    if measure.of_samples is not None:
        return np.ones(len(values), bool)
    counts = values[:, 1] if measure.of_sums in ELEMENTWISE else values
    found: npt.NDArray[np.bool_] = (counts != 0).reshape(len(values), -1).any(1)
    return found


def _resampled(sums: Values, measure: Measure, rng: np.random.Generator) -> Values:
    """(episodes, ...) raw values summed over each -> (R, ...): the figure of R draws of as many, with replacement."""
    count = len(sums)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)
    drawn = np.tensordot(weights, sums, axes=1)
    if measure.of_sums in ELEMENTWISE:
        return measure.of_sums(np.moveaxis(drawn, 1, 0))
    return np.stack([measure.of_sums(one) for one in drawn])


def _bounded(low: Values, high: Values, sums: Values, measure: Measure) -> tuple[Values, Values]:
    """The interval (...) of (episodes, 2, ...): none of a single episode, one of its own for shares that all agree on.

    Source: Clopper and Pearson 1934: of n trials without a hit the probability is at most 1 - (0.05 / 2)^(1/n).
    """
    counted, counts = sums[:, 0], sums[:, 1]
    trials = (counts > 0).sum(0)
    if measure.is_share:
        bound = ((1 - CONFIDENCE) / 2) ** (1 / np.maximum(trials, 1))
        none, every = (counted == 0).all(0), (counted == counts).all(0)
        low, high = np.where(every, bound, low), np.where(none, 1 - bound, high)
    return np.where(trials > 1, low, np.nan), np.where(trials > 1, high, np.nan)


def _jackknifed(
    values: Values, group: npt.NDArray[np.int64], num_groups: int, of_samples: Callable[[Values], Values]
) -> tuple[Values, Values]:
    """The interval from leaving out one episode at a time (some at a time, of very many).

    Not a bootstrap: drawn with replacement, episodes come twice, which alone puts distributions apart, so that the
    interval of a distance would lie above the distance itself.

    Source: Tukey 1958, "Bias and confidence in not-quite large samples".
    """
    left_out = np.array_split(np.arange(num_groups), min(num_groups, MAX_LEFT_OUT))
    without = np.stack([of_samples(values[~np.isin(group, some)]) for some in left_out])
    n, value = len(without), of_samples(values)
    error = np.sqrt((n - 1) / n * ((without - without.mean(0)) ** 2).sum(0))
    return np.maximum(value - NORMAL_QUANTILE * error, 0.0), value + NORMAL_QUANTILE * error


def _plain(values: Values | float) -> Any:
    """JSON: floats, nested lists, None for NaN."""
    array = np.asarray(values, np.float64)
    if array.ndim:
        return [_plain(part) for part in array]
    return None if not np.isfinite(array) else float(array)
