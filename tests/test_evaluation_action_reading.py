"""action_reading: worlds that answer, that do not, and that mix up, read by a reader of real frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gamengen.codecs.codec import IdentityCodec
from gamengen.contract import WorldContract
from gamengen.evaluation.action_reading import READERS_FOLDER, RECORDED, ActionReading, kappa, share_of_ceiling
from gamengen.evaluation.recordings import Recordings
from gamengen.evaluation.run import evaluate
from gamengen.evaluation.study import Study
from gamengen.world import StartState, WorldStep
from tests.liar_worlds import CopyLastFrame, IgnoresActions, Liar, SwapsLeftAndRight
from tests.test_evaluation_inverse_dynamics import GAME, SMALL, dot_episode, dots


class Dots:
    """The game of `dot_episode` as a world: from its own beginning, whatever the start state shows."""

    contract = WorldContract(codec=IdentityCodec(GAME).contract, kind="dots", context_length=1)
    num_worlds = 2
    options: dict = {}

    def reset(self, starts: list[StartState], seeds: list[int], slots: object = None) -> None:
        self.pressed: list[np.ndarray] = []

    def step(self, actions: np.ndarray) -> WorldStep:
        self.pressed.append(np.asarray(actions))
        shown = [dots(np.array(one), seed=5)[-1] for one in np.stack(self.pressed, 1)]
        return WorldStep(np.stack(shown))


def figures(world: object, folder: Path) -> dict:
    recordings = Recordings.of([dot_episode(seed) for seed in range(3)])
    held_out = Recordings.of([replace(dot_episode(seed), episode_id=f"held-out-{seed}") for seed in (7, 8)])
    study = Study(world=world, held_out=held_out, training=recordings, folder=folder)  # type: ignore[arg-type]
    metric = ActionReading(num_starts=2, horizon=60, reader=SMALL)
    return evaluate(study, [metric])["action_reading"].figures


def test_a_world_that_answers_is_told_from_those_that_do_not(tmp_path: Path) -> None:
    liars: dict[str, type[Liar]] = {"still": CopyLastFrame, "deaf": IgnoresActions, "mixed up": SwapsLeftAndRight}
    found = {name: figures(kind(Dots()), tmp_path) for name, kind in liars.items()}  # type: ignore[arg-type]
    truth = figures(Dots(), tmp_path)
    assert len(list((tmp_path / READERS_FOLDER).iterdir())) == 1  # one reader for all of them
    assert truth[f"{RECORDED}/accuracy"].value > 0.9 and truth["world/kappa"].value > 0.85
    assert truth["world/f1/LEFT"].value > 0.85 and truth["world/of_ceiling"].value > 0.9
    for name in ("still", "deaf"):
        assert abs(found[name]["world/kappa"].value) < 0.15
    assert found["mixed up"]["world/kappa"].value < 0.15 and found["mixed up"]["world/f1/NOOP"].value > 0.85
    assert max(found["mixed up"][f"world/f1/{name}"].value for name in ("LEFT", "RIGHT")) < 0.1
    for one in found.values():
        assert one["world/of_ceiling"].value < truth["world/of_ceiling"].value
    assert truth["world/accuracy"].better == "higher" and truth["world/f1/NOOP"].better == "", "a guess may win there"
    sections = ActionReading().sections(truth)
    assert sections[0].tables[0].rows[0][0] == RECORDED and len(sections[0].tables[1].rows) == 3


def test_kappa_is_agreement_beyond_chance() -> None:
    assert kappa(np.diag([5.0, 3.0])) == 1 and kappa(np.full((2, 2), 4.0)) == 0
    assert kappa(np.array([[0.0, 4.0], [4.0, 0.0]])) == -1
    assert np.isnan(kappa(np.zeros((2, 2)))) and np.isnan(kappa(np.array([[3.0, 0.0], [0.0, 0.0]])))
    # Cohen 1960's formula by hand: agreement 0.7, chance 0.5.
    assert kappa(np.array([[20.0, 5.0], [10.0, 15.0]])) == pytest.approx((0.7 - 0.5) / 0.5)
    assert share_of_ceiling(np.stack([np.diag([5.0, 3.0]), np.array([[20.0, 5.0], [10.0, 15.0]])])) == 1
    assert np.isnan(share_of_ceiling(np.stack([np.diag([5.0, 3.0]), np.full((2, 2), 4.0)])))


def test_without_a_training_split_it_says_so() -> None:
    held_out = Recordings.of([dot_episode(7)])
    measured = evaluate(Study(world=Dots(), held_out=held_out), [ActionReading()])["action_reading"]  # type: ignore[arg-type]
    assert measured.missing is not None and "training" in measured.missing
