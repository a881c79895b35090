"""dataset_world: the recording as it is, frame by frame, and nothing that is not in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamengen.dataset.dataset_world import DatasetWorld, episode_start
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import Episode, read_episodes
from gamengen.games.emulator import Emulator, make_game_contract
from gamengen.world import World
from tests.counter_env import COUNTER_ENV


def record(folder: Path, episodes: int = 3) -> list[Episode]:
    """CounterEnv games of random actions, as a recorder writes them."""
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    emulator, writer, rng = (
        Emulator(game),
        EpisodeWriter(folder, game, "one", rows_per_file=30),
        np.random.default_rng(0),
    )
    for seed in range(episodes):
        writer.begin(emulator.reset(seed), seed=seed, split="train" if seed else "validation", agent="random")
        ended = False
        while not ended:
            action = int(rng.integers(4))
            frame, reward, ended, _ = emulator.step(action)
            writer.append(action, reward, frame)
        writer.end(True, False)
    writer.flush()
    return list(read_episodes(folder))


def test_it_shows_the_recording(tmp_path: Path) -> None:
    episodes = record(tmp_path)
    world = DatasetWorld(tmp_path, num_worlds=3)
    assert isinstance(world, World) and not world.options
    starts = [episode_start(world.read(episode.episode_id)) for episode in episodes]
    world.reset(starts, seeds=[0, 0, 0])
    for t in range(max(len(episode.actions) for episode in episodes)):
        live = [t < len(episode.actions) for episode in episodes]
        assert world.ended().tolist() == [not alive for alive in live]
        step = world.step([int(e.actions[t]) if alive else 0 for e, alive in zip(episodes, live, strict=True)])
        assert step.rewards is not None and step.terminated is not None
        for row, episode in enumerate(episodes):
            last = min(t + 1, len(episode.actions))
            assert np.array_equal(step.frames[row], episode.frames[last])
            assert step.rewards[row] == (episode.rewards[t] if live[row] else 0)
            assert step.terminated[row] == (t + 1 == len(episode.actions)) or not live[row]


def test_it_goes_back_and_begins_anywhere(tmp_path: Path) -> None:
    (episode, *_) = record(tmp_path, 1)
    world = DatasetWorld(tmp_path)
    start = episode_start(world.read(episode.episode_id))
    world.reset([start], [0])
    kept = world.snapshot()
    world.step([episode.actions[0]])
    world.restore(kept)
    assert np.array_equal(world.step([episode.actions[0]]).frames[0], episode.frames[1])


def test_what_is_not_in_the_recording_is_refused(tmp_path: Path) -> None:
    (episode, *_) = record(tmp_path, 1)
    world = DatasetWorld(tmp_path)
    with pytest.raises(ValueError, match="call reset first"):
        world.step([0])
    start = episode_start(world.read(episode.episode_id))
    world.reset([start], [0])
    with pytest.raises(ValueError, match="can only be repeated"):
        world.step([(episode.actions[0] + 1) % 4])
    with pytest.raises(ValueError, match="no episode 'other'"):
        world.read("other")
    with pytest.raises(FileNotFoundError, match="episode dataset"):
        DatasetWorld(tmp_path / "nowhere")
    file = next((tmp_path / "data").glob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="damaged"):
        DatasetWorld(tmp_path).read(episode.episode_id)
