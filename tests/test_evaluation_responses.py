"""responses: several courses from one state, and how they differ."""

from __future__ import annotations

import numpy as np

from gamengen.evaluation.responses import BLOCKS_DOWN, branches, inner, response
from tests.liar_worlds import pong_study


def test_a_response_is_the_mean_difference_of_squares_with_its_sign() -> None:
    one, other = np.zeros((2, 210, 160, 3), np.uint8), np.zeros((2, 210, 160, 3), np.uint8)
    side = round(210 / BLOCKS_DOWN)
    one[0, :side, side : 2 * side, 1] = 200
    other[1, 0, 0, 2] = 64
    found = response(one, other)
    assert found.shape == (2, -(-210 // side), 160 // side, 3)
    assert found[0, 0, 1, 1] == 200 and found[0].sum() == 200
    assert found[1, 0, 0, 2] == -64 / side**2 and np.array_equal(response(other, one), -found)
    assert inner(found, found)[0] == 200**2 and inner(found, -found)[1] < 0


def test_branches_start_from_one_state_and_equal_a_dream_of_the_same_actions() -> None:
    study = pong_study(num_worlds=3)
    excerpts = study.excerpts(study.held_out.places(2, 8, seed=1), 8)  # one slot is spare
    recorded = np.stack([excerpt.actions for excerpt in excerpts])
    up = np.full_like(recorded, 2)
    first, other, again = branches(study, study.world, excerpts, [recorded, up, recorded])
    for excerpt, shown in zip(excerpts, first, strict=True):
        assert np.array_equal(shown, excerpt.frames[1:])
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    dream = np.stack([step.frames for step in study.dream(study.world, excerpts, up)], axis=1)
    assert np.array_equal(other, dream)
