"""The law of time from the recorder to the world: pixels that say (episode, t, previous action) go the whole way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.policies import RandomPolicy
from agents.recorder import Player, Recorder, RecorderSettings
from gamengen.codecs.codec import IdentityCodec
from gamengen.dataset.start_states import read_start_states
from gamengen.games.emulator import make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import StartStateConfig, finalise
from gamengen.latents.shards import load_table
from gamengen.latents.windows import Windows, start_window
from gamengen.rollout import choose_actions, rollout
from tests.counter_env import COUNTER_ENV, Count, read_count

LENGTH = 4


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recorded, written as parquet, read, encoded by the identity codec, written as shards."""
    folder = tmp_path_factory.mktemp("alignment")
    game = make_game_contract(COUNTER_ENV, frame_skip=1, noop_start_max=2)
    Recorder(folder / "data", game, [Player(RandomPolicy(4))], RecorderSettings(num_steps=400, num_envs=2)).run()
    codec = IdentityCodec(game)
    encode_dataset(folder / "data", codec, folder / "latents", progress=False)
    finalise(
        folder / "data",
        codec,
        folder / "latents",
        starts=StartStateConfig(num_start_states=6, start_state_frames=LENGTH, start_state_horizon=5),
    )
    return folder / "latents"


def counts_of(arrays: torch.Tensor) -> list[Count]:
    return [read_count(array.permute(1, 2, 0).numpy()) for array in arrays]


@pytest.mark.parametrize("cross_resets", [False, True])
def test_every_training_window_holds_the_causes_of_its_target(latents: Path, cross_resets: bool) -> None:
    table = load_table(latents, "train")
    game = table.contract.game
    windows = Windows(table, game, LENGTH, cross_resets=cross_resets)
    crossed = 0
    for position in range(len(windows)):
        window = windows.at(torch.tensor([position]))
        context, target = counts_of(window.context[0]), counts_of(window.targets)[0]
        actions = window.actions[0].tolist()
        if target.episode == context[-1].episode:
            assert target.t == context[-1].t + 1 and target.previous_action == actions[-1]
        else:  # over a reset, caused by the no-op that stands for the null action
            crossed += 1
            assert cross_resets and actions[-1] == game.noop_action
        for (before, after), action in zip(zip(context, context[1:], strict=False), actions, strict=False):
            if after == before:  # the border: the first frame repeated, with the no-op
                assert action == game.noop_action
            elif after.episode == before.episode:
                assert after.t == before.t + 1 and after.previous_action == action
            else:
                assert cross_resets
    assert (crossed > 0) == cross_resets


def test_start_states_replay_into_the_same_frames(latents: Path) -> None:
    """What a start state shows, what the emulator shows after its replay, and what its recorded actions lead to."""
    starts = read_start_states(latents / "start_states.parquet")
    game = load_table(latents, "train").contract.game
    world = EmulatorWorld(game, len(starts))
    actions = choose_actions("recorded", starts, game, 5, seed=0)
    played = rollout(world, starts, range(len(starts)), actions)
    for start, frames, done in zip(starts, played.frames, actions, strict=True):
        newest = read_count(start.frames[-1])
        shown = [read_count(frame) for frame in frames]
        assert [count.t for count in shown] == [newest.t + n for n in range(1, 6)]
        assert [count.previous_action for count in shown] == done.tolist()
        window, between = start_window(start, game, LENGTH)
        seen = [read_count(frame) for frame in window.numpy()]
        assert seen[-1] == newest and len(between) == LENGTH - 1
        assert all(
            after.previous_action == action
            for before, after, action in zip(seen, seen[1:], between.tolist(), strict=False)
            if after != before
        )
    np.testing.assert_array_equal(played.actions, actions)
