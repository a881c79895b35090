"""Scores and lives read from pixels: every digit of every game against the console's memory, and what is unreadable."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.objects import read_numbers
from tests.played_games import from_bcd, play

POKES = {  # byte -> the values it takes; what it shows
    ("ALE/Pong-v5", "score"): ({14: (*range(10), 13, 20)}, lambda v: v),
    ("ALE/Breakout-v5", "score"): ({77: [16 * d + d for d in range(10)]}, from_bcd),
    ("ALE/Breakout-v5", "lives"): ({57: range(1, 6)}, lambda v: v),  # without lives the game is over
    ("ALE/Skiing-v5", "score"): ({107: [16 * d + (d + 3) % 10 for d in range(10)]}, from_bcd),
    ("ALE/Freeway-v5", "score"): ({103: [16 * d + (d + 3) % 10 for d in range(10)]}, from_bcd),
    ("ALE/Boxing-v5", "score"): ({18: [16 * d + (d + 3) % 10 for d in range(10)]}, from_bcd),
}


@pytest.mark.parametrize(("env_id", "name"), POKES)
def test_every_digit_is_read_as_the_console_has_it(env_id: str, name: str) -> None:
    """The console's memory is written to, so that every digit is shown."""
    pytest.importorskip("ale_py", reason="the extra `record` is not installed")
    from gamengen.games.emulator import Emulator, _console, make_game_contract

    pokes, shown = POKES[env_id, name]
    emulator = Emulator(make_game_contract(env_id, frame_skip=1))
    emulator.reset(0, 0)
    for _ in range(20):
        emulator.step(0)
    console = _console(emulator._env)
    assert console is not None
    for byte, values in pokes.items():
        for value in values:
            for _ in range(3):  # the picture follows the memory
                console.setRAM(byte, value)
                frame, *_ = emulator.step(0)
            expected = shown(np.array(value))
            assert read_numbers(frame[None], env_id)[name][0] == expected, f"{value:#x}"
    emulator.close()


def test_a_real_game_of_pong_and_its_spoilt_pictures() -> None:
    frames, memory = play("ALE/Pong-v5", lambda memory, random, t: 0, 200)
    score = read_numbers(frames, "ALE/Pong-v5")["enemy_score"]
    assert memory[-1, 13] >= 3, "no score to read"
    assert (score == memory[:, 13]).mean() >= 0.95 and not np.isnan(score).any()
    assert (np.diff(score) >= 0).all()
    half = frames.reshape(-1, 105, 2, 80, 2, 3).mean((2, 4)).round().astype(np.uint8)
    small = read_numbers(half, "ALE/Pong-v5")["enemy_score"]
    assert ((small == score) | np.isnan(small)).all() and (small == score).mean() >= 0.5
    background = np.array([144, 72, 17])
    dim = (background + (frames - background) * 0.7).astype(np.uint8)
    assert (read_numbers(dim, "ALE/Pong-v5")["enemy_score"] == score).all()


def test_what_is_not_there_is_not_guessed() -> None:
    empty = np.broadcast_to(np.array([144, 72, 17], np.uint8), (2, 210, 160, 3))
    assert all(np.isnan(value).all() for value in read_numbers(empty, "ALE/Pong-v5").values())
    smear = empty.copy()
    smear[:, 1:21, 96:132] = np.array([118, 129, 54])  # half way to the digits' colour, everywhere
    assert np.isnan(read_numbers(smear, "ALE/Pong-v5")["score"]).all()
    with pytest.raises(ValueError, match="float64"):
        read_numbers(np.zeros((1, 210, 160, 3)), "ALE/Pong-v5")  # type: ignore[arg-type]
