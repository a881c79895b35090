"""agent_play: the same agent in both, and what tells a world in which it cannot play."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from gamengen.evaluation.agent_play import AGAIN, REAL, AgentPlay, _runs, mean_gap, total_variation
from gamengen.evaluation.run import evaluate
from gamengen.objects import read_objects
from tests.liar_worlds import CopyLastFrame, DropsBall, pong_study


class FollowsBall:
    """Presses RIGHT (up) where the ball is above its paddle, LEFT below, at random where it sees none."""

    def begin(self, histories: Sequence[np.ndarray]) -> None:
        self.newest = np.stack([frames[-1] for frames in histories])

    def judge(self) -> tuple[np.ndarray, np.ndarray]:
        seen = read_objects(self.newest, "ALE/Pong-v5")
        ball, paddle = seen["ball"].y, seen["own_paddle"].y
        probabilities = np.full((len(ball), 6), 1 / 6)
        for row in np.flatnonzero(~np.isnan(ball - paddle)):
            probabilities[row] = np.eye(6)[2 if ball[row] < paddle[row] else 3]
        return probabilities, np.where(np.isnan(ball), -1.0, 1.0)

    def see(self, frames: np.ndarray) -> None:
        self.newest = frames


METRIC = AgentPlay(num_starts=2, horizon=24, bins=4, stride=2)


def test_in_the_real_game_it_is_the_same_and_a_lost_ball_is_noticed() -> None:
    study = pong_study(num_worlds=2, agent=FollowsBall())
    truth = evaluate(study, [METRIC])["agent_play"].figures
    without = evaluate(pong_study(DropsBall(study.world), agent=study.agent), [METRIC])["agent_play"].figures
    still = evaluate(pong_study(CopyLastFrame(study.world), agent=study.agent), [METRIC])["agent_play"].figures
    assert truth["world/distance"].value == 0 and truth["world/value_gap"].value == 0
    for name in ("value", "rally", "in_play"):
        assert truth[f"world/{name}"].value == truth[f"{REAL}/{name}"].value
    for lie in (without, still):
        assert lie["world/distance"].value > max(0.1, truth[f"{AGAIN}/distance"].value)
    assert without["world/value_gap"].value > 0.3 and without["world/in_play"].value < truth["world/in_play"].value / 2
    assert sum(truth[f"world/actions/{a.meaning}"].value for a in study.game.actions) == pytest.approx(1)
    assert truth[f"{REAL}/looks"].value > 0.2
    (section,) = METRIC.sections(truth)
    assert not section.notes
    assert [row[0] for row in section.tables[0].rows] == [REAL, AGAIN, "world"]


class Blind(FollowsBall):
    """Does not care what it sees."""

    def judge(self) -> tuple[np.ndarray, np.ndarray]:
        return np.full((len(self.newest), 6), 1 / 6), np.zeros(len(self.newest))


def test_an_agent_that_does_not_look_is_no_judge() -> None:
    study = pong_study(num_worlds=2, agent=Blind())
    figures = evaluate(pong_study(CopyLastFrame(study.world), agent=study.agent), [METRIC])["agent_play"].figures
    assert figures["world/distance"].value == 0, "it plays the same in any world,"
    assert figures[f"{REAL}/looks"].value == pytest.approx(0)
    (section,) = METRIC.sections(figures)
    assert "hardly depend on what it sees" in section.notes[0], "and the report says so"


def test_without_an_agent_it_says_so() -> None:
    missing = evaluate(pong_study(num_worlds=2), [METRIC])["agent_play"].missing
    assert missing is not None and "--agent" in missing


def test_the_parts() -> None:
    assert total_variation(np.array([[1.0, 3.0], [2.0, 6.0]])) == 0
    assert total_variation(np.array([[1.0, 0.0], [0.0, 9.0]])) == 1
    assert np.isnan(total_variation(np.zeros((2, 3))))
    assert mean_gap(np.array([[10.0, 5.0], [2.0, 4.0]])) == 1.5
    assert _runs(np.array([1, 1, 1, 0, 1, 0, 1, 1, 1, 1], bool)) == [3, 4]  # one frame is a flicker
