"""The readers of Skiing, Freeway and Boxing against the console's memory; Pong and Breakout: test_objects_reader."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.objects import GAMES, Track, read_objects
from gamengen.objects.games import game_objects
from tests.played_games import held_random, play

NUM_FRAMES = 200


def agree(read: np.ndarray, true: np.ndarray, resolution: float, share: float = 0.99) -> None:
    """Within one pixel of the reader's own resolution."""
    error = np.abs(read - true)
    assert (error <= resolution + 1).mean() >= share, f"{np.sort(error)[-20:]}"
    assert np.median(error) < 1.1


def test_skiing_agrees_with_the_memory() -> None:
    frames, memory = play("ALE/Skiing-v5", held_random(3), NUM_FRAMES)
    tracks = read_objects(frames, "ALE/Skiing-v5")
    skier = tracks["skier"]
    assert skier.present.mean() >= 0.99 and (skier.copies == 1).mean() >= 0.99
    assert np.ptp(memory[:, 25]) > 20, "the skier did not move"
    agree(skier.x, memory[:, 25] + 5.0, game_objects("ALE/Skiing-v5").objects["skier"].resolution)

    # The console keeps eight things on the slope, gates and trees, by their height; the gates' flags are among them.
    flag = tracks["flag"]
    whole = flag.share > 0.99
    assert whole.mean() > 0.8 and np.ptp(flag.y[whole]) > 50
    nearest = np.abs(flag.y[whole, None] - (187 - memory[whole, 86:94])).min(1)
    agree(nearest, np.zeros(len(nearest)), game_objects("ALE/Skiing-v5").objects["flag"].resolution - 1)


def test_freeway_agrees_with_the_memory() -> None:
    def mostly_up(memory: np.ndarray, random: np.random.Generator, t: int) -> int:
        return int(random.choice([1, 1, 1, 0, 2]))

    frames, memory = play("ALE/Freeway-v5", mostly_up, NUM_FRAMES)
    tracks = read_objects(frames, "ALE/Freeway-v5")
    own = tracks["own_chicken"]
    assert np.ptp(memory[:, 14]) > 50, "the chicken did not move"
    assert own.present.mean() >= 0.99
    there = own.present
    agree(own.y[there], 197.3 - memory[there, 14], game_objects("ALE/Freeway-v5").objects["own_chicken"].resolution)
    for lane in range(10):
        track, x = tracks[f"car_{lane}"], memory[:, 117 - lane] + 1.0
        whole = (x > 20) & (x < 150)  # at the edges a car is half on each side of the picture
        assert whole.sum() > 100 and track.present[whole].mean() >= 0.99
        agree(track.x[whole & track.present], x[whole & track.present], 1.0)


def test_the_other_chicken_agrees_with_the_memory() -> None:
    """Nobody moves it in a game of one: its place is written into the memory."""
    pytest.importorskip("ale_py", reason="the extra `record` is not installed")
    from gamengen.games.emulator import Emulator, _console, make_game_contract

    emulator = Emulator(make_game_contract("ALE/Freeway-v5", frame_skip=1))
    emulator.reset(0, 0)
    for _ in range(20):
        emulator.step(0)
    console = _console(emulator._env)
    assert console is not None
    for height in (6, 30, 60, 100, 140, 170):
        for _ in range(3):  # the picture follows the memory
            console.setRAM(15, height)
            frame, *_ = emulator.step(0)
        tracks = read_objects(frame[None], "ALE/Freeway-v5")
        assert tracks["other_chicken"].y[0] == pytest.approx(197.3 - height, abs=1.5)
        assert tracks["other_chicken"].copies[0] == 1
        own, other = tracks["own_chicken"], tracks["other_chicken"]
        assert own.y[0] == pytest.approx(191.3, abs=1.5) and other.x[0] - own.x[0] == pytest.approx(64, abs=1)
    emulator.close()


def test_boxing_agrees_with_the_memory() -> None:
    frames, memory = play("ALE/Boxing-v5", held_random(18), NUM_FRAMES)
    tracks = read_objects(frames, "ALE/Boxing-v5")
    for name, x, y, dx, dy in (("own_boxer", 32, 34, 11.5, 61.5), ("other_boxer", 33, 35, 10.0, 60.5)):
        track: Track = tracks[name]
        assert np.ptp(memory[:, y]) > 10, f"{name} did not move"
        assert track.present.mean() >= 0.99 and (track.copies == 1).mean() >= 0.99
        agree(track.x, memory[:, x] + dx, game_objects("ALE/Boxing-v5").objects[name].resolution)
        agree(track.y, memory[:, y] + dy, game_objects("ALE/Boxing-v5").objects[name].resolution)


@pytest.mark.parametrize("env_id", sorted(GAMES))
def test_every_game_names_what_its_actions_move(env_id: str) -> None:
    assert game_objects(env_id).own in game_objects(env_id).objects


def test_an_unknown_game_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"ALE/Tennis-v5; known: ALE/Pong-v5"):
        game_objects("ALE/Tennis-v5")
