"""agents.recorder, agents.stream: the recording depends on its settings alone; a kill costs time, nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from agents.policies import ConstantPolicy, DecisionContext, RandomPolicy
from agents.recorder import Player, Recorder, RecorderSettings
from gamengen.contract import ContractMismatch, GameContract
from gamengen.dataset.episodes import list_episodes, read_episodes, verify_dataset
from gamengen.durable import folder_lock
from gamengen.games.emulator import Emulator, make_game_contract
from tests.counter_env import COUNTER_ENV, read_count

ROOT = Path(__file__).resolve().parent.parent


class IdlePolicy:
    """Never begins a game; in its training that was done for it."""

    name = "idle"
    observation_skip = None
    fire_on_reset = True

    def act(self, contexts: list[DecisionContext]) -> list[int]:
        return [0] * len(contexts)


class ReadingPolicy:
    """Answers with the low bits of the t that it reads from the frame: its actions show what it saw."""

    name = "reading"
    observation_skip = None

    def act(self, contexts: list[DecisionContext]) -> list[int]:
        return [read_count(context.frame).t % 4 for context in contexts]


def contract(**changes: object) -> GameContract:
    return make_game_contract(COUNTER_ENV, **{"frame_skip": 1, **changes})  # type: ignore[arg-type]


def record(folder: Path, game: GameContract, *players: Player, **settings: object) -> None:
    values: dict[str, object] = {"num_steps": 300, "num_envs": 3, **settings}
    Recorder(folder, game, players or [Player(RandomPolicy(4))], RecorderSettings(**values)).run()  # type: ignore[arg-type]


def data(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name[0] != "." and "writers" not in path.parts
    }


@pytest.mark.parametrize("hold", [(1, 1), (3, 3)])
def test_fire_is_pressed_for_a_policy_that_was_trained_so(tmp_path: Path, hold: tuple[int, int]) -> None:
    """Else Breakout shows an agent that waits for a ball, for as long as an episode may be."""
    pytest.importorskip("ale_py")
    game = make_game_contract("ALE/Breakout-v5", hold=hold)
    fire = [action.meaning for action in game.actions].index("FIRE")
    settings = {"num_envs": 1, "num_steps": 400, "max_episode_frames": 2000}
    record(tmp_path / "fired", game, Player(IdlePolicy()), **settings)
    pressed = 0
    for episode in read_episodes(tmp_path / "fired"):
        assert episode.lives is not None and episode.actions[0] == fire
        lost = (np.diff(episode.lives) < 0).nonzero()[0] + 1  # frames that show it
        due = {0, *(int(t) for t in lost)}
        for t in (episode.actions == fire).nonzero()[0]:
            assert any(0 <= t - moment < hold[1] for moment in due), "where a life begins, after what was held"
        expected = 1 + int((lost < len(episode.actions) - hold[1]).sum())
        assert (episode.actions == fire).sum() >= expected
        pressed += expected
    assert pressed >= 5
    record(tmp_path / "idle", game, Player(ConstantPolicy(0)), **settings)
    assert all(not episode.actions.any() for episode in read_episodes(tmp_path / "idle"))


@pytest.mark.parametrize("frame_skip", [1, 3])
@pytest.mark.parametrize("hold", [(1, 1), (1, 4), (3, 3)])
def test_actions_lead_to_the_next_frame(tmp_path: Path, frame_skip: int, hold: tuple[int, int]) -> None:
    """The law of time, read off the pixels, with decisions held and frames skipped."""
    game = contract(frame_skip=frame_skip, hold=hold, noop_start_max=2)
    record(tmp_path, game, Player(ReadingPolicy()), max_episode_frames=9)
    decisions = []
    for episode in read_episodes(tmp_path):
        counts = [read_count(frame) for frame in episode.frames]
        assert {count.episode for count in counts} == {episode.seed % 4096}, "an episode holds its own frames only"
        assert counts[0].t == episode.noop_starts * frame_skip
        for t, action in enumerate(episode.actions):
            assert counts[t + 1].previous_action == action
            assert 0 < counts[t + 1].t - counts[t].t <= frame_skip
            assert episode.rewards[t] == action * (counts[t + 1].t - counts[t].t)
        length = 12 + episode.seed % 4096 % 17
        assert episode.terminated == (counts[-1].t == length), "the true last frame is there"
        assert episode.terminated != episode.truncated
        assert episode.terminated or len(episode.actions) <= 9
        t = 0
        while t < len(episode.actions):  # where a decision begins, the action tells which frame was seen
            held = 1
            while t + held < len(episode.actions) and held < hold[0]:
                assert episode.actions[t + held] == episode.actions[t]
                held += 1
            if hold[0] == hold[1]:
                decisions.append(episode.actions[t] == counts[t].t % 4)
            t += held
    assert all(decisions)
    assert sum(info.num_frames - 1 for info in list_episodes(tmp_path)) == 300


def test_every_player_gets_its_share_and_its_errors(tmp_path: Path) -> None:
    players = [Player(ConstantPolicy(1, "one"), share=3), Player(ConstantPolicy(2, "two"), share=1, epsilon=0.5)]
    record(tmp_path, contract(), *players, num_steps=3000, random_hold=(2, 2))
    episodes = list(read_episodes(tmp_path))
    by_agent = {name: [e for e in episodes if e.agent == name] for name in ("one", "two@0.5")}
    assert len(by_agent["one"]) / len(episodes) == pytest.approx(0.75, abs=0.1)
    assert all((episode.actions == 1).all() for episode in by_agent["one"])
    others = np.concatenate([episode.actions != 2 for episode in by_agent["two@0.5"]])
    # A random action begins at half of the free decisions and lasts for two: 2/3 of the time, 3/4 of it not the 2.
    assert others.mean() == pytest.approx(0.5, abs=0.1)
    assert {episode.split for episode in episodes} == {"train", "validation", "test"}


def test_same_settings_same_bytes_other_seed_other_episodes(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        record(tmp_path / name, contract(noop_start_max=3, hold=(1, 3)), seed=seed)
    assert data(tmp_path / "a") == data(tmp_path / "b")
    seeds = [{info.seed for info in list_episodes(tmp_path / name)} for name in "ac"]
    assert not seeds[0] & seeds[1] and len(seeds[0]) == len(list_episodes(tmp_path / "a"))


def test_a_second_run_does_nothing_and_more_steps_extend(tmp_path: Path) -> None:
    record(tmp_path, contract())
    before = data(tmp_path)
    record(tmp_path, contract())
    assert data(tmp_path) == before
    record(tmp_path, contract(), num_steps=500)
    after = data(tmp_path)
    assert all(after[name] == content for name, content in before.items() if name.endswith(".parquet"))
    assert sum(info.num_frames - 1 for info in list_episodes(tmp_path)) == 500


@pytest.mark.parametrize("shares", [(2, 3), (3, 2), (6, 1)])
def test_many_processes_give_the_bytes_of_one(tmp_path: Path, shares: tuple[int, int]) -> None:
    game, players = contract(hold=(1, 2), noop_start_max=2), [Player(RandomPolicy(4)), Player(ReadingPolicy())]
    record(tmp_path / "one", game, *players, num_envs=6)
    num_shards, num_envs = shares
    for shard_id in reversed(range(num_shards)):
        record(tmp_path / "many", game, *players, num_envs=num_envs, num_shards=num_shards, shard_id=shard_id)
    assert data(tmp_path / "many") == data(tmp_path / "one")


def test_shards_add_up_to_the_whole(tmp_path: Path) -> None:
    """Two processes in one folder, against the same two in the other order."""
    for name, order in (("a", (0, 1)), ("b", (1, 0))):
        for shard_id in order:
            record(tmp_path / name, contract(), shard_id=shard_id, num_shards=2, num_envs=2)
    assert data(tmp_path / "a") == data(tmp_path / "b")
    infos = list_episodes(tmp_path / "a")
    assert len({info.episode_id for info in infos}) == len(infos)
    assert len({info.stream_id for info in infos}) == 4 and sum(info.num_frames - 1 for info in infos) == 300


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shard_id 2: expected 0 to 1"):
        record(tmp_path, contract(), shard_id=2, num_shards=2)
    with pytest.raises(ValueError, match="shares above 0"):
        record(tmp_path, contract(), Player(RandomPolicy(4), share=0))
    record(tmp_path, contract())
    with pytest.raises(ContractMismatch, match="frame_skip"):
        record(tmp_path, contract(frame_skip=2))


PROGRAM = """
import sys
from agents.policies import RandomPolicy
from agents.recorder import Player, Recorder, RecorderSettings
from gamengen.games.emulator import make_game_contract

game = make_game_contract("tests.counter_env:CounterEnv-v0", frame_skip=1, hold=(1, 3))
settings = RecorderSettings(
    num_steps=1500, num_envs=2, rows_per_file=150, shard_id=int(sys.argv[2]), num_shards=int(sys.argv[3])
)
Recorder(sys.argv[1], game, [Player(RandomPolicy(4), epsilon=0.2)], settings).run()
"""


def start(folder: Path, shard_id: int = 0, num_shards: int = 1) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", PROGRAM, str(folder), str(shard_id), str(num_shards)]
    return subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE)


def test_a_killed_recorder_leaves_whole_episodes_and_continues_as_if_it_had_not_been(tmp_path: Path) -> None:
    clean, killed = start(tmp_path / "clean"), start(tmp_path / "killed")
    streams = tmp_path / "killed" / "streams"
    while killed.poll() is None and not (streams.is_dir() and list(streams.glob("*.json"))):
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    infos = list_episodes(tmp_path / "killed")
    assert 0 < sum(info.num_frames - 1 for info in infos) < 1500, "killed in between"
    verify_dataset(tmp_path / "killed")
    for episode in read_episodes(tmp_path / "killed"):
        assert episode.terminated or episode.truncated
    again = start(tmp_path / "killed")
    assert (again.wait(120), clean.wait(120)) == (0, 0)
    assert data(tmp_path / "killed") == data(tmp_path / "clean")


def stop_outside_the_shared_lock(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Stop a recorder, but not while it holds the lock that every writer of the dataset waits for."""
    while True:
        process.send_signal(signal.SIGSTOP)
        try:
            with folder_lock(folder, wait=False):
                return
        except BlockingIOError:  # it, or the other shard
            process.send_signal(signal.SIGCONT)
            time.sleep(0.005)


def test_two_processes_never_collide(tmp_path: Path) -> None:
    """Shards side by side make one dataset; the same shard twice is refused while the first runs."""
    shards = [start(tmp_path, shard_id, 2) for shard_id in range(2)]
    while not list(tmp_path.glob("streams/*-000-000.json")):  # by then it holds its locks
        time.sleep(0.002)
        assert shards[0].poll() is None
    stop_outside_the_shared_lock(shards[0], tmp_path)
    lock = next(tmp_path.glob(".record-*-000-001.lock")).name
    with pytest.raises(BlockingIOError), folder_lock(tmp_path, lock, wait=False):
        pass
    twice = start(tmp_path, 0, 2)
    assert "another process records stream record-" in twice.communicate(timeout=120)[1].decode()
    shards[0].send_signal(signal.SIGCONT)
    assert [shard.wait(120) for shard in shards] == [0, 0]
    verify_dataset(tmp_path)
    infos = list_episodes(tmp_path)
    assert sum(info.num_frames - 1 for info in infos) == 1500
    assert len({info.episode_id for info in infos}) == len(infos)


def test_a_recorded_atari_game_replays(tmp_path: Path) -> None:
    pytest.importorskip("ale_py")
    game = make_game_contract("ALE/Pong-v5", frame_skip=2, hold=(1, 4), noop_start_max=5)
    record(tmp_path, game, Player(RandomPolicy(6)), num_envs=1, num_steps=60, max_episode_frames=40)
    emulator = Emulator(game)
    for episode in read_episodes(tmp_path):
        assert np.array_equal(emulator.reset(episode.seed, episode.noop_starts), episode.frames[0])
        for t, action in enumerate(episode.actions):
            frame, reward, _, _ = emulator.step(int(action))
            assert np.array_equal(frame, episode.frames[t + 1]) and reward == episode.rewards[t]
        assert episode.ram is not None and np.array_equal(emulator.ram(), episode.ram[-1])
        assert episode.lives is not None
    emulator.close()
