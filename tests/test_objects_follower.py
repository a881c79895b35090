"""objects.follower: who follows the ball throws it back, in the real game, from its pictures alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gamengen.contract import Action, GameContract
from gamengen.games.emulator import Emulator, make_game_contract
from gamengen.objects import Follower, can_follow, read_numbers
from tests.counter_world import counter_game

PONG, BREAKOUT = (make_game_contract(env_id, frame_skip=2) for env_id in ("ALE/Pong-v5", "ALE/Breakout-v5"))


def blank(game: GameContract) -> np.ndarray:
    colour = (144, 72, 17) if game is PONG else (0, 0, 0)
    return np.full((210, 160, 3), colour, np.uint8)


@pytest.mark.parametrize(("ball_y", "meaning"), [(60, "RIGHT"), (150, "LEFT"), (107, "NOOP"), (None, "FIRE")])
def test_it_moves_to_where_the_ball_is(ball_y: int | None, meaning: str) -> None:
    frame = blank(PONG)
    frame[100:116, 140:144] = (92, 186, 92)
    if ball_y is not None:
        frame[ball_y : ball_y + 4, 80:82] = 236
    (action,) = Follower(PONG)(frame[None])
    assert PONG.actions[action].meaning == meaning


def test_each_game_of_a_batch_is_answered_for_itself() -> None:
    left, right = blank(BREAKOUT), blank(BREAKOUT)
    for frame, x in ((left, 20), (right, 120)):
        frame[189:193, 70:86] = (200, 72, 72)
        frame[150:154, x : x + 2] = (200, 72, 72)
    chosen = Follower(BREAKOUT)(np.stack([left, right, blank(BREAKOUT)]))
    assert [BREAKOUT.actions[a].meaning for a in chosen] == ["LEFT", "RIGHT", "FIRE"]


@pytest.mark.parametrize(("game", "least"), [(PONG, -2), (BREAKOUT, 8)], ids=["Pong", "Breakout"])
def test_it_plays_the_real_game(game: GameContract, least: int) -> None:
    """Somebody who does nothing loses nine points of Pong meanwhile, and no brick of Breakout goes."""
    emulator, player = Emulator(game), Follower(game)
    frames = [emulator.reset(3, 0)]
    for _ in range(700):
        frames.append(emulator.step(int(player(frames[-1][None])[0]))[0])
    numbers = read_numbers(np.stack(frames[-20:]), game.env_id)
    balance = np.nanmedian(numbers["score"]) - (np.nanmedian(numbers["enemy_score"]) if game is PONG else 0)
    assert balance >= least


def test_games_without_a_ball_are_refused() -> None:
    assert can_follow(PONG) and can_follow(BREAKOUT)
    other = counter_game()
    freeway = replace(PONG, env_id="ALE/Freeway-v5")
    assert not can_follow(other) and not can_follow(freeway)
    with pytest.raises(ValueError, match="no object readers"):
        Follower(other)
    with pytest.raises(ValueError, match="no ball that could be followed"):
        Follower(freeway)
    no_left = replace(PONG, actions=tuple(Action(meaning=m) for m in ("NOOP", "FIRE", "RIGHT")))
    with pytest.raises(ValueError, match=r"takes LEFT, the actions are \['NOOP', 'FIRE', 'RIGHT'\]"):
        Follower(no_left)
    assert not can_follow(no_left)
