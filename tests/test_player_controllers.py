"""player.controllers: recorded, random, nobody; the same game, the same actions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gamengen.games.emulator import make_game_contract
from gamengen.player.controllers import BUILT_IN, FollowController, RandomController, RecordedController, built_in
from tests.counter_world import counter_game, counter_starts

START = counter_starts()[0]
FRAME = START.frames[-1]


def test_recorded_actions_are_repeated_and_then_nothing_is_done() -> None:
    controller = RecordedController(counter_game())
    controller.begin(START, 0, 0, FRAME)
    assert [controller.act(t, FRAME) for t in (0, 1, 2, 3, 49, 50, 99)] == [1, 2, 3, 1, 2, 0, 0]
    controller.begin(START, 0, 1, FRAME)
    assert controller.act(1, FRAME) == 2, "taken over in the middle: at the recording's own place"
    with pytest.raises(ValueError, match="no recorded actions"):
        controller.begin(replace(START, future_actions=None), 0, 0, FRAME)


def test_random_actions_follow_from_seed_and_time() -> None:
    def play(seed: int, times: range) -> list[int]:
        controller = RandomController(counter_game())
        controller.begin(START, seed, times.start, FRAME)
        return [controller.act(t, FRAME) for t in times]

    whole = play(5, range(600))
    assert play(5, range(300, 600)) == whole[300:], "after a rewind, the same again"
    assert play(6, range(600)) != whole and set(whole) == {0, 1, 2, 3}
    changes = np.flatnonzero(np.diff(whole))
    assert np.diff(changes).mean() > 3, "held for some frames, as a human would"


def test_every_built_in_controller_plays() -> None:
    for factory in BUILT_IN.values():
        controller = factory(counter_game())
        controller.begin(START, 1, 0, FRAME)
        assert all(0 <= controller.act(t, FRAME) < 4 for t in range(20))


def test_who_follows_the_ball_is_there_where_there_is_one() -> None:
    game = make_game_contract("ALE/Breakout-v5")
    assert built_in(game) == BUILT_IN | {"follow": FollowController} and built_in(counter_game()) == BUILT_IN
    frame = np.zeros((210, 160, 3), np.uint8)
    frame[189:193, 70:86] = frame[150:154, 30:32] = (200, 72, 72)
    controller = built_in(game)["follow"](game)
    controller.begin(START, 0, 7, frame)
    assert game.actions[controller.act(7, frame)].meaning == "LEFT"
    assert game.actions[controller.act(8, np.zeros_like(frame))].meaning == "FIRE"
