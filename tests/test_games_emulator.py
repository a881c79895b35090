"""emulator: our frame skip is the console's, every episode can be played again, wrong ids are helped."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest

from gamengen.contract import GameContract
from gamengen.games.emulator import Emulator, default_keys, make_game_contract
from tests.counter_env import COUNTER_ENV, read_count

pytest.importorskip("ale_py")
PONG = "ALE/Pong-v5"


@pytest.fixture(scope="module")
def pong() -> GameContract:
    return make_game_contract(PONG)


def random_actions(count: int, game: GameContract, seed: int = 0) -> list[int]:
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(game.num_actions, size=count // 4 + 1), 4)[:count].tolist()


def play(game: GameContract, seed: int, noop_starts: int, actions: list[int]) -> tuple[np.ndarray, list[float]]:
    emulator = Emulator(game)
    frames, rewards = [emulator.reset(seed, noop_starts)], []
    for action in actions:
        frame, reward, terminated, truncated = emulator.step(action)
        frames.append(frame)
        rewards.append(reward)
        if terminated or truncated:
            break
    emulator.close()
    return np.stack(frames), rewards


def test_contract_of_an_atari_game(pong: GameContract) -> None:
    assert (pong.frame_height, pong.frame_width, pong.fps) == (210, 160, 15.0)
    assert {a.meaning: a.keys for a in pong.actions} == {
        "NOOP": (), "FIRE": (" ",), "RIGHT": ("ArrowRight",), "LEFT": ("ArrowLeft",),
        "RIGHTFIRE": ("ArrowRight", " "), "LEFTFIRE": ("ArrowLeft", " "),
    }  # fmt: skip
    full = make_game_contract(PONG, frame_skip=2, action_set="full")
    assert full.num_actions == 18 and full.fps == 30.0
    assert full.actions[-1].keys == ("ArrowDown", "ArrowLeft", " ")


def test_contract_of_any_other_game() -> None:
    game = make_game_contract(COUNTER_ENV, frame_skip=3)
    assert (game.frame_height, game.frame_width, game.fps, game.num_actions) == (32, 32, 10.0, 4)
    assert [action.keys for action in game.actions] == [(), ("1",), ("2",), ("3",)]
    assert default_keys("ACTION_12", 12) == ()


def test_our_frame_skip_is_the_emulators(pong: GameContract) -> None:
    """Against Gymnasium's own frame skip, frame for frame."""
    actions = random_actions(60, pong)
    env = gymnasium.make(PONG, frameskip=4, repeat_action_probability=0.0)
    observation, _ = env.reset(seed=3)
    theirs, their_rewards = [observation], []
    for action in actions:
        observation, reward, *_ = env.step(action)
        theirs.append(observation)
        their_rewards.append(reward)
    env.close()
    frames, rewards = play(pong, 3, 0, actions)
    assert np.array_equal(frames, np.stack(theirs)) and rewards == their_rewards
    assert len(np.unique(frames.reshape(len(frames), -1), axis=0)) > 20, "the game must have moved"


@pytest.mark.parametrize("changes", [{}, {"sticky_probability": 0.25}, {"max_pool": True, "frame_skip": 2}])
def test_replay_is_exact(pong: GameContract, changes: dict[str, object]) -> None:
    """Also right after another episode in the same emulator."""
    game = dataclasses.replace(pong, **changes)  # type: ignore[arg-type]
    actions = random_actions(60, game)
    frames, rewards = play(game, 11, 7, actions)
    emulator = Emulator(game)
    emulator.reset(5)
    for action in actions[:9]:
        emulator.step(action)
    assert np.array_equal(emulator.reset(11, 7), frames[0])
    for t, action in enumerate(actions):
        frame, reward, _, _ = emulator.step(action)
        assert np.array_equal(frame, frames[t + 1]) and reward == rewards[t]
    emulator.close()


def test_sticky_actions_differ_from_none_and_follow_the_seed(pong: GameContract) -> None:
    sticky = dataclasses.replace(pong, sticky_probability=0.5)
    actions = random_actions(80, pong)
    plain = play(pong, 1, 0, actions)[0]
    one, two = (play(sticky, seed, 0, actions)[0] for seed in (1, 2))
    assert not np.array_equal(plain, one) and not np.array_equal(one, two)


def test_sticky_actions_of_other_games() -> None:
    game = make_game_contract(COUNTER_ENV, frame_skip=1, sticky_probability=0.5)
    actions = [1, 2, 3] * 4
    seen = [[read_count(frame).previous_action for frame in play(game, seed, 0, actions)[0][1:]] for seed in (5, 5, 6)]
    assert seen[0] == seen[1] and seen[0] != seen[2]
    repeated = [a != b for a, b in zip(seen[0], actions, strict=True)]
    assert 0 < sum(repeated) < len(actions)


def test_max_pooling_is_the_brighter_of_the_last_two_frames(pong: GameContract) -> None:
    actions = random_actions(30, pong)
    pooled = play(dataclasses.replace(pong, max_pool=True), 2, 0, actions)[0]
    single = play(dataclasses.replace(pong, frame_skip=1), 2, 0, np.repeat(actions, 4).tolist())[0]
    for t in range(1, len(pooled)):
        assert np.array_equal(pooled[t], np.maximum(single[4 * t], single[4 * t - 1]))


@pytest.mark.parametrize("frame_skip", [1, 3, 5])
def test_the_true_last_frame_is_kept(frame_skip: int) -> None:
    """The episode of seed 2 has 14 steps: a skip of 3 or 5 ends inside."""
    game = make_game_contract(COUNTER_ENV, frame_skip=frame_skip)
    frames, rewards = play(game, 2, 0, [3] * 50)
    counts = [read_count(frame) for frame in frames]
    assert [count.t for count in counts] == [*range(0, 14, frame_skip), 14]
    assert sum(rewards) == 3 * 14


def test_a_lost_life_does_not_end_the_episode() -> None:
    game = make_game_contract("ALE/Breakout-v5")
    emulator = Emulator(game)
    emulator.reset(0)
    lives = [emulator.lives()]
    for step in range(200):
        _, _, terminated, _ = emulator.step(1 if step % 10 == 0 else 0)
        lives.append(emulator.lives())
        if lives[-1] == 3:
            break
        assert not terminated
    emulator.close()
    assert lives[0] == 5 and lives[-1] == 3


def test_a_clone_continues_the_same(pong: GameContract) -> None:
    """In another emulator too: its screen is stale after a restore, and it forgets what a sticky action repeats."""
    game = dataclasses.replace(pong, sticky_probability=0.7, max_pool=True)
    actions = random_actions(40, game)
    first, second = Emulator(game), Emulator(game)
    first.reset(4, 3)
    second.reset(9)
    for action in actions[:20]:
        first.step(action)
    clone, frame = first.clone(), first.frame()
    ahead = [first.step(action)[0] for action in actions]
    for emulator in (first, second):
        emulator.restore(clone)
        assert np.array_equal(emulator.frame(), frame)
        assert np.array_equal([emulator.step(action)[0] for action in actions], ahead)
    first.close()
    second.close()


def test_no_op_starts_are_recorded_stream_steps() -> None:
    game = make_game_contract(COUNTER_ENV, frame_skip=2)
    emulator = Emulator(game)
    assert read_count(emulator.reset(7, 4)).t == 8
    assert read_count(emulator.reset(7, 1000)).t == 0, "a game that ends under no-ops begins again"


def test_frames_are_fresh_arrays(pong: GameContract) -> None:
    emulator = Emulator(pong)
    frame = emulator.reset(0)
    frame[:] = 0
    assert emulator.frame().any()
    emulator.close()


@pytest.mark.parametrize(
    "wrong, hint",
    [
        ("ALE/Pnog-v5", "ALE/Pong-v5"),
        ("CartPol-v1", "CartPole-v1"),
        ("ALE/Pong-v9", "ALE/Pong-v5"),
        ("Pong-v5", r"did you mean ALE/Pong-v5 or (?!.*-v[04])"),  # those of old skip frames as they like
        ("no.such.module:Qzx-v0", "No module named 'no'"),
    ],
)
def test_unknown_ids_are_answered_with_near_ones(wrong: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"unknown environment id '{wrong}'.*{hint}"):
        make_game_contract(wrong)


def test_unfit_environments_settings_and_actions_are_refused(pong: GameContract) -> None:
    with pytest.raises(ValueError, match="Discrete"):
        make_game_contract("Pendulum-v1")
    with pytest.raises(ValueError, match="full action set"):
        make_game_contract(COUNTER_ENV, action_set="full")
    with pytest.raises(ValueError, match="frame_skip 0"):
        make_game_contract(PONG, frame_skip=0)
    emulator = Emulator(pong)
    emulator.reset(0)
    with pytest.raises(ValueError, match="action 6 .*0 NOOP, 1 FIRE"):
        emulator.step(6)
    emulator.close()


def test_stepping_past_the_end_is_refused() -> None:
    emulator = Emulator(make_game_contract(COUNTER_ENV, frame_skip=100))
    emulator.reset(0)
    emulator.step(0)
    with pytest.raises(ValueError, match="has ended; call reset"):
        emulator.step(0)


def test_an_emulator_with_another_action_table_is_refused(pong: GameContract) -> None:
    with pytest.raises(ValueError, match="another version"):
        Emulator(dataclasses.replace(pong, actions=pong.actions[:3]))
