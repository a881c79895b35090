"""evaluation.recordings: any piece of any episode, from disk as from memory, and places that spread over episodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.policies import RandomPolicy
from agents.recorder import Player, Recorder, RecorderSettings
from gamengen.dataset.episodes import NO_SEED, read_episodes
from gamengen.evaluation.recordings import Place, Recordings, TooShort
from gamengen.games.emulator import make_game_contract
from tests.counter_env import COUNTER_ENV
from tests.evaluated_worlds import episode, recordings


def test_an_excerpt_is_cut_as_the_time_convention_says() -> None:
    whole = episode(0, 30)
    excerpt = Recordings.of([whole]).excerpt(Place("e0", 10), context_length=3, horizon=5)
    assert np.array_equal(excerpt.start.frames, whole.frames[8:11])
    assert np.array_equal(excerpt.start.actions, whole.actions[8:10])
    assert np.array_equal(excerpt.frames, whole.frames[10:16]) and np.array_equal(excerpt.actions, whole.actions[10:15])
    assert excerpt.start.replay is not None and np.array_equal(excerpt.start.replay.actions, whole.actions[:10])
    assert excerpt.start.future_actions is not None
    assert np.array_equal(excerpt.start.future_actions, excerpt.actions)
    young, end = (Recordings.of([whole]).excerpt(Place("e0", t), 3, 5) for t in (1, 28))
    assert len(young.start.frames) == 2 and len(end.actions) == 2 and len(end.frames) == 3


def test_from_disk_it_is_what_the_episodes_hold(tmp_path: Path) -> None:
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    settings = RecorderSettings(num_steps=120, num_envs=2, test_share=0.5, validation_share=0.0, max_episode_frames=15)
    Recorder(tmp_path, game, [Player(RandomPolicy(4))], settings).run()
    held_out = Recordings.open(tmp_path, "test")
    for whole in read_episodes(tmp_path, "test"):
        length = len(whole.actions)
        assert held_out.lengths[whole.episode_id] == length
        assert held_out.seeds[whole.episode_id] == (whole.seed, whole.noop_starts)
        assert np.array_equal(held_out.actions(whole.episode_id), whole.actions)
        for t in range(0, length, 4):
            one = held_out.excerpt(Place(whole.episode_id, t), 4, 6)
            other = Recordings.of([whole]).excerpt(Place(whole.episode_id, t), 4, 6)
            assert np.array_equal(one.frames, other.frames) and np.array_equal(one.actions, other.actions)
            assert np.array_equal(one.start.frames, other.start.frames) and one.start.name == other.start.name
            assert np.array_equal(one.start.replay.actions, whole.actions[:t])  # type: ignore[union-attr]
            assert one.start.replay.seed == whole.seed  # type: ignore[union-attr]
            assert np.array_equal(one.rewards, other.rewards)
    with pytest.raises(ValueError, match="no validation episodes"):
        Recordings.open(tmp_path, "validation")


def test_every_beginning_of_the_places_is_spread_over_the_episodes() -> None:
    held_out = recordings((30, 25, 40))
    places = held_out.places(12, horizon=4, seed=0)
    assert len(set(places)) == 12
    for count in (3, 6, 9, 12):
        assert set(Counter(place.episode for place in places[:count]).values()) == {count // 3}
    assert all(place.frame + 4 <= held_out.lengths[place.episode] for place in places)
    assert held_out.places(12, 4, seed=0) == places != held_out.places(12, 4, seed=1)


def test_short_episodes_are_left_out_and_none_left_is_an_error() -> None:
    held_out = recordings((5, 30))
    assert {place.episode for place in held_out.places(50, horizon=20, seed=0)} == {"e1"}
    assert len(held_out.places(50, horizon=20, seed=0)) == 11  # frames 0 to 10, each once
    with pytest.raises(TooShort, match=r"31 recorded steps.*longest has 30"):
        held_out.places(1, horizon=31, seed=0)


def test_all_actions_are_known_of_episodes_that_cannot_be_replayed() -> None:
    held_out = recordings((30, 25), seed=NO_SEED)
    assert np.array_equal(held_out.actions("e1"), episode(1, 25).actions)
    assert held_out.excerpt(Place("e1", 3), 2, 5).start.replay is None


@pytest.mark.parametrize(
    ("lengths", "common"),
    [((150,) * 20 + (200,), 150), ((9, 12), 9), ((40,), 40), ((5, 10, 30), 10), ((400, 300), 256)],
)
def test_the_common_length_is_not_that_of_one_long_episode(lengths: tuple[int, ...], common: int) -> None:
    assert recordings(lengths).common_length(256) == common


def test_episodes_of_both_are_found_by_their_ids_or_by_how_they_begin() -> None:
    ours = Recordings.of([episode(0, 30), episode(1, 25), episode(2, 40)])
    again = [replace(episode(number, 20), episode_id=f"other-{number}") for number in (1, 7)]
    assert ours.shared_with(Recordings.of(again)) == ["e1"], "the same seed, and the same actions as far as they go"
    assert ours.shared_with(Recordings.of([replace(again[0], actions=(again[0].actions + 1) % 3)])) == []
    assert ours.shared_with(Recordings.of([replace(again[0], noop_starts=3)])) == []
    assert ours.shared_with(Recordings.of([episode(2, 10, seed=99)])) == ["e2"], "the same id"
    imported = [replace(episode(number, 20, seed=NO_SEED), episode_id=f"clip-{number}") for number in range(2)]
    assert Recordings.of(imported[:1]).shared_with(Recordings.of(imported[1:])) == [], "no seed is no common seed"
