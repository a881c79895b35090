"""gamengen.games.doom.

ViZDoom as a game: exact replay, one table of chords, frames that are the screen, the whole chain.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from agents.policies import RandomPolicy
from agents.recorder import Player, Recorder, RecorderSettings
from gamengen.dataset.episodes import read_episodes
from gamengen.dataset.start_states import state_at
from gamengen.games.doom import KEYS, OPPOSITES, chords, is_doom
from gamengen.games.emulator import Emulator, make_env, make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.rollout import rollout

ROOT = Path(__file__).resolve().parent.parent
MOVES = ["MOVE_FORWARD", "MOVE_BACKWARD", "MOVE_LEFT", "MOVE_RIGHT", "TURN_LEFT", "TURN_RIGHT", "ATTACK"]


def test_the_table_holds_chords_that_a_player_can_press() -> None:
    minimal, full = chords(MOVES, "minimal"), chords(MOVES, "full")
    assert minimal[0] == full[0] == () and set(minimal) <= set(full)
    assert len(minimal) == 1 + 7 + (21 - 3) and max(map(len, full)) == 3
    for table in (minimal, full):
        assert len({frozenset(chord) for chord in table}) == len(table)
        assert not any(pair <= set(chord) for chord in table for pair in OPPOSITES)
    assert ("MOVE_FORWARD", "TURN_LEFT") in minimal and ("MOVE_FORWARD", "TURN_LEFT", "ATTACK") in full
    assert len(set(KEYS.values())) == len(KEYS), "no key presses two buttons"


def test_the_table_knows_only_the_scenarios_buttons() -> None:
    assert chords(["MOVE_LEFT", "ATTACK", "LOOK_UP_DOWN_DELTA"], "minimal") == [
        (), ("MOVE_LEFT",), ("ATTACK",), ("MOVE_LEFT", "ATTACK"),
    ]  # fmt: skip
    weapons = chords(["ATTACK", "SPEED", "MOVE_LEFT", "USE", "SELECT_WEAPON2"], "full")
    assert weapons[-3:] == [("USE",), ("SELECT_WEAPON2",), ("SPEED", "MOVE_LEFT")]


def test_which_games_are_doom() -> None:
    assert is_doom("VizdoomBasic-v1") and not is_doom("ALE/Pong-v5")


def test_without_vizdoom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vizdoom", None)
    monkeypatch.setitem(sys.modules, "vizdoom.gymnasium_wrapper", None)
    with pytest.raises(ValueError, match=r'pip install "gamengen\[doom\]"'):
        make_env("VizdoomBasic-v1")


@pytest.fixture
def doom() -> None:
    pytest.importorskip("vizdoom", reason="the extra `doom` is not installed")


@pytest.mark.usefixtures("doom")
def test_the_contract_of_a_scenario() -> None:
    game = make_game_contract("VizdoomDeathmatch-v1", frame_skip=2)
    assert (game.frame_height, game.frame_width, game.fps) == (240, 320, 17.5)
    table = {action.meaning: action.keys for action in game.actions}
    assert table["NOOP"] == () and table["MOVE_FORWARD+TURN_RIGHT"] == ("w", "ArrowRight")
    assert len(make_game_contract("VizdoomDeathmatch-v1", action_set="full").actions) > len(table)
    with pytest.raises(ValueError, match="did you mean VizdoomBasic-v1"):
        make_game_contract("VizdoomBasik-v1")


@pytest.mark.usefixtures("doom")
@pytest.mark.parametrize("env_id", ["VizdoomBasic-v1", "VizdoomDefendCenter-v1"])
def test_an_episode_depends_on_its_seed_and_actions_alone(env_id: str) -> None:
    """Not on the episodes before it, not on the process's age: the first one of a process was another."""
    game = make_game_contract(env_id, frame_skip=4)
    rng = np.random.default_rng(0)
    actions = rng.integers(game.num_actions, size=(3, 60)).tolist()

    def play(emulator: Emulator, seed: int) -> tuple[np.ndarray, list[float]]:
        frames, rewards = [emulator.reset(seed)], []
        for action in actions[seed]:
            frame, reward, terminated, truncated = emulator.step(action)
            frames.append(frame)
            rewards.append(reward)
            if terminated or truncated:
                break
        return np.stack(frames), rewards

    first, second = Emulator(game), Emulator(game)
    before = {seed: play(first, seed) for seed in (0, 1, 2)}
    after = {seed: play(second, seed) for seed in (2, 0, 1)}
    for seed, (frames, rewards) in before.items():
        assert np.array_equal(frames, after[seed][0]) and rewards == after[seed][1]
        assert frames.any(axis=(1, 2, 3)).all(), "no black frame, at the end either"
    assert not np.array_equal(before[0][0][0], before[1][0][0])
    first.close()
    second.close()


@pytest.mark.usefixtures("doom")
def test_settings_are_neither_left_in_the_working_directory_nor_read_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine keeps its settings in `_vizdoom.ini`, where it is started; it also makes an empty folder there."""
    monkeypatch.chdir(tmp_path)
    game = make_game_contract("VizdoomBasic-v1")
    frames = []
    for _ in range(2):
        emulator = Emulator(game)
        frames.append(emulator.reset(0))
        emulator.close()
        assert frames[1:] or not [path for path in tmp_path.rglob("*") if path.is_file()]
        (tmp_path / "_vizdoom.ini").write_text("[Doom.ConsoleVariables]\nvid_gamma=3\nscreenblocks=5\n")
    assert np.array_equal(*frames)
    assert "vid_gamma=3" in (tmp_path / "_vizdoom.ini").read_text()


@pytest.mark.usefixtures("doom")
def test_killing_the_monster_ends_the_scenario_with_its_reward() -> None:
    """VizdoomBasic: one monster on a line, one shot kills. Walk along the line and shoot."""
    game = make_game_contract("VizdoomBasic-v1", frame_skip=4)
    names = [action.meaning for action in game.actions]
    emulator = Emulator(game)
    for side in ("MOVE_LEFT", "MOVE_RIGHT"):
        emulator.reset(1)
        ended = truncated = False
        total = best = 0.0
        while not (ended or truncated):
            _, reward, ended, truncated = emulator.step(names.index(f"{side}+ATTACK"))
            total, best = total + reward, max(best, reward)
        if ended:
            break
    assert ended and not truncated and 1.2 < best < 1.4, "a hit and a kill, less the shot"
    emulator.close()


@pytest.mark.usefixtures("doom")
def test_recorded_episodes_replay_bit_for_bit(tmp_path: Path) -> None:
    game = make_game_contract("VizdoomDefendCenter-v1", frame_skip=4, noop_start_max=3)
    settings = RecorderSettings(num_steps=60, num_envs=1, max_episode_frames=30, random_hold=(1, 4))
    players = [Player(RandomPolicy(game.num_actions), epsilon=1.0)]
    Recorder(tmp_path / "data", game, players, settings).run()
    episodes = [
        episode for split in ("train", "validation", "test") for episode in read_episodes(tmp_path / "data", split)
    ]
    assert sum(len(episode.actions) for episode in episodes) == 60
    world = EmulatorWorld(game, 1)
    for episode in episodes:
        start = state_at(episode, 5, 4, 20)
        assert start.future_actions is not None
        played = rollout(world, [start], [0], start.future_actions[None])
        assert np.array_equal(played.frames[0], episode.frames[6 : 6 + len(start.future_actions)])
        assert len(np.unique(episode.frames[0].reshape(-1, 3), axis=0)) <= 256, "one palette: small files"
    world.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("doom")
def test_the_whole_chain_on_doom(tmp_path: Path) -> None:
    """The commands of docs/doom.md at the tiny preset: agent, episodes, VAE, latents, UNet, decoder, world, figures."""
    run = tmp_path / "run"
    subprocess.run(
        [
            sys.executable,
            "scripts/make_world.py",
            "--preset",
            "tiny",
            "--env_id",
            "VizdoomBasic-v1",
            "--episodes=--preset tiny --policy random",
            "--output_dir",
            str(run),
        ],  # fmt: skip
        cwd=ROOT,
        check=True,
    )
    report = json.loads((run / "eval" / "report.json").read_text())
    assert "next_frame" in report["metrics"] and (run / "rollout.gif").stat().st_size > 1000
    env = gymnasium.make("gamengen:World-v0", world=str(run), num_inference_steps=1)
    env.reset(seed=0)
    assert env.step(env.action_space.n - 1)[0].shape == (240, 320, 3)
    assert "MOVE_LEFT+ATTACK" in env.unwrapped.get_action_meanings()
