"""player.world_pool: however games are dealt out to worlds, each goes its own way bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gamengen.diffusion.latent_world import LatentWorld
from gamengen.games.emulator import make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.player.source import game_source
from gamengen.player.world_pool import Game, WorldPool
from gamengen.world import StartState, World
from tests.counter_env import COUNTER_ENV
from tests.counter_world import CounterWorld, counter_starts
from tests.worlds import tiny_pipeline, tiny_starts


def played_alone(make: Callable[[int], World], start: StartState, seed: int, actions: list[int]) -> np.ndarray:
    world = make(1)
    world.reset([start], [seed])
    frames = [world.step([action]).frames[0] for action in actions]
    world.close()
    return np.stack(frames)


def play_together(pool: WorldPool, starts: list[StartState], rounds: int) -> list[tuple[list[int], list[np.ndarray]]]:
    """Games that come at different times, some of them stepped each round, in random order."""
    rng = np.random.default_rng(0)
    games: list[Game] = []
    history: list[tuple[list[int], list[np.ndarray]]] = []
    for turn in range(rounds):
        if len(games) < len(starts) and turn % 3 == 0:
            games.append(pool.new_game())
            pool.reset(games[-1], starts[len(games) - 1], seed=len(games) - 1)
            history.append(([], []))
        chosen = rng.permutation(len(games))[: rng.integers(1, len(games) + 1)].tolist()
        actions = rng.integers(0, 3, len(chosen)).tolist()
        step = pool.step([games[i] for i in chosen], actions)
        for row, i in enumerate(chosen):
            history[i][0].append(actions[row])
            history[i][1].append(step.frames[row])
    return history


@pytest.mark.parametrize("kind", ["counter", "replayed game", "pong"])
def test_every_game_is_what_it_would_be_alone(kind: str) -> None:
    make: Callable[[int], World] = CounterWorld
    starts = counter_starts(1) * 5
    if kind != "counter":
        game = make_game_contract(*((COUNTER_ENV,) if kind == "replayed game" else ("ALE/Pong-v5",)))
        source = game_source(game)
        seeds = range(2 if kind == "pong" else 5)
        make, starts = (lambda size: EmulatorWorld(game, size)), [source.start_at(0, seed) for seed in seeds]
    pool = WorldPool(make, largest=2 if kind == "pong" else 5)
    assert pool.sizes == ((1, 2) if kind == "pong" else (1, 2, 4))
    history = play_together(pool, starts, rounds=40 if kind == "counter" else 20)
    for seed, (actions, frames) in enumerate(history):
        assert np.array_equal(np.stack(frames), played_alone(make, starts[seed], seed, actions)), seed
    pool.close()


def test_the_same_games_due_stay_where_they_are() -> None:
    pool = WorldPool(CounterWorld, largest=4)
    games = [pool.new_game() for _ in range(3)]
    for game in games:
        pool.reset(game, counter_starts(1)[0], 0)
    pool.step(games, [0, 0, 0])
    places = [game.place for game in games]
    assert places == [(2, 0), (2, 1), (1, 0)]
    pool.step(games[::-1], [0, 0, 0])
    assert [game.place for game in games] == places, "in whatever order they are asked for"


def test_each_game_has_its_own_options() -> None:
    pool = WorldPool(CounterWorld, largest=1)
    fast, slow = pool.new_game(), pool.new_game()
    for game in (fast, slow):
        pool.reset(game, counter_starts(1)[0], 0)
    pool.set_option(fast, "stride", 5)
    assert (pool.options(fast)["stride"].value, pool.options(slow)["stride"].value) == (5, 1)
    with pytest.raises(ValueError, match="expected 1 to 9"):
        pool.set_option(slow, "stride", 10)
    states = []
    for _ in range(2):
        pool.step([fast], [0])
        pool.step([slow], [0])
        states.append((pool.snapshot(fast)[0][1], pool.snapshot(slow)[0][1]))
    assert states == [(5, 1), (10, 2)]


def test_snapshots_restore_and_refusals_leave_a_game_as_it_was() -> None:
    pool = WorldPool(CounterWorld, largest=2)
    game, other = pool.new_game(), pool.new_game()
    with pytest.raises(ValueError, match="reset it first"):
        pool.step([game], [0])
    for one in (game, other):
        pool.reset(one, counter_starts(1)[0], 7)
    pool.step([game, other], [1, 1])
    kept = pool.snapshot(game)
    ahead = pool.step([game], [2]).frames
    pool.restore(game, kept)
    assert np.array_equal(pool.step([game], [2]).frames, ahead)
    wrong = StartState(np.zeros((1, 5, 5, 3), np.uint8), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="expected 32x32"):
        pool.reset(game, wrong, 0)
    assert pool.snapshot(game) == [(7, 2)] and pool.snapshot(other) == [(7, 1)]
    pool.drop(game)
    assert game.place is None and pool.snapshot(game) is None


def test_the_real_game_tells_more_of_itself_than_the_protocol_says() -> None:
    game = make_game_contract("ALE/Pong-v5")
    pool = WorldPool(lambda size: EmulatorWorld(game, size), largest=1)
    one = pool.new_game()
    pool.reset(one, game_source(game).starts[0], 3)
    assert pool.ask(one, "ram").shape == (128,) and pool.ask(one, "lives") == 0 and not pool.ended(one)
    assert pool.ask(one, "no such thing") is None
    counters = WorldPool(CounterWorld, largest=1)
    other = counters.new_game()
    counters.reset(other, counter_starts(1)[0], 0)
    assert counters.ask(other, "ram") is None and not counters.ended(other)


def test_learned_worlds_move_between_batches_within_a_level() -> None:
    """Networks differ in the last bits between batch sizes: a game that was batched stays within rounding."""
    starts = tiny_starts(3)
    pipeline = tiny_pipeline()
    make: Callable[[int], World] = lambda size: LatentWorld(pipeline, size, num_inference_steps=1)  # noqa: E731
    history = play_together(WorldPool(make, largest=2), starts, rounds=14)
    for seed, (actions, frames) in enumerate(history):
        alone = played_alone(make, starts[seed], seed, actions)
        assert np.abs(np.stack(frames).astype(int) - alone).max() <= 1
