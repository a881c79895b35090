"""gamengen.games.doom_reward: each figure of the paper's table, from counters that are moved by hand."""

from __future__ import annotations

import pytest

from gamengen.games.doom_reward import CELL, UNIT, DoomReward


@pytest.fixture(autouse=True)
def doom() -> None:
    pytest.importorskip("vizdoom", reason="the extra `doom` is not installed")


class Counters:
    """Stands for a running game: what it counts can be set."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {"HEALTH": 100, "AMMO2": 50}

    def get_game_variable(self, variable: object) -> float:
        return self.values.get(str(getattr(variable, "name", variable)), 0.0)


@pytest.mark.parametrize(
    ("gained", "worth"),
    [
        ({}, 0),
        ({"HITS_TAKEN": 1}, -100),
        ({"HITCOUNT": 2}, 600),
        ({"KILLCOUNT": 1}, 1000),
        ({"ITEMCOUNT": 1}, 100),
        ({"WEAPON3": 1}, 100),
        ({"SECRETCOUNT": 1}, 500),
        ({"HEALTH": -7}, -70),
        ({"HEALTH": 25}, 250),
        ({"ARMOR": 4}, 40),
        ({"AMMO2": -1, "AMMO4": -1}, -1),  # the slots of pistol and chaingun count the same bullets
        ({"AMMO3": 8}, 80),
        ({"HITCOUNT": 1, "KILLCOUNT": 1, "AMMO2": -1}, 1299),
        ({"POSITION_X": CELL / 2}, 0),  # still in the first area
        ({"POSITION_X": CELL}, 30),
        ({"POSITION_X": 2 * CELL, "POSITION_Y": -CELL}, 50),
    ],
)
def test_each_event_is_worth_what_the_paper_says(gained: dict[str, float], worth: float) -> None:
    game = Counters()
    reward = DoomReward(game)
    reward.begin()
    for name, amount in gained.items():
        game.values[name] = game.values.get(name, 0.0) + amount
    assert reward.step(dead=False) * UNIT == pytest.approx(worth)
    assert reward.step(dead=False) == 0.0, "paid once"
    assert reward.step(dead=True) * UNIT == pytest.approx(-5000)


def test_an_area_is_new_once_an_episode() -> None:
    game = Counters()
    reward = DoomReward(game)
    for _ in range(2):
        game.values["POSITION_X"] = 0.0
        reward.begin()
        paid = []
        for position in (1, 2, 1, 2, 3):
            game.values["POSITION_X"] = position * CELL
            paid.append(round(reward.step(dead=False) * UNIT))
        assert paid == [30, 40, 0, 0, 50]


def test_counters_that_fall_when_an_episode_begins_cost_nothing() -> None:
    game = Counters()
    reward = DoomReward(game)
    game.values["KILLCOUNT"] = 5
    reward.begin()
    game.values["KILLCOUNT"] = 0
    assert reward.step(dead=False) == 0.0
