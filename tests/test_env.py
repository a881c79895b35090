"""gamengen.env: a World as Gymnasium, its checkers, Stable-Baselines3, its wrappers and `play` expect one."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from gamengen.contract import Action
from gamengen.env import WorldEnv, keys_to_action
from gamengen.games.emulator import Emulator, action_meanings, make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.loading import load_start_states, load_world
from gamengen.rollout import rollout
from gamengen.world import Replay, StartState
from tests.counter_env import COUNTER_ENV, read_count
from tests.worlds import tiny_game, tiny_pipeline, tiny_starts

ID = "gamengen:World-v0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("env") / "world"
    tiny_pipeline().save_pretrained(path)
    return path


@pytest.fixture
def dream(folder: Path) -> Iterator[gymnasium.Env[Any, Any]]:
    env = gymnasium.make(ID, world=str(folder), num_inference_steps=1, render_mode="rgb_array")
    yield env
    env.close()


def counter_starts(count: int = 3) -> list[StartState]:
    """States a few steps into CounterEnv's episodes of seeds 0, 1, ..."""
    emulator = Emulator(make_game_contract(COUNTER_ENV, frame_skip=1))
    starts = []
    for seed in range(count):
        actions = [(seed + t) % 4 for t in range(seed + 2)]
        frames = [emulator.reset(seed), *(emulator.step(action)[0] for action in actions)]
        replay = Replay(seed, np.array(actions))
        starts.append(StartState(np.stack(frames[-1:]), np.zeros(0, np.int64), replay, name=f"counter {seed}"))
    return starts


def counter_env(**kwargs: Any) -> gymnasium.Env[Any, Any]:
    """The real CounterEnv as a World as an environment."""
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    return gymnasium.make(
        ID, world=lambda n: EmulatorWorld(game, n), start_states=counter_starts(), render_mode="rgb_array", **kwargs
    )


@pytest.mark.filterwarnings("error")
def test_it_passes_gymnasiums_checker(folder: Path) -> None:
    pytest.importorskip("pygame")  # the checker makes the environment in each of its render modes
    check_env(gymnasium.make(ID, world=str(folder), num_inference_steps=1, disable_env_checker=True).unwrapped)


@pytest.mark.filterwarnings("error:::stable_baselines3", "ignore:The minimal resolution for an image is 36x36")
def test_it_passes_stable_baselines3s_checker(dream: gymnasium.Env[Any, Any]) -> None:
    checker = pytest.importorskip("stable_baselines3.common.env_checker")
    checker.check_env(dream.unwrapped, skip_render_check=False)


def test_env_and_rollout_and_world_show_the_same_frames(folder: Path, dream: gymnasium.Env[Any, Any]) -> None:
    actions = np.random.default_rng(0).integers(3, size=7)
    start = load_start_states(folder)[1]
    first, info = dream.reset(options={"start_state": 1, "seed": 11})
    assert np.array_equal(first, start.frames[-1]) and info == {"start_state": start.name, "seed": 11}
    seen = [dream.step(action)[0] for action in actions]
    world = load_world(folder, 1, num_inference_steps=1)
    dreamt = rollout(world, [start], [11], actions[None])
    assert np.array_equal(np.stack(seen), dreamt.frames[0])
    world.reset([start], [11])
    for action, frame in zip(actions, seen, strict=True):
        assert np.array_equal(world.step([action]).frames[0], frame)
    assert np.array_equal(dream.render(), seen[-1])


def test_a_seed_fixes_the_episode_and_those_after_it(dream: gymnasium.Env[Any, Any]) -> None:
    def episode(seed: int | None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], np.ndarray]:
        frame, info = dream.reset(seed=seed, options=options)
        return info, np.stack([frame, *(dream.step(t % 3)[0] for t in range(3))])

    runs = [[episode(5), episode(None), episode(None)] for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert one[0] == other[0] and np.array_equal(one[1], other[1])
    assert len({info["seed"] for info, _ in runs[0]}) == 3
    # An option for one episode does not change what the next one draws.
    episode(5, {"start_state": 0, "seed": 1})
    assert episode(None)[0] == runs[0][1][0]
    assert {episode(seed)[0]["start_state"] for seed in range(12)} == {start.name for start in tiny_starts()}


def test_start_states_are_chosen_by_position_name_and_value(dream: gymnasium.Env[Any, Any]) -> None:
    mine = replace(tiny_starts(seed=9)[0], name="mine")
    for wanted, name in ((0, "tiny-0"), (np.int64(1), "tiny-1"), (tiny_starts()[1].name, "tiny-1"), (mine, "mine")):
        frame, info = dream.reset(options={"start_state": wanted})
        assert name in info["start_state"]
    assert np.array_equal(frame, mine.frames[-1])
    for wanted, match in ((2, "expected 0 to 1"), ("nowhere", "no start state is named 'nowhere'")):
        with pytest.raises(ValueError, match=match):
            dream.reset(options={"start_state": wanted})
    with pytest.raises(ValueError, match=r"unknown options \['start'\]; expected start_state, seed"):
        dream.reset(options={"start": 0})


def test_the_real_game_goes_through_it_unchanged() -> None:
    """CounterEnv's pixels say (episode, t, previous action); its reward is the action, and it ends."""
    env = counter_env()
    assert env.metadata["gives_reward"] and env.metadata["gives_termination"] and env.metadata["render_fps"] == 30
    for number in range(3):
        frame, _ = env.reset(seed=number, options={"start_state": number})
        count, ended, steps = read_count(frame), False, 0
        assert (count.episode, count.t) == (number, number + 2)
        while not ended:
            action = steps % 4
            frame, reward, ended, truncated, _ = env.step(action)
            steps += 1
            assert read_count(frame) == (number, count.t + steps, action) and reward == action and not truncated
        assert count.t + steps == 12 + number  # the length of its episodes
    env.close()


def test_without_a_reward_or_an_end_metadata_says_so(dream: gymnasium.Env[Any, Any]) -> None:
    dream.reset(seed=0)
    _, reward, terminated, truncated, info = dream.step(1)
    assert (reward, terminated, truncated, info) == (0.0, False, False, {})
    assert type(reward) is float and type(terminated) is bool
    assert dream.metadata["gives_reward"] is False and dream.metadata["gives_termination"] is False
    assert dream.metadata["render_fps"] == 15 and WorldEnv.metadata["render_fps"] == 30, "the class stays as it is"


def test_max_episode_steps_truncate(folder: Path) -> None:
    env = gymnasium.make(ID, world=str(folder), num_inference_steps=1, max_episode_steps=3)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(3)] == [False, False, True]


def test_observations_belong_to_the_user(dream: gymnasium.Env[Any, Any]) -> None:
    frame, _ = dream.reset(seed=0)
    frame[:] = 0
    assert dream.render().any()
    again, _ = dream.reset(seed=0)
    assert again.any()
    shown, *_ = dream.step(1)
    kept = shown.copy()
    shown[:] = 0
    assert np.array_equal(dream.render(), kept)


def test_keys_are_the_action_tables_in_pygames_numbers() -> None:
    table = (
        Action(meaning="NOOP"), Action(meaning="FIRE", keys=(" ",)), Action(meaning="UP", keys=("ArrowUp",)),
        Action(meaning="LEFTFIRE", keys=("ArrowLeft", " ")), Action(meaning="w", keys=("W",)),
        Action(meaning="again", keys=("ArrowUp",)),
    )  # fmt: skip
    game = replace(tiny_game(), actions=table)
    keys = keys_to_action(game)
    assert keys == {(32,): 1, (0x40000052,): 2, (32, 0x40000050): 3, (ord("w"),): 4}
    pygame = pytest.importorskip("pygame")
    assert {pygame.K_SPACE, pygame.K_UP, pygame.K_LEFT, pygame.K_w} == {code for chord in keys for code in chord}
    named = {"ArrowRight": pygame.K_RIGHT, "ArrowDown": pygame.K_DOWN, "Control": pygame.K_LCTRL, "Tab": pygame.K_TAB,
             "Shift": pygame.K_LSHIFT, "Alt": pygame.K_LALT, "Enter": pygame.K_RETURN,
             "Backspace": pygame.K_BACKSPACE, "Escape": pygame.K_ESCAPE}  # fmt: skip
    for key, code in named.items():
        assert keys_to_action(replace(game, actions=(Action(meaning="x", keys=(key,)),))) == {(code,): 0}
    with pytest.raises(ValueError, match="names the key 'F99'"):
        keys_to_action(replace(game, actions=(Action(meaning="x", keys=("F99",)),)))


def test_play_runs_the_action_of_the_pressed_keys() -> None:
    pygame = pytest.importorskip("pygame")
    play = pytest.importorskip("gymnasium.utils.play").play
    env = counter_env()
    script = {2: (pygame.KEYDOWN, "3"), 5: (pygame.KEYUP, "3"), 7: (pygame.KEYDOWN, "2"), 9: (pygame.QUIT, "0")}
    done: list[tuple[int, int]] = []

    def watch(before: Any, after: Any, action: int, *rest: Any) -> None:
        done.append((int(action), read_count(after).previous_action))
        if len(done) in script:
            kind, key = script[len(done)]
            pygame.event.post(pygame.event.Event(kind, **({} if kind == pygame.QUIT else {"key": ord(key)})))

    play(env, fps=1000, callback=watch, seed=0)
    assert [action for action, _ in done] == [0, 0, 3, 3, 3, 0, 0, 2, 2]
    assert all(action == seen for action, seen in done), "each frame shows the action that led to it"


def test_gymnasiums_recorders_see_the_episodes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RecordVideo needs moviepy, which wants an older Pillow: a stand-in takes the clips that would be encoded."""
    clips: list[tuple[list[np.ndarray], float, str]] = []

    class ImageSequenceClip:
        def __init__(self, frames: list[np.ndarray], fps: float) -> None:
            self.frames, self.fps = frames, fps

        def write_videofile(self, path: str, logger: Any) -> None:
            clips.append((self.frames, self.fps, Path(path).name))

    for name in ("moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ImageSequenceClip"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(
        sys.modules["moviepy.video.io.ImageSequenceClip"], "ImageSequenceClip", ImageSequenceClip, raising=False
    )
    env = gymnasium.wrappers.RecordEpisodeStatistics(counter_env(max_episode_steps=6))
    env = gymnasium.wrappers.RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda _: True)
    for episode in range(2):
        frame, _ = env.reset(seed=0, options={"start_state": episode})
        frames, ended = [frame], False
        while not ended:
            frame, _, terminated, truncated, info = env.step(2)
            frames.append(frame)
            ended = terminated or truncated
        assert info["episode"]["l"] == 6 and info["episode"]["r"] == 12.0
        if episode == 1:
            env.close()
        assert len(clips) == episode + 1 or episode == 0
    assert np.array_equal(np.stack(clips[1][0]), np.stack(frames)) and clips[1][1] == 30
    assert clips[0][2] == "rl-video-episode-0.mp4" and len(clips[0][0]) == 7


def test_human_rendering_shows_every_frame(folder: Path) -> None:
    pygame = pytest.importorskip("pygame")
    env = gymnasium.make(ID, world=str(folder), num_inference_steps=1, render_mode="human", max_episode_steps=2)
    env.reset(seed=0)
    shown, *_ = env.step(1)
    assert env.render() is None
    screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    assert np.array_equal(screen[::25, ::25], shown)
    env.close()
    assert not pygame.display.get_init()


def test_dreams_can_be_recorded_as_games_are() -> None:
    """What the recorder asks an environment for is there: meanings, frames, a discrete action space."""
    env = counter_env().unwrapped
    assert action_meanings(env) == ["ACTION_0", "ACTION_1", "ACTION_2", "ACTION_3"]
    assert env.action_space == gymnasium.spaces.Discrete(4) and env.observation_space.shape == (32, 32, 3)


def test_settings_reach_the_world_and_may_change_while_it_is_played(dream: gymnasium.Env[Any, Any]) -> None:
    world = dream.unwrapped.world
    assert world.options["num_inference_steps"].value == 1
    frames = []
    for steps in (1, 4):
        world.set_option("num_inference_steps", steps)
        dream.reset(seed=0)
        frames.append(dream.step(1)[0])
    assert not np.array_equal(*frames)


def test_what_does_not_fit_is_refused(folder: Path, dream: gymnasium.Env[Any, Any]) -> None:
    with pytest.raises(ValueError, match="render_mode: expected one of"):
        WorldEnv(str(folder), "ansi")
    with pytest.raises(ValueError, match="expected at least one start state"):
        WorldEnv(str(folder), start_states=[])
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    with pytest.raises(ValueError, match="expected start_states, and no other settings, got no start_states"):
        WorldEnv(lambda n: EmulatorWorld(game, n))
    with pytest.raises(ValueError, match=r"no other settings, got \['device'\]"):
        WorldEnv(lambda n: EmulatorWorld(game, n), start_states=counter_starts(), device="cpu")
    fresh = WorldEnv(str(folder), num_inference_steps=1)
    for call in (lambda: fresh.step(0), fresh.render):
        with pytest.raises(gymnasium.error.ResetNeeded):
            call()
    dream.reset(seed=0)
    with pytest.raises(ValueError, match="action 3 .* expected one of: 0 NOOP, 1 LEFT, 2 RIGHT"):
        dream.unwrapped.step(3)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("num_steps", [128, pytest.param(2560, marks=pytest.mark.slow)])
def test_an_agent_trains_in_a_dream(folder: Path, num_steps: int) -> None:
    ppo = pytest.importorskip("stable_baselines3").PPO
    env = gymnasium.make(ID, world=str(folder), num_inference_steps=1, max_episode_steps=50)
    agent = ppo("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=0, device="cpu")
    before = [parameter.clone() for parameter in agent.policy.parameters()]
    agent.learn(num_steps)
    assert agent.num_timesteps == num_steps and len(agent.ep_info_buffer) == num_steps // 50
    assert any(not old.equal(new) for old, new in zip(before, agent.policy.parameters(), strict=True))
