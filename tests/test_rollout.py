"""gamengen.rollout: the same frames as stepping by hand, and actions chosen as a user wrote them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gamengen.contract import Action, WorldContract
from gamengen.diffusion.latent_world import LatentWorld
from gamengen.rollout import action_id, choose_actions, play, random_actions, rollout
from gamengen.world import StartState, WorldStep
from tests.worlds import tiny_game, tiny_pipeline, tiny_starts

GAME = tiny_game()
STARTS = tiny_starts(2)
SEEDS = [3, 4]


@pytest.fixture(scope="module")
def world() -> LatentWorld:
    return LatentWorld(tiny_pipeline(), 2, num_inference_steps=1)


def test_equals_stepping_by_hand(world: LatentWorld) -> None:
    actions = choose_actions("random", STARTS, GAME, 5, seed=0)
    calls: list[int] = []
    result = rollout(world, STARTS, SEEDS, actions, progress=calls.append)
    assert result.frames.shape == (2, 5, 16, 16, 3) and result.frames.dtype == np.uint8
    assert result.rewards is None and result.terminated is None
    assert np.array_equal(result.actions, actions) and calls == [1, 2, 3, 4, 5]
    world.reset(STARTS, SEEDS)
    for t in range(5):
        assert np.array_equal(world.step(actions[:, t]).frames, result.frames[:, t])


def test_a_rollout_begins_anew_every_time(world: LatentWorld) -> None:
    actions = choose_actions("recorded", STARTS, GAME, 4, seed=0)
    first = rollout(world, STARTS, SEEDS, actions)
    assert np.array_equal(rollout(world, STARTS, SEEDS, actions).frames, first.frames)


def test_a_player_answers_to_what_it_is_shown_and_holds_its_decisions(world: LatentWorld) -> None:
    class Held(LatentWorld):
        @property
        def contract(self) -> WorldContract:
            codec = super().contract.codec
            return replace(super().contract, codec=replace(codec, game=replace(codec.game, hold=(1, 3))))

    for played, hold in ((world, 1), (Held(world.pipeline, 2, num_inference_steps=1), 2)):
        asked: list[np.ndarray] = []

        def player(frames: np.ndarray, asked: list[np.ndarray] = asked) -> np.ndarray:
            asked.append(frames)
            return np.array([len(asked) % 3, 2])

        result = play(played, STARTS, SEEDS, player, 5)
        decisions = [0, 1, 2, 3, 4] if hold == 1 else [0, 0, 1, 1, 2]
        assert result.actions.tolist() == [[(n + 1) % 3 for n in decisions], [2] * 5]
        assert np.array_equal(asked[0], np.stack([start.frames[-1] for start in STARTS]))
        for n, frames in enumerate(asked[1:], 1):
            assert np.array_equal(frames, result.frames[:, n * hold - 1]), "the newest frame"
        assert np.array_equal(rollout(world, STARTS, SEEDS, result.actions).frames, result.frames)


def test_rewards_and_ends_are_stacked_where_a_world_has_them(world: LatentWorld) -> None:
    class Rewarding(LatentWorld):
        def step(self, actions: np.ndarray) -> WorldStep:  # type: ignore[override]
            frames = super().step(actions).frames
            return WorldStep(frames, np.asarray(actions, np.float32), np.asarray(actions) == 2)

    actions = np.array([[0, 1, 2], [2, 0, 1]])
    result = rollout(Rewarding(world.pipeline, 2, num_inference_steps=1), STARTS, SEEDS, actions)
    assert result.rewards is not None and result.terminated is not None
    assert np.array_equal(result.rewards, actions) and np.array_equal(result.terminated, actions == 2)


@pytest.mark.parametrize("shape", [(3, 4), (2,), (2, 0), (2, 3, 1)])
def test_actions_that_do_not_fit_the_world_are_refused(world: LatentWorld, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected actions \(2, T\) with T >= 1, got"):
        rollout(world, STARTS, SEEDS, np.zeros(shape, np.int64))


def test_an_action_outside_the_table_is_refused_before_the_first_frame(world: LatentWorld) -> None:
    calls: list[int] = []
    with pytest.raises(ValueError, match="rollout: action 5"):
        rollout(world, STARTS, SEEDS, np.array([[0, 0], [0, 5]]), progress=calls.append)
    assert not calls


def test_recorded_actions_end_in_the_noop() -> None:
    game = replace(GAME, noop_action=1)
    actions = choose_actions("recorded", STARTS, game, 6, seed=0)
    for row, start in zip(actions, STARTS, strict=True):
        assert start.future_actions is not None and len(start.future_actions) == 4
        assert row.tolist() == [*start.future_actions, 1, 1]
    assert np.array_equal(choose_actions("recorded", STARTS, game, 2, seed=0), actions[:, :2])
    unknown = StartState(STARTS[0].frames, STARTS[0].actions, name="mine")
    with pytest.raises(ValueError, match="'mine' has no recorded actions.*random, noop or a list"):
        choose_actions("recorded", [unknown], game, 2, seed=0)


def test_random_actions_depend_on_seed_and_world_and_are_held() -> None:
    one = choose_actions("random", STARTS, GAME, 400, seed=0)
    assert np.array_equal(one, choose_actions("random", STARTS, GAME, 400, seed=0))
    assert not np.array_equal(one, choose_actions("random", STARTS, GAME, 400, seed=1))
    assert not np.array_equal(one[0], one[1])
    # A start more or a frame more does not change what the others do.
    assert np.array_equal(one[:1, :50], choose_actions("random", STARTS[:1], GAME, 50, seed=0))
    assert set(one.ravel()) == {0, 1, 2}
    changes = int((np.diff(one[0]) != 0).sum())
    assert 400 / 8 * 0.3 < changes < 400 * 0.5, "held for 1 to 8 frames, as a human would"
    assert len(random_actions(GAME, 7, seed=0, longest_hold=1)) == 7


def test_noop_is_the_games_own() -> None:
    actions = choose_actions("noop", STARTS, replace(GAME, noop_action=2), 3, seed=0)
    assert actions.tolist() == [[2, 2, 2], [2, 2, 2]]


def test_a_list_of_names_and_ids_is_repeated_to_the_end() -> None:
    actions = choose_actions("2, left,NOOP", STARTS, GAME, 5, seed=0)
    assert actions.tolist() == [[2, 1, 0, 2, 1]] * 2 and actions.dtype == np.int64
    assert choose_actions("1,1,2", STARTS, GAME, 2, seed=0).tolist() == [[1, 1]] * 2


def test_names_are_found_as_the_game_spells_them() -> None:
    """Not every game writes its actions in capitals."""
    game = replace(GAME, actions=tuple(Action(meaning=m) for m in ("noop", "move left", "Jump", "JUMP")))
    assert [action_id(text, game) for text in ("move left", "Jump", "JUMP", "MOVE LEFT")] == [1, 2, 3, 1]
    assert action_id("3", game) == 3


@pytest.mark.parametrize("text", ["FIRE", "3", "-1", "", "1.5", "²"])
def test_unknown_actions_are_refused_with_the_table(text: str) -> None:
    with pytest.raises(ValueError, match="nor an action of Tiny-v0: 0 NOOP, 1 LEFT, 2 RIGHT"):
        choose_actions(f"1,{text}", STARTS, GAME, 4, seed=0)
