"""counterfactual: which way a dream answers, and that seeds' chance is no answer. More in test_liars.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gamengen.evaluation.counterfactual import Counterfactual, _answers
from gamengen.evaluation.recordings import Recordings
from gamengen.evaluation.run import evaluate
from tests.liar_worlds import IgnoresActions, played_episode, pong_study


def answers(dream: np.ndarray, truth: np.ndarray, seeds: np.ndarray) -> dict[str, float]:
    """The last frame's values of one start."""
    (found,) = _answers(dream[None], truth[None], seeds[:, None])
    values = {name: value[..., -1] if value.ndim > 1 else value for name, value in found.items()}
    return {name: float(value[0] / value[1]) if value[1] else np.nan for name, value in values.items()}


def test_an_answer_is_judged_by_its_direction_and_against_the_seeds() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(2, 4, 5, 3))
    still, noise = np.zeros((1, 2, 4, 5, 3)), rng.normal(size=(2, 2, 4, 5, 3))
    assert answers(truth, truth, still) == pytest.approx(
        {"right": 1, "wrong": 0, "none": 0, "direction": 1, "strength": 1, "spread": 0}
    )
    back = answers(-0.5 * truth, truth, still)
    assert (back["wrong"], back["right"]) == (1, 0) and back["direction"] == pytest.approx(-1)
    assert back["strength"] == pytest.approx(-0.5)
    assert answers(0 * truth, truth, still)["none"] == 1
    assert answers(0.05 * truth, truth, still)["none"] == 1  # too weak to be one
    loud = truth[None] * np.array([0.4, 0.6]).reshape(2, 1, 1, 1, 1)
    assert answers(0.5 * truth, truth, loud)["none"] == 1  # a seed changes as much
    assert answers(0.7 * truth, truth, loud)["right"] == 1
    assert answers(truth, truth, noise)["spread"] == pytest.approx((noise[:, 1] ** 2).sum() / 2 / (truth[1] ** 2).sum())


def test_where_the_real_game_does_not_answer_nothing_is_counted() -> None:
    nothing = np.zeros((2, 4, 5, 3))
    assert all(np.isnan(value) for value in answers(nothing + 1, nothing, nothing[None]).values())


def test_it_needs_the_real_game() -> None:
    study = replace(pong_study(num_worlds=1), real_game=None)
    measured = evaluate(study, [Counterfactual()])["counterfactual"]
    assert measured.missing is not None and "real game" in measured.missing and not measured.figures


def test_a_game_whose_actions_do_nothing_has_nothing_to_swap() -> None:
    study = pong_study(num_worlds=1)
    held_out = Recordings.of([played_episode(study.game, 20, 3)])
    deaf = replace(study, held_out=held_out, real_game=lambda count: IgnoresActions(study.world))
    measured = evaluate(deaf, [Counterfactual(num_starts=1)])["counterfactual"]
    assert measured.missing == "no two actions of ALE/Pong-v5 have a different effect, so nothing can be swapped"
