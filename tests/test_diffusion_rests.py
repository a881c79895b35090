"""diffusion.rests: values at which cells rest are found, told from what passes, and recognised when they are worn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gamengen.diffusion.joint_rests import LEAST_SEEN
from gamengen.diffusion.rests import LEAST_DEVIATION, MAX_RESTS, Rests, measure_rests
from tests.worlds import random_rows, tiny_contract

LENGTH = 400


def measured(arrays: Tensor, lengths: Sequence[int] = (LENGTH,)) -> Rests:
    rows = replace(random_rows(tiny_contract(), lengths=tuple(lengths)), arrays=arrays)
    assert len(rows.actions) == len(arrays)
    deviation = (arrays - arrays.median(0).values).square().mean(0).sqrt().clamp(min=0.02)
    return measure_rests(rows, lambda part: arrays[part], deviation)


def still() -> Tensor:
    """(LENGTH, 2, 8, 8), all of it 0."""
    return torch.zeros((LENGTH, *tiny_contract().codec.array_shape))


def values_of(rests: Rests, row: int, column: int) -> list[list[float]]:
    values = rests.values[:, :, row, column]
    return sorted(value.tolist() for value in values[values.isfinite().all(1)])


def test_a_digit_that_counts_up_rests_at_each_of_its_values() -> None:
    arrays = still()
    for digit in range(10):
        arrays[40 * digit : 40 * digit + 40, 0, 3, 4] = 2.0 * digit
    rests = measured(arrays)
    assert values_of(rests, 3, 4) == [[2.0 * digit, 0.0] for digit in range(10)]
    assert values_of(rests, 0, 0) == [[0.0, 0.0]]
    assert rests.values.shape[0] == 10, "no more than are used"
    newest = arrays[200:201].clone()
    newest[0, :, 3, 4] += torch.tensor([0.6, -2.6])
    value, known = rests.nearest(newest)
    assert bool(known.all()) and torch.equal(value, arrays[200:201])


def test_what_passes_is_no_memory() -> None:
    """A ball that is in a cell for two frames, and a paddle that stops anywhere for a while and goes on."""
    arrays = still()
    arrays[::9, 0, 2, 2] = arrays[1::9, 0, 2, 2] = 3.0
    generator = torch.Generator().manual_seed(0)
    for first in range(0, LENGTH, 6):
        arrays[first : first + 6, 1, 5, 5] = 4 * torch.rand((), generator=generator)
    rests = measured(arrays)
    assert values_of(rests, 2, 2) == [] and values_of(rests, 5, 5) == []
    _, known = rests.nearest(arrays[:1])
    assert not known[0, 0, 2, 2] and not known[0, 0, 5, 5] and known[0, 0, 0, 0]


def test_a_value_is_the_mean_of_what_was_seen_and_rare_ones_count_little() -> None:
    generator = torch.Generator().manual_seed(0)
    length = 10 * LENGTH
    arrays = torch.zeros((length, *tiny_contract().codec.array_shape))
    arrays[:, :, 1, 1] = 0.03 * torch.randn((length, 2), generator=generator)
    arrays[200 : 200 + LEAST_SEEN, 0, 1, 1] = 5.0  # the first of them is no rest: it has just come
    arrays[300:700, 0, 1, 1] = -5.0
    (other, usual) = values_of(measured(arrays, (length,)), 1, 1)
    assert other[0] == pytest.approx(-5.0) and usual == pytest.approx([0, 0], abs=0.02)


def test_the_first_row_of_an_episode_has_none_before_it() -> None:
    arrays = still()
    for episode in range(8):
        arrays[50 * episode : 50 * episode + 50, 0, 3, 3] = 3.0 * (episode % 2)
    rests = measured(arrays, lengths=(50,) * 8)
    assert values_of(rests, 3, 3) == [[0.0, 0.0], [3.0, 0.0]]
    assert float(rests.deviation[0, 3, 3]) == pytest.approx(LEAST_DEVIATION), "nothing ever changes within an episode"


def test_the_deviation_is_of_what_changes_and_a_cell_that_never_does_stays_sure() -> None:
    arrays = still()
    arrays[100:, 0, 3, 4] = 8.0
    rests = measured(arrays)
    assert float(rests.deviation[0, 3, 4]) == pytest.approx((64.0 / (LENGTH - 1)) ** 0.5, rel=1e-3)
    assert float(rests.deviation[0, 0, 0]) == pytest.approx(0.02)


def test_a_cell_with_more_values_than_are_kept_keeps_its_first() -> None:
    arrays = still()
    for number in range(20):
        arrays[20 * number : 20 * number + 20, 0, 3, 4] = 2.0 * number
    rests = measured(arrays)
    assert len(values_of(rests, 3, 4)) in (0, MAX_RESTS)
