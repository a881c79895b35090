"""start_states: chosen states are true to their episodes, and survive the file bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gamengen.contract import GameContract
from gamengen.dataset.episodes import Episode
from gamengen.dataset.start_states import (
    check_filled,
    locate,
    read_start_states,
    start_states,
    state_at,
    write_start_states,
)
from gamengen.games.emulator import make_game_contract
from gamengen.world import StartState
from tests.counter_env import COUNTER_ENV, Count, draw_count, read_count


@pytest.fixture(scope="module")
def game() -> GameContract:
    return make_game_contract(COUNTER_ENV, frame_skip=1)


def episode(number: int, length: int) -> Episode:
    actions = np.arange(length) % 4
    return Episode(
        frames=np.stack([draw_count(Count(number, t, actions[t - 1] if t else 0)) for t in range(length + 1)]),
        actions=actions, rewards=np.zeros(length, np.float32), terminated=True, truncated=False,
        episode_id=f"e-{number}", stream_id="e", index_in_stream=number, seed=100 + number, noop_starts=number,
        split="validation", agent="x",
    )  # fmt: skip


def episodes() -> Iterator[Episode]:
    return (episode(number, 30) for number in range(5))


def test_states_are_windows_of_their_episodes(game: GameContract) -> None:
    states = start_states(episodes(), game, context_length=4, num_states=40, horizon=8, seed=1)
    assert len({state.name for state in states}) == 40
    shorter = 0
    for state in states:
        episode_id, t = locate(state.name)
        number = int(episode_id.removeprefix("e-"))
        assert t <= 30 - 8
        assert [read_count(frame).t for frame in state.frames] == list(range(max(0, t - 3), t + 1))
        assert {read_count(frame).episode for frame in state.frames} == {number}
        assert [read_count(frame).previous_action for frame in state.frames[1:]] == state.actions.tolist()
        assert state.replay is not None and (state.replay.seed, state.replay.noop_starts) == (100 + number, number)
        assert state.replay.actions.tolist() == [i % 4 for i in range(t)]
        assert state.future_actions is not None and state.future_actions.tolist() == [i % 4 for i in range(t, t + 8)]
        shorter += len(state.frames) < 4
    assert shorter > 0, "states at the beginning of an episode belong in"


def test_states_that_were_cut_shorter_than_a_context_are_refused() -> None:
    """Padded, they would begin in mid-game with a frame that stands still for as long as a context is."""
    cut, young = state_at(episode(0, 30), 20, 4, 8), state_at(episode(0, 30), 2, 4, 8)
    check_filled([cut, young], 4, "latents")
    check_filled([young], 64, "latents")  # the episode has no more
    check_filled([StartState(cut.frames, cut.actions, name="my photograph")], 64, "latents")
    with pytest.raises(ValueError, match=r"latents: .* 5 frames.* 4 of the 21.* --start_state_frames 5"):
        check_filled([young, cut], 5, "latents")


def test_the_choice_follows_the_seed_not_the_order(game: GameContract) -> None:
    def names(source: Iterator[Episode], seed: int) -> list[str]:
        return [state.name for state in start_states(source, game, 4, 10, 8, seed)]

    assert names(episodes(), 0) == names(reversed(list(episodes())), 0) != names(episodes(), 1)


def test_fewer_frames_than_states_give_all(game: GameContract) -> None:
    assert len(start_states([episode(0, 10)], game, 4, 100, 8)) == 3
    with pytest.raises(ValueError, match="the longest has 10"):
        start_states([episode(0, 10)], game, 4, 100, 11)


def test_states_survive_the_file(tmp_path: Path, game: GameContract) -> None:
    rng = np.random.default_rng(0)
    noisy = StartState(rng.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8), np.array([1]), name="a dream")
    single = state_at(episode(1, 9), 0, 4, 0)
    states = [*start_states(episodes(), game, 4, 7, 8), noisy, single, single]
    write_start_states(tmp_path / "s.parquet", states, game)
    back = read_start_states(tmp_path / "s.parquet")
    assert len(back) == len(states)
    for ours, theirs in zip(states, back, strict=True):
        assert ours.name == theirs.name
        assert np.array_equal(ours.frames, theirs.frames) and np.array_equal(ours.actions, theirs.actions)
        assert (ours.replay is None) == (theirs.replay is None)
        if ours.replay is not None and theirs.replay is not None:
            assert (ours.replay.seed, ours.replay.noop_starts) == (theirs.replay.seed, theirs.replay.noop_starts)
            assert np.array_equal(ours.replay.actions, theirs.replay.actions)
        assert (ours.future_actions is None) == (theirs.future_actions is None)
        if ours.future_actions is not None:
            assert np.array_equal(ours.future_actions, theirs.future_actions)
    write_start_states(tmp_path / "none.parquet", [])
    assert read_start_states(tmp_path / "none.parquet") == []


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path: Path, game: GameContract) -> None:
    path = tmp_path / "s.parquet"
    write_start_states(path, start_states(episodes(), game, 4, 7, 8), game)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"s\.parquet is damaged"):
        read_start_states(path)
    with pytest.raises(FileNotFoundError, match=r"t\.parquet"):
        read_start_states(tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="does not name its episode"):
        locate("a dream")
