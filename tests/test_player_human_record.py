"""player.human_record: complete episodes from their first frame, which the emulator can play again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamengen.contract import ContractMismatch
from gamengen.dataset.episodes import list_episodes, read_episodes
from gamengen.games.emulator import Emulator, make_game_contract
from gamengen.player.human_record import HumanRecorder
from gamengen.player.source import new_game
from gamengen.world import StartState


def test_episodes_can_be_played_again(tmp_path: Path) -> None:
    game = make_game_contract("ALE/Pong-v5", noop_start_max=8)
    emulator, rng = Emulator(game), np.random.default_rng(0)
    recorder = HumanRecorder(tmp_path, game, "human-1")
    for seed in range(3):
        start = new_game(emulator, seed)
        recorder.begin(start, "human", emulator.ram(), emulator.lives())
        for _ in range(10 * seed):  # the first one is left at once: nothing of it is kept
            action = int(rng.integers(game.num_actions))
            frame, reward, _, _ = emulator.step(action)
            recorder.add(action, reward, frame, emulator.ram(), emulator.lives())
    assert recorder.num_episodes == 1 and recorder.num_steps == 30, "the last one still runs"
    recorder.cut()
    recorder.cut()
    episodes = list(read_episodes(tmp_path))
    assert sorted(len(episode.actions) for episode in episodes) == [10, 20]
    assert {episode.split for episode in episodes} == {"train", "validation"}
    for episode in episodes:
        again = Emulator(game)
        frames = [again.reset(episode.seed, episode.noop_starts)]
        frames += [again.step(int(action))[0] for action in episode.actions]
        assert np.array_equal(np.stack(frames), episode.frames) and episode.truncated
        assert episode.ram is not None and np.array_equal(episode.ram[-1], again.ram())
    with pytest.raises(ContractMismatch):
        HumanRecorder(tmp_path, make_game_contract("ALE/Breakout-v5"), "human-2")


def test_an_ended_game_is_on_disk_at_once_and_a_game_begins_at_its_beginning(tmp_path: Path) -> None:
    game = make_game_contract("ALE/Pong-v5")
    start = new_game(Emulator(game), 0)
    recorder = HumanRecorder(tmp_path, game, "human-1")
    recorder.begin(start, "human", None, None)
    recorder.add(0, 1.0, start.frames[0], None, None)
    recorder.end(terminated=True)
    (info,) = list_episodes(tmp_path)
    assert info.terminated and info.episode_return == 1.0 and info.agent == "human"
    with pytest.raises(ValueError, match="not the beginning of a game"):
        recorder.begin(StartState(start.frames, start.actions), "human", None, None)
