"""gamengen.report on worlds whose figures are known beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gamengen.contract import Action, CodecContract, GameContract, WorldContract
from gamengen.metrics import copy_last_frame, moving_pixels, psnr
from gamengen.objects import PONG
from gamengen.report import print_table, start_state, world_table
from gamengen.world import Option, StartState, World, WorldStep, check_option

CONTEXT = 3


@dataclass(frozen=True)
class Recording:
    frames: np.ndarray
    actions: np.ndarray


def contract(env_id: str, height: int, width: int) -> WorldContract:
    actions = tuple(Action(meaning=f"A{i}") for i in range(6))
    game = GameContract(env_id=env_id, frame_height=height, frame_width=width, fps=15, actions=actions)
    codec = CodecContract(
        game=game, kind="identity", fingerprint="identity", array_shape=(3, height, width), array_dtype="uint8"
    )
    return WorldContract(codec=codec, kind="test", context_length=CONTEXT)


class CopyWorld:
    """Shows the last frame for ever."""

    def __init__(self, env_id: str, episodes: Sequence[Recording], num_worlds: int, with_steps: bool = False) -> None:
        self.contract = contract(env_id, *episodes[0].frames.shape[1:3])
        self.num_worlds = num_worlds
        self.episodes = episodes
        self.frames = np.zeros(0)
        self.options: Mapping[str, Option] = {}
        if with_steps:
            self.options = {"num_inference_steps": Option(2, "steps", minimum=1, maximum=8)}
        self.seen_steps: list[int] = []

    def set_option(self, name: str, value: Any) -> None:
        check_option(self.options, name, value)
        self.options = {**self.options, name: Option(value, "steps", minimum=1, maximum=8)}

    def reset(self, starts: Sequence[StartState], seeds: Sequence[int], slots: Sequence[int] | None = None) -> None:
        assert slots is None and len(starts) == len(seeds) == self.num_worlds
        assert len(set(seeds)) == self.num_worlds
        for start in starts:
            start.check(self.contract.game)
            assert len(start.frames) <= CONTEXT
        self.frames = np.stack([start.frames[-1] for start in starts])
        self.starts = list(starts)

    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        assert len(actions) == self.num_worlds
        if self.options:
            self.seen_steps.append(self.options["num_inference_steps"].value)
        return WorldStep(self.frames.copy())

    def reconstruct(self, frames: np.ndarray) -> np.ndarray | None:
        return None

    def snapshot(self, slots: Sequence[int] | None = None) -> Any:
        return None

    def restore(self, state: Any, slots: Sequence[int] | None = None) -> None:
        return None

    def close(self) -> None:
        return None


class PerfectWorld(CopyWorld):
    """Looks up where it is in the recording; refuses a context or an action that is not the recording's."""

    def reset(self, starts: Sequence[StartState], seeds: Sequence[int], slots: Sequence[int] | None = None) -> None:
        super().reset(starts, seeds, slots)
        self.places = []
        for start in starts:
            matches = [
                (episode, t)
                for episode in self.episodes
                for t in range(len(episode.frames))
                if np.array_equal(episode.frames[t], start.frames[-1])
            ]
            episode, t = matches[0]
            first = t - len(start.frames) + 1
            assert first == max(0, t - CONTEXT + 1)
            assert np.array_equal(start.frames, episode.frames[first : t + 1])
            assert np.array_equal(start.actions, episode.actions[first:t])
            self.places.append((episode, t))

    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        super().step(actions)
        self.places = [(episode, t + 1) for episode, t in self.places]
        shown = []
        for (episode, t), action in zip(self.places, actions, strict=True):
            if t < len(episode.frames):
                assert episode.actions[t - 1] == action
            shown.append(episode.frames[min(t, len(episode.frames) - 1)])
        return WorldStep(np.stack(shown))

    def reconstruct(self, frames: np.ndarray) -> np.ndarray | None:
        return frames ^ 1


def noise_episodes() -> list[Recording]:
    random = np.random.default_rng(0)
    episodes = []
    for length in (2, 9, 30):
        frames = random.integers(0, 256, (length + 1, 12, 14, 3), dtype=np.uint8)
        frames[1:, :6] = frames[0, :6]  # the upper half stands still
        episodes.append(Recording(frames, random.integers(0, 6, length)))
    return episodes


def pong_episode(length: int) -> Recording:
    """The own paddle walks down, the ball is there in every frame but the last ten."""
    frames = np.full((length + 1, 210, 160, 3), (144, 72, 17), np.uint8)
    for t, frame in enumerate(frames):
        frame[40 + 2 * t : 56 + 2 * t, 140:144] = PONG.objects["own_paddle"].colour
        if t <= length - 10:
            frame[100 + t : 104 + t, 20 + t : 22 + t] = PONG.objects["ball"].colour
    return Recording(frames, np.arange(length) % 6)


def test_the_test_worlds_are_worlds() -> None:
    assert isinstance(CopyWorld("Toy-v0", noise_episodes(), 1), World)


def table_of(world: CopyWorld, episodes: Sequence[Recording], **changes: Any) -> dict[str, Any]:
    return world_table(world, episodes, **{"num_starts": 1000, "horizon": 4, "seed": 0, **changes})


@pytest.mark.parametrize("num_worlds", [1, 4, 7])
def test_a_perfect_world_is_perfect_whatever_the_batch(num_worlds: int) -> None:
    episodes = noise_episodes()
    table = table_of(PerfectWorld("Toy-v0", episodes, num_worlds), episodes)
    assert table["num_starts"] == 2 + 9 + 30
    assert table["next_frame"]["world"] == {"psnr": 100.0, "moving_psnr": 100.0}
    assert table["next_frame"]["codec (ceiling)"]["psnr"] == pytest.approx(20 * np.log10(255))  # an error of 1
    assert "objects" not in table and table["play_fps"]["world"] > 0


def test_a_copying_world_equals_the_baseline_and_both_equal_a_direct_count() -> None:
    episodes = noise_episodes()
    rows = table_of(CopyWorld("Toy-v0", episodes, 4), episodes)["next_frame"]
    assert rows["world"] == rows["copy last frame"] and "codec (ceiling)" not in rows
    real = np.concatenate([episode.frames[1:] for episode in episodes])
    copied = np.concatenate([copy_last_frame(episode.frames) for episode in episodes])
    assert rows["world"]["psnr"] == pytest.approx(psnr(real, copied))
    assert rows["world"]["moving_psnr"] == pytest.approx(psnr(real, copied, moving_pixels(copied, real)))
    assert rows["world"]["moving_psnr"] < rows["world"]["psnr"] - 2


def test_steps_are_selected_compared_and_put_back() -> None:
    episodes = noise_episodes()
    world, play = (CopyWorld("Toy-v0", episodes, number, with_steps=True) for number in (2, 1))
    table = table_of(world, episodes, steps=(1, 4), play_world=play)
    assert {"1 step", "4 steps"} <= set(table["next_frame"]) and {"1 step", "4 steps"} <= set(table["play_fps"])
    assert set(world.seen_steps) == set(play.seen_steps) == {1, 4}
    assert table["play_fps"]["num_worlds"] == 1
    assert world.options["num_inference_steps"].value == play.options["num_inference_steps"].value == 2


def test_objects_follow_in_a_perfect_world_and_stand_still_in_a_copying_one() -> None:
    episodes = [pong_episode(40)]
    # Only t = 0 leaves room for 40 frames.
    perfect = table_of(PerfectWorld("ALE/Pong-v5", episodes, 2), episodes, num_starts=4, horizon=40)["objects"]["world"]
    assert perfect["own_paddle"]["error_px"] == pytest.approx(0) and perfect["own_paddle"]["seen"] == 1
    assert perfect["own_paddle"]["still_px"] == pytest.approx(np.mean(2 * np.arange(1, 41)))
    assert perfect["ball"]["seen"] == 1 and perfect["ball"]["false"] == 0
    assert perfect["enemy_paddle"]["seen"] is None and perfect["enemy_paddle"]["false"] == 0
    copying = table_of(CopyWorld("ALE/Pong-v5", episodes, 2), episodes, num_starts=4, horizon=40)["objects"]["world"]
    assert copying["own_paddle"]["error_px"] == pytest.approx(copying["own_paddle"]["still_px"])
    assert copying["own_paddle"]["error_px_to_8"] == pytest.approx(np.mean(2 * np.arange(1, 9)))
    assert copying["ball"]["false"] == 1
    assert copying["ball"]["error_px"] == pytest.approx(np.mean(np.sqrt(2) * np.arange(1, 31)))


def test_a_horizon_longer_than_every_episode_is_cut_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    episodes = [pong_episode(12)]
    table = table_of(CopyWorld("ALE/Pong-v5", episodes, 1), episodes, num_starts=3, horizon=64)
    assert table["horizon"] == 12 and table["num_starts"] == 3
    print_table(json.loads(json.dumps(table, allow_nan=False)))
    text = capsys.readouterr().out
    for part in ("copy last frame", "own_paddle", "rollouts of 12 frames", "frames a second", "dB", "px"):
        assert part in text


def test_the_same_seed_measures_the_same_frames() -> None:
    episodes = noise_episodes()
    rows = [
        table_of(CopyWorld("Toy-v0", episodes, 2), episodes, num_starts=5, seed=seed)["next_frame"]
        for seed in (0, 0, 1)
    ]
    assert rows[0] == rows[1] != rows[2]


def test_start_states_hold_the_frames_up_to_t_and_the_actions_between() -> None:
    episode = noise_episodes()[2]
    state = start_state(episode, 7, CONTEXT)
    assert np.array_equal(state.frames, episode.frames[5:8]) and state.actions.tolist() == episode.actions[5:7].tolist()
    assert len(start_state(episode, 0, CONTEXT).frames) == 1


def test_nothing_to_measure_is_refused() -> None:
    episodes = noise_episodes()
    with pytest.raises(ValueError, match="0 steps"):
        table_of(CopyWorld("Toy-v0", episodes, 1), [Recording(episodes[0].frames[:1], np.zeros(0, int))])
