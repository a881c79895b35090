"""diffusion.joint_rests: what changes together is decided upon together, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tests.test_diffusion_rests import LENGTH, measured, still, values_of
from tests.worlds import tiny_contract


def counting() -> Tensor:
    """A digit of ten values over the cells (2, 3), (3, 3) and (3, 4), and a lamp beside it."""
    arrays = still()
    for row in range(LENGTH):
        digit = row // 40
        arrays[row, 0, 2, 3], arrays[row, 1, 3, 3] = 4.0 * digit, -4.0 * digit
        arrays[row, 0, 3, 4] = 4.0 * min(digit, 7)
        arrays[row, 0, 4, 4] = 5.0 * (row // 25 % 2)
    return arrays


def test_the_parts_of_a_digit_change_together_and_what_blinks_beside_it_does_not() -> None:
    arrays = counting()
    rests = measured(arrays)
    assert rests.groups is not None
    digit = rests.groups == rests.groups[2, 3]
    assert digit.nonzero().tolist() == [[2, 3], [3, 3], [3, 4]]
    assert len(rests.groups.unique()) == rests.groups.numel() - 2, "all the others are alone"
    assert rests.values[:, 0, 2, 3].sort().values.tolist() == [4.0 * digit for digit in range(10)]
    assert values_of(rests, 4, 4) == [[0.0, 0.0], [5.0, 0.0]]
    for row in (0, 90, 390):
        value, known = rests.nearest(arrays[row : row + 1])
        assert bool(known.all()) and torch.equal(value, arrays[row : row + 1])


def test_a_digit_of_which_one_part_has_turned_is_decided_upon_as_one() -> None:
    arrays = counting()
    rests = measured(arrays)
    mixed = arrays[90:91].clone()
    mixed[:, :, 2, 3] = arrays[130, :, 2, 3]  # the top of a 3 over the rest of a 2
    assert torch.equal(rests.nearest(mixed)[0], arrays[90:91])
    alone = replace(rests, groups=None)
    assert torch.equal(alone.nearest(mixed)[0], mixed), "cells that are decided upon alone keep the mixture"


def test_neighbours_that_hold_more_combinations_than_are_kept_stay_apart() -> None:
    """Two digits, and two bricks that go alone as often as together."""
    arrays = torch.zeros((4000, *tiny_contract().codec.array_shape))
    for row in range(4000):
        arrays[row, 0, 3, 3], arrays[row, 0, 3, 4] = 4.0 * (row // 40 % 10), 4.0 * (row // 400)
        arrays[row, 0, 6, 6], arrays[row, 0, 6, 7] = 5.0 * (row // 50 % 2), 5.0 * ((row + 25) // 50 % 2)
    rests = measured(arrays, (4000,))
    assert rests.groups is not None and len(rests.groups.unique()) == rests.groups.numel()
    assert len(values_of(rests, 3, 4)) == 10 and len(values_of(rests, 6, 7)) == 2


def test_a_combination_that_was_hardly_ever_seen_is_none_and_a_moving_ball_keeps_cells_apart() -> None:
    arrays = counting()
    joined = measured(arrays)
    glitch = arrays.clone()
    glitch[100, :, 2, 3] = 0.0  # one row in 400 is more than the share that may be missed
    assert joined.groups is not None and joined.groups[2, 3] == joined.groups[3, 3]
    apart = measured(glitch)
    assert apart.groups is not None and apart.groups[2, 3] != apart.groups[3, 3]
