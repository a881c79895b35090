"""player.session: the game of one client, without a network: time, rewind, comparison, controls, recording."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gamengen.codecs.codec import IdentityCodec
from gamengen.dataset.episodes import list_episodes
from gamengen.games.emulator import make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import StartStateConfig, finalise
from gamengen.latents.shards import load_table
from gamengen.latents.windows import Windows
from gamengen.player.protocol import Command, FrameMessage, Input
from gamengen.player.session import Session
from gamengen.player.source import Source, dataset_source, dream_source, game_source
from gamengen.player.world_pool import WorldPool
from gamengen.world import StartState
from tests.counter_env import COUNTER_ENV, Count, read_count
from tests.player_server import counter_source
from tests.test_dataset_dataset_world import record


class Played:
    """A session that is driven by hand, as the engine drives it."""

    def __init__(self, source: Source, seed: int = 0) -> None:
        self.pool = WorldPool(source.make_world, 1)
        self.session = Session(source, self.pool, 1, seed)
        self.frames: list[FrameMessage] = []
        self.state: dict[str, Any] = {}
        self.notes: list[str] = []
        self.session.begin()
        self.listen()

    def do(self, kind: str, **values: Any) -> None:
        fields = {"start": None, "seed": None, "keyframes": None}
        self.session.obey(Command(kind, {**fields, **values}))
        self.listen()

    def step(self, keys: int = 0) -> FrameMessage:
        if self.session.ended:
            self.session.begin_next()
        else:
            action = self.session.choose(keys)
            step = self.pool.step([self.session.game], [action])
            reward = None if step.rewards is None else float(step.rewards[0])
            over = step.terminated is not None and bool(step.terminated[0])
            self.session.took(Input(0, keys), action, step.frames[0], reward, over, 1.0)
        self.listen()
        return self.frames[-1]

    def listen(self) -> None:
        for item in self.session._out:
            if isinstance(item, FrameMessage):
                self.frames.append(item)
                continue
            values = json.loads(item)
            if values["kind"] == "state":
                self.state = values
            if values["kind"] == "note":
                self.notes.append(values["text"])
        self.session._out = []


def test_time_counts_from_the_start_state() -> None:
    played = Played(counter_source(), seed=6)
    assert (played.frames[0].t, played.frames[0].action) == (0, -1)
    for t, action in enumerate((1, 2, 3), 1):
        frame = played.step(action)
        assert (frame.t, frame.action, frame.frame_id) == (t, action, t + 1)
        assert read_count(frame.panes[0]) == Count(6, t, action)
    played.do("restart", start=2, seed=8)
    assert played.frames[-1].t == 0 and played.frames[-1].frame_id == 5 and played.state["name"] == "start 2"


def test_a_rewind_comes_back_to_the_same_future() -> None:
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    for source in (counter_source(), game_source(game)):
        played, actions = Played(source), [1, 2, 3, 0, 2, 1, 1]
        ahead = [played.step(action) for action in actions]
        played.do("rewind")
        back = played.frames[-1]
        assert back.t == 5 and np.array_equal(back.panes[0], ahead[4].panes[0]) and back.frame_id == 9
        again = [played.step(action) for action in actions[5:]]
        assert all(np.array_equal(a.panes[0], b.panes[0]) for a, b in zip(ahead[5:], again, strict=True))
        assert [frame.t for frame in again] == [6, 7]
        played.do("rewind", keyframes=99)
        assert played.frames[-1].t == 0


def dream_of(env_id: str) -> Source:
    """The real game as a perfect dream of itself, and one that is late by the last action."""
    game = make_game_contract(env_id, frame_skip=1)
    real = game_source(game)
    return dream_source("perfect", lambda size: EmulatorWorld(game, size), game, [real.start_at(0, s) for s in (3, 4)])


def test_a_perfect_dream_does_not_diverge_from_the_real_game() -> None:
    played = Played(dream_of(COUNTER_ENV))
    assert math.isnan(played.step(1).divergence)
    played.do("compare", on=True)
    assert played.state["compare"] and played.frames[-1].t == 0 and len(played.frames[-1].panes) == 2
    frames = [played.step(action) for action in (1, 2, 3, 0, 2, 1)]
    assert all(np.array_equal(*frame.panes) and frame.divergence == 0 for frame in frames)
    played.do("rewind")
    assert np.array_equal(*played.step(3).panes), "both panes go back together"
    played.do("compare", on=False)
    assert len(played.frames[-1].panes) == 1 and played.frames[-1].t == 0


def test_divergence_is_the_mean_difference_in_levels() -> None:
    source = dream_of(COUNTER_ENV)
    source = replace(source, start_at=lambda index, seed: source.starts[index], make_world=counter_source().make_world)
    played = Played(source, seed=9)  # a dream that counts like the game, but calls itself 9 and not 3
    played.do("compare", on=True)
    frame = played.step(1)
    difference = np.abs(frame.panes[0].astype(float) - frame.panes[1])
    assert frame.divergence == pytest.approx(difference.mean()) and frame.divergence > 0.1
    with pytest.raises(ValueError, match="has no replay"):
        played.session.begin(start=StartState(frame.panes[0][None], np.zeros(0, np.int64), name="picture"))
    assert played.step(1).t == 2, "the old game goes on"


def test_a_picture_is_begun_again_until_another_start_is_chosen() -> None:
    played = Played(counter_source(), seed=2)
    picture = StartState(np.full((1, 32, 32, 3), 9, np.uint8), np.zeros(0, np.int64), name="dropped picture")
    played.session.begin(start=picture)
    played.listen()
    played.step(1)
    played.do("restart")
    assert (played.frames[-1].panes[0] == 9).all() and played.frames[-1].t == 0
    played.do("restart", start=1)
    played.do("restart")
    assert played.state["name"] == "start 1" and (played.frames[-1].panes[0] != 9).any()


def test_the_controls_change_hands() -> None:
    played = Played(counter_source())
    assert played.step(2).action == 2
    played.do("control", name="recorded")
    assert [played.step(0).action for _ in range(4)] == [2, 3, 1, 2], "from its own place in the recording"
    played.do("control", name="noop")
    assert played.step(3).action == 0
    played.do("control", name="human")
    assert played.step(3).action == 3 and played.state["controller"] == "human"
    with pytest.raises(ValueError, match="human, recorded, random, noop"):
        played.do("control", name="other")


def test_who_cannot_play_gives_the_controls_back() -> None:
    source = counter_source()
    bare = [replace(start, future_actions=None) for start in source.starts]
    played = Played(replace(source, starts=bare, start_at=lambda index, seed: bare[index]))
    played.do("control", name="recorded")
    assert "no recorded actions" in played.notes[-1] and played.state["controller"] == "human"


def test_a_clip_follows_rewinds_and_ends_with_its_game() -> None:
    played = Played(counter_source())
    played.step(1)
    played.do("record", on=True)
    for action in (1, 2, 3, 1, 2, 3):
        played.step(action)
    played.do("rewind")
    played.step(3)
    clip = played.session.tape.clip
    assert clip is not None and [read_count(frame).t for frame in clip.frames()] == [1, 2, 3, 4, 5, 6]
    assert clip.episode("a", "train").actions.tolist() == [1, 2, 3, 1, 3]
    played.do("rewind", keyframes=9)
    clip = played.session.tape.clip
    assert clip is not None and len(clip) == 1, "it began later: begun anew"
    played.do("restart")
    assert not clip.running and played.state["clip"] == {"running": False, "frames": 1}


def test_a_failed_world_stands_still_at_its_last_keyframe() -> None:
    played = Played(counter_source(), seed=5)
    for action in (1, 2, 3, 1, 2, 3, 1):
        played.step(action)
    played.session.fail("out of memory")
    played.listen()
    assert played.session.paused and "out of memory" in played.notes[-1]
    shown = played.frames[-1]
    assert shown.t == 5 and shown.paused and read_count(shown.panes[0]).t == 5, "the page is shown where it stands"
    frame = played.step(2)
    assert frame.t == 6 and read_count(frame.panes[0]) == Count(5, 6, 2)


def test_a_recorded_game_has_one_player(tmp_path: Path) -> None:
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    played = Played(game_source(game, record_dir=tmp_path), seed=4)
    played.step(1)
    played.do("control", name="random")
    assert played.frames[-1].t == 0 and played.state["seed"] == 5 and played.state["recorded"]["episodes"] == 1
    played.step()
    played.do("restart")
    played.step()
    played.session.close()
    played.session.close()
    assert [(info.seed, info.agent, info.num_frames) for info in list_episodes(tmp_path)] == [
        (4, "human", 2), (5, "random", 2), (6, "random", 2),
    ], "begun again, it is another game"  # fmt: skip


def test_a_recording_is_shown_to_its_end_and_then_the_next_one(tmp_path: Path) -> None:
    episodes = record(tmp_path)
    played = Played(dataset_source(tmp_path))
    for episode in [*episodes, episodes[0]]:
        assert np.array_equal(played.frames[-1].panes[0], episode.frames[0]) and played.frames[-1].t == 0
        for t, action in enumerate(episode.actions):
            frame = played.step(keys=3)
            assert (frame.action, frame.reward) == (action, episode.rewards[t])
            assert np.array_equal(frame.panes[0], episode.frames[t + 1])
        assert frame.terminated and frame.episode_return == pytest.approx(float(episode.rewards.sum()))
        played.step()
    with pytest.raises(ValueError, match="expected one of: recorded"):
        played.do("control", name="human")


def test_a_recording_of_more_episodes_than_the_page_shows_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamengen.player.source.MAX_GALLERY", 1)
    episodes = record(tmp_path)
    played = Played(dataset_source(tmp_path))
    assert len(played.session.source.starts) == 1 < len(episodes)
    for episode in [*episodes, episodes[0]]:
        assert np.array_equal(played.frames[-1].panes[0], episode.frames[0]) and played.frames[-1].t == 0
        for _ in range(len(episode.actions) + 1):
            played.step()
    with pytest.raises(ValueError, match=f"expected 0 to {len(episodes) - 1}"):
        played.do("restart", start=len(episodes))


def test_pace_needs_no_world() -> None:
    session = Played(counter_source()).session
    session.set_pace(Command("step", {"action": 3}))
    session.set_pace(Command("speed", {"value": 2}))
    assert session.paused and list(session.steps) == [3] and session.speed == 2.0
    for _ in range(50):
        session.set_pace(Command("step", {"action": None}))
    assert len(session.steps) <= 4, "steps do not pile up"
    with pytest.raises(ValueError, match="0.1 to 8"):
        session.set_pace(Command("speed", {"value": 0}))


def test_games_played_in_the_browser_train_like_any_other_recording(tmp_path: Path) -> None:
    """Through encoding, shards and windows: every target still follows from the last action of its window."""
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    played, rng = Played(game_source(game, record_dir=tmp_path / "data"), seed=4), np.random.default_rng(0)
    for _ in range(80):
        played.step(int(rng.integers(4)))
    played.session.close()
    codec = IdentityCodec(game)
    encode_dataset(tmp_path / "data", codec, tmp_path / "latents", progress=False)
    finalise(
        tmp_path / "data", codec, tmp_path / "latents",
        starts=StartStateConfig(num_start_states=2, start_state_frames=3, start_state_horizon=5),
    )  # fmt: skip
    windows = Windows(load_table(tmp_path / "latents", "train"), game, 3)
    assert len(windows) > 30
    for position in range(len(windows)):
        window = windows.at(torch.tensor([position]))
        newest, target = (
            read_count(array.permute(1, 2, 0).numpy()) for array in (window.context[0, -1], window.targets[0])
        )
        assert target == Count(newest.episode, newest.t + 1, int(window.actions[0, -1]))
