"""gamengen.vector_env: what Gymnasium's own vector environment gives over single ones, in one batched step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from gamengen.env import WorldEnv
from gamengen.games.emulator import make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.loading import load_start_states, load_world
from gamengen.rollout import rollout
from gamengen.vector_env import WorldVectorEnv
from gamengen.world import World
from tests.counter_env import COUNTER_ENV, read_count
from tests.test_env import counter_starts
from tests.worlds import tiny_pipeline

ID = "gamengen:World-v0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vector_env") / "world"
    tiny_pipeline().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def counters() -> Callable[[int], World]:
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    return lambda num_worlds: EmulatorWorld(game, num_worlds)


def equal(one: Any, other: Any) -> bool:
    """Equal in value, type and dtype, through infos in infos."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype == object:
        return one.shape == other.shape and all(
            (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))
            for a, b in zip(one, other, strict=True)
        )
    return one.dtype == other.dtype and np.array_equal(one, other)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("max_steps", [None, 4, 10])
def test_it_equals_gymnasiums_own_over_single_environments(
    counters: Callable[[int], World], mode: AutoresetMode, max_steps: int | None
) -> None:
    """Games of 12 to 14 frames, entered at their second to fourth, over many episodes and every way to begin one."""
    starts = counter_starts()
    own: VectorEnv[Any, Any, Any] = gymnasium.make_vec(
        ID, num_envs=3, world=counters, start_states=starts, max_episode_steps=max_steps, autoreset_mode=mode,
        render_mode="rgb_array",
    )  # fmt: skip
    assert isinstance(own.unwrapped, WorldVectorEnv)
    theirs = SyncVectorEnv(
        [
            lambda: gymnasium.make(
                ID, max_episode_steps=max_steps, world=counters, start_states=starts, render_mode="rgb_array"
            )
        ]
        * 3,
        autoreset_mode=mode,
    )
    assert own.observation_space == theirs.observation_space and own.action_space == theirs.action_space
    assert own.single_action_space == theirs.single_action_space and own.metadata["autoreset_mode"] is mode
    rng = np.random.default_rng(0)
    both = [env.reset(seed=7) for env in (own, theirs)]
    assert equal(both[0][0], both[1][0]) and equal(both[0][1], both[1][1])
    episodes = 0
    for _ in range(40):
        actions = rng.integers(4, size=3)
        steps = [env.step(actions) for env in (own, theirs)]
        for ours, expected in zip(*steps, strict=True):
            assert equal(ours, expected)
        assert equal(own.render(), theirs.render())
        ended = steps[0][2] | steps[0][3]
        episodes += int(ended.sum())
        if mode is AutoresetMode.DISABLED and ended.any():
            with pytest.raises(gymnasium.error.ResetNeeded, match="have ended"):
                own.step(actions)
            resets = [env.reset(options={"reset_mask": ended.copy()}) for env in (own, theirs)]
            assert equal(resets[0][0], resets[1][0]) and equal(resets[0][1], resets[1][1])
    assert episodes >= 3
    own.close()
    theirs.close()


def test_every_game_shows_its_own_actions(counters: Callable[[int], World]) -> None:
    env = WorldVectorEnv(counters, 3, start_states=counter_starts())
    frames, _ = env.reset(options={"start_state": [0, 1, 2]})
    assert [read_count(frame).episode for frame in frames] == [0, 1, 2]
    for t in range(5):
        actions = np.array([t % 4, (t + 1) % 4, (t + 2) % 4])
        frames, rewards, *_ = env.step(actions)
        assert [read_count(frame).previous_action for frame in frames] == actions.tolist() == rewards.tolist()
    env.close()


def test_a_batch_of_dreams_equals_rollout(folder: Path) -> None:
    env = gymnasium.make_vec(
        ID, num_envs=2, vectorization_mode="vector_entry_point", world=str(folder), num_inference_steps=2
    )
    actions = np.random.default_rng(0).integers(3, size=(2, 5))
    env.reset(options={"start_state": [0, 1], "seed": [3, 4]})
    seen = [env.step(actions[:, t])[0] for t in range(5)]
    world = load_world(folder, 2, num_inference_steps=2)
    dreamt = rollout(world, load_start_states(folder)[:2], [3, 4], actions)
    assert np.array_equal(np.stack(seen, axis=1), dreamt.frames)
    assert env.metadata["gives_reward"] is False and env.metadata["render_fps"] == 15
    assert env.render() is None and WorldVectorEnv.metadata["render_fps"] == 30


def test_a_batch_of_dreams_equals_single_ones_within_rounding(folder: Path) -> None:
    batched = WorldVectorEnv(str(folder), 3, num_inference_steps=1)
    frames, infos = batched.reset(seed=5)
    singles = [WorldEnv(str(folder), num_inference_steps=1) for _ in range(3)]
    for number, env in enumerate(singles):
        frame, info = env.reset(seed=5 + number)
        assert np.array_equal(frame, frames[number]) and info["start_state"] == infos["start_state"][number]
    for t in range(4):
        frames, *_ = batched.step(np.full(3, t % 3))
        for number, env in enumerate(singles):
            apart = frames[number].astype(int) - env.step(t % 3)[0].astype(int)
            assert np.abs(apart).max() <= 1


def test_gymnasiums_vector_wrappers_see_the_episodes(counters: Callable[[int], World]) -> None:
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(
        WorldVectorEnv(counters, 2, max_episode_steps=3, start_states=counter_starts())
    )
    env.reset(seed=0)
    for _ in range(8):  # episodes of three steps, and one step to begin the next
        *_, infos = env.step(np.array([1, 2]))
    assert list(env.return_queue) == [3.0, 6.0] * 2 and list(env.length_queue) == [3] * 4
    assert "episode" not in infos


def test_what_the_environment_gives_belongs_to_the_user(counters: Callable[[int], World]) -> None:
    env = WorldVectorEnv(counters, 2, "rgb_array", start_states=counter_starts())
    for give in (lambda: env.reset(seed=0)[0], lambda: env.step(np.zeros(2, np.int64))[0]):
        frames = give()
        kept = frames.copy()
        frames[:] = 0
        rendered = env.render()
        assert rendered is not None and np.array_equal(np.stack(rendered), kept)
        rendered[0][:] = 0
        assert np.array_equal(np.stack(env.render() or ()), kept)


def test_what_does_not_fit_is_refused(counters: Callable[[int], World]) -> None:
    starts = counter_starts()
    with pytest.raises(ValueError, match="render_mode: expected None or 'rgb_array' for many games"):
        WorldVectorEnv(counters, 2, "human", start_states=starts)
    with pytest.raises(ValueError, match="max_episode_steps: expected at least 1"):
        WorldVectorEnv(counters, 2, max_episode_steps=0, start_states=starts)
    with pytest.raises(ValueError, match="not a valid AutoresetMode"):
        WorldVectorEnv(counters, 2, autoreset_mode="Sometimes", start_states=starts)
    env = WorldVectorEnv(counters, 2, start_states=starts)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="reset: seed: expected 2, one a game, got 3"):
        env.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="reset: start_state: expected 2, one a game, got 1"):
        env.reset(options={"start_state": [0]})
    for mask in ([True], [1, 0], [False, False]):
        with pytest.raises(ValueError, match=r"reset_mask: expected bool \(2,\) with at least one True"):
            env.reset(options={"reset_mask": np.array(mask)})
