"""real_game: made once, gone with who made it, and missing where it cannot stand in the held-out states."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import gymnasium
import pytest

from gamengen import evaluation
from gamengen.dataset.episodes import NO_SEED, Episode
from gamengen.evaluation.real_game import find_real_game, real_game
from gamengen.evaluation.recordings import Place, Recordings
from gamengen.evaluation.study import Study
from gamengen.world import World
from tests.liar_worlds import CopyLastFrame, pong_study


def test_it_is_made_once_for_each_number_of_slots_and_dropped_with_its_maker() -> None:
    made = []

    def make(count: int) -> World:
        made.append(count)
        return CopyLastFrame(study.world)

    study = pong_study()
    assert real_game(replace(study, real_game=None)) is None
    study = replace(study, real_game=make)
    first = real_game(study)
    assert first is not None and real_game(study) is first and made == [study.world.num_worlds]
    alive = weakref.ref(first)
    del first, make
    study = pong_study()
    gc.collect()
    assert alive() is None


def test_it_is_found_where_it_stands_in_the_held_out_states(capsys: pytest.CaptureFixture[str]) -> None:
    study = pong_study()
    make = find_real_game(study.game, study.held_out)
    assert make is not None and capsys.readouterr().out == ""


def test_without_a_seed_or_with_another_game_it_is_missing_and_says_why(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = pong_study()
    (first, second) = (played(study, name) for name in study.held_out.lengths)
    imported = Recordings.of([first, replace(second, seed=NO_SEED)])
    assert find_real_game(study.game, imported) is None
    assert f"episode {second.episode_id} has no seed" in capsys.readouterr().out
    changed = Recordings.of([replace(first, frames=255 - first.frames)])
    assert find_real_game(study.game, changed) is None
    assert "its replay ends at another frame" in capsys.readouterr().out

    def without(game: object, count: int) -> World:
        raise gymnasium.error.DependencyNotInstalled("no display")

    monkeypatch.setattr(evaluation.real_game, "EmulatorWorld", without)
    assert find_real_game(study.game, study.held_out) is None and "no display" in capsys.readouterr().out


def played(study: Study, name: str) -> Episode:
    """The whole episode."""
    whole = study.held_out.excerpt(Place(name, 0), 1, study.held_out.lengths[name])
    seed, noop_starts = study.held_out.seeds[name]
    return Episode(
        whole.frames, whole.actions, whole.rewards, terminated=False, truncated=True, episode_id=name, stream_id=name,
        index_in_stream=0, seed=seed, noop_starts=noop_starts, split="test", agent="random",
    )  # fmt: skip
