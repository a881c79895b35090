"""gamengen.objects.turns: the first frame of each new direction, and nothing else, also in the real game."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.games.emulator import make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.objects import BALL, Track, read_objects, turns
from gamengen.player.source import game_source

NAN = float("nan")


def track(x: list[float], y: list[float] | None = None) -> Track:
    places = np.array(x)
    return Track(np.array(y or x, float), places, np.ones(len(x)), np.ones(len(x), np.int64))


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([1, 3, 5, 3, 1], [9, 8, 7, 6, 5], [3]),  # thrown back: across
        ([1, 3, 5, 7, 9], [9, 8, 9, 10, 9], [2, 4]),  # off two walls: down and up
        ([1, 3, 5, 7, 9], [5, 4, 3, 2, 1], []),
        ([1, 3, NAN, 1, 3], [1, 3, NAN, 1, 3], []),  # another ball may have come in between
        ([90, 92, 60, 58, 56], [9, 8, 7, 6, 5], []),  # it did: this one is served elsewhere
        ([5, 5, 5, 3, 5], [2, 2, 2, 2, 2], [4]),  # one that stands does not turn when it sets off
        ([1, 2], [1, 2], []),
        ([], [], []),
    ],
)
def test_the_first_frame_of_a_new_direction(x: list[float], y: list[float], expected: list[int]) -> None:
    assert turns(track(x, y)).nonzero()[0].tolist() == expected and len(turns(track(x, y))) == len(x)


def test_one_axis_alone() -> None:
    ball = track([1, 3, 5, 3, 1, -1], [9, 8, 7, 6, 7, 8])
    assert [turns(ball, axes).nonzero()[0].tolist() for axes in ("xy", "x", "y")] == [[3, 4], [3], [4]]
    ball = track([1, 3, 5, 7, 9, 7, 5], [9, 8, 9, 10, 9, 8, 7])
    assert [turns(ball, axes).nonzero()[0].tolist() for axes in ("y", "up")] == [[2, 4], [4]]


def test_balls_of_the_real_pong_turn_at_paddles_and_walls() -> None:
    game = make_game_contract("ALE/Pong-v5", frame_skip=2)
    world = EmulatorWorld(game)
    world.reset([game_source(game).starts[0]], [0])
    shown, action = [], 0
    for _ in range(700):
        shown.append(world.step([action]).frames[0])
        tracks = read_objects(shown[-1][None], game.env_id, [BALL, "own_paddle"])
        below = tracks[BALL].y[0] - tracks["own_paddle"].y[0]  # NaN without a ball: neither
        action = 3 if below > 4 else 2 if below < -4 else 0
    world.close()
    frames = np.stack(shown)
    only = read_objects(frames, game.env_id, [BALL])
    assert set(only) == {BALL}
    ball, everything = only[BALL], read_objects(frames, game.env_id)
    assert np.array_equal(ball.x, everything[BALL].x, equal_nan=True), "alone or among others"
    found = turns(ball).nonzero()[0]
    assert 8 <= len(found) <= 60
    assert (ball.x[found - 1] > 132).any() and (ball.x[found - 1] < 28).any(), "off both paddles"
    for t in found:
        x, y = ball.x[t - 1], ball.y[t - 1]
        assert x < 28 or x > 132 or y < 42 or y > 186, (t, x, y)
    thrown = turns(ball, "x").nonzero()[0]
    assert 0 < len(thrown) < len(found) and ((ball.x[thrown - 1] < 28) | (ball.x[thrown - 1] > 132)).all()
