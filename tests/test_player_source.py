"""player.source: where games begin, what follows them, and what each kind of source offers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gamengen.contract import ContractMismatch
from gamengen.dataset.episode_writer import open_dataset
from gamengen.games.emulator import Emulator, make_game_contract
from gamengen.player.controllers import NoopController
from gamengen.player.source import dataset_source, dream_source, game_source, new_game
from tests.counter_env import COUNTER_ENV
from tests.counter_world import CounterWorld, counter_game, counter_starts
from tests.test_dataset_dataset_world import record


def test_a_dream_begins_at_its_start_states() -> None:
    starts = counter_starts(3)
    source = dream_source("d", CounterWorld, counter_game(), starts, agents={"agent": NoopController})
    assert source.start_at(2, 9) is starts[2] and source.next_start(2, 9) == (2, 10) and source.human
    assert list(source.controllers) == ["recorded", "random", "noop", "agent"]
    assert source.make_truth is None and "start states do not say" in source.truth_missing
    with pytest.raises(ValueError, match="at least one start state"):
        dream_source("d", CounterWorld, counter_game(), [])
    with pytest.raises(ValueError, match="32x32"):
        small = replace(starts[0], frames=np.zeros((1, 8, 8, 3), np.uint8))
        dream_source("d", CounterWorld, counter_game(), [small])


def test_real_games_differ_by_their_seed_and_stand_beside_dreams() -> None:
    game = make_game_contract("ALE/Pong-v5", noop_start_max=30)
    source = game_source(game)
    starts = [source.start_at(0, seed) for seed in range(3)]
    assert "recorded" not in source.controllers and not source.record_all
    assert np.array_equal(starts[1].frames, new_game(Emulator(game), 1).frames), "a function of the seed"
    assert len({start.replay.noop_starts for start in starts if start.replay}) == 3
    dream = dream_source("d", CounterWorld, game, starts)
    assert dream.make_truth is not None and not dream.truth_missing
    truth = dream.make_truth()
    truth.reset([starts[2]], [0])
    assert truth.step([0]).frames.shape == (1, 210, 160, 3)


def test_another_games_folder_is_refused_before_anything_is_played(tmp_path: Path) -> None:
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    open_dataset(tmp_path, replace(game, fps=11.0))
    with pytest.raises(ContractMismatch, match="fps"):
        game_source(game, record_dir=tmp_path)
    assert game_source(game, record_dir=tmp_path / "new").record_all


def test_a_dataset_is_shown_episode_after_episode(tmp_path: Path) -> None:
    episodes = record(tmp_path)
    source = dataset_source(tmp_path)
    assert not source.human and source.first_controller == "recorded" and len(source.starts) == len(episodes)
    index, seed = 0, 0
    for episode in [*episodes, episodes[0]]:
        start = source.start_at(index, seed)
        assert start.name == f"episode {episode.episode_id} frame 000000"
        assert start.future_actions is not None and np.array_equal(start.future_actions, episode.actions)
        index, seed = source.next_start(index, seed)
    open_dataset(tmp_path / "empty", make_game_contract(COUNTER_ENV))
    with pytest.raises(ValueError, match="holds no episode yet"):
        dataset_source(tmp_path / "empty")
