"""From raw values to figures: a value, how many samples it stands on, and an interval bootstrapped over episodes."""

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
NO_ERROR = 1e-9
"""A mean squared error below it is 100 dB and more: none."""
RESAMPLES = 1000
RESAMPLES_OF_SAMPLES = 100
"""For measures that are no ratio of sums: each resample computes them anew."""


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
    """(N, ...) raw values of all samples -> the figure; in place of `of_sums`."""


@dataclass(frozen=True)
class Figure:
    """A measured value. `value`, `low` and `high` are lists (of lists) for curves and tables, None where undefined."""

    value: Any
    low: Any
    """Of the 95 % interval; None below two episodes: nothing is known of how episodes differ."""
    high: Any
    samples: int
    episodes: int
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
    names, group = np.unique(np.array(episodes), return_inverse=True)
    value = measure.of_samples(values) if measure.of_samples is not None else measure.of_sums(values.sum(0))
    low = high = np.full(np.shape(value), np.nan)
    if len(names) > 1:
        draws = _resampled(values, group, len(names), measure, np.random.default_rng(seed))
        outside = (1 - CONFIDENCE) / 2
        known = np.isfinite(draws).any(0)
        low, high = (np.full(np.shape(value), np.nan) for _ in range(2))
        if known.any():
            low[known], high[known] = np.nanquantile(draws[:, known], [outside, 1 - outside], axis=0)
    return Figure(_plain(value), _plain(low), _plain(high), len(values), len(names), measure.unit, measure.better)


def _resampled(
    values: Values, group: npt.NDArray[np.int64], num_groups: int, measure: Measure, rng: np.random.Generator
) -> Values:
    """(R, ...): the figure of R draws of as many episodes, with replacement."""
    if measure.of_samples is not None:
        draws = rng.integers(num_groups, size=(RESAMPLES_OF_SAMPLES, num_groups))
        members = [np.flatnonzero(group == g) for g in range(num_groups)]
        return np.stack([measure.of_samples(values[np.concatenate([members[g] for g in draw])]) for draw in draws])
    sums = np.zeros((num_groups, *values.shape[1:]))
    np.add.at(sums, group, values)
    weights = rng.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=RESAMPLES).astype(np.float64)
    drawn = np.tensordot(weights, sums, axes=1)
    if measure.of_sums in ELEMENTWISE:
        return measure.of_sums(np.moveaxis(drawn, 1, 0))
    return np.stack([measure.of_sums(one) for one in drawn])


def _plain(values: Values | float) -> Any:
    """JSON: floats, nested lists, None for NaN."""
    array = np.asarray(values, np.float64)
    if array.ndim:
        return [_plain(part) for part in array]
    return None if not np.isfinite(array) else float(array)
