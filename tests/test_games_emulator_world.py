"""emulator_world: replay puts it into any recorded state, and from there it is the recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gamengen.contract import GameContract
from gamengen.games.emulator import Emulator, make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.world import Replay, StartState, World
from tests.counter_env import COUNTER_ENV, read_count


def recorded(
    game: GameContract, seed: int, noop_starts: int, actions: list[int], at: int
) -> tuple[StartState, np.ndarray]:
    """A state at frame `at` of a played episode, and all frames of it."""
    emulator = Emulator(game)
    frames = [emulator.reset(seed, noop_starts), *(emulator.step(action)[0] for action in actions)]
    emulator.close()
    replayed = Replay(seed, np.array(actions[:at], np.int64), noop_starts)
    return StartState(frames[at][None], np.zeros(0, np.int64), replayed, name=f"s{seed}"), np.stack(frames)


@pytest.fixture(scope="module")
def counter() -> GameContract:
    return make_game_contract(COUNTER_ENV, frame_skip=1, noop_start_max=3)


@pytest.mark.parametrize("env_id", ["ALE/Pong-v5", COUNTER_ENV])
def test_it_continues_the_recording_and_repeats_from_a_snapshot(env_id: str) -> None:
    game = make_game_contract(env_id, frame_skip=1 if env_id == COUNTER_ENV else 4)
    rng = np.random.default_rng(0)
    actions = [rng.integers(game.num_actions, size=11).tolist() for _ in range(2)]
    states = [recorded(game, seed, seed % 3, actions[seed], at=3 + seed) for seed in range(2)]
    world = EmulatorWorld(game, num_worlds=2)
    assert isinstance(world, World) and world.num_worlds == 2 and world.contract.game == game
    world.reset([state for state, _ in states], seeds=[0, 1])
    snapshot, ahead = None, []
    for k in range(7):
        if k == 3:
            snapshot = world.snapshot()
        frames = world.step([actions[0][3 + k], actions[1][4 + k]]).frames
        assert np.array_equal(frames[0], states[0][1][4 + k]) and np.array_equal(frames[1], states[1][1][5 + k])
        ahead.append(frames)
    for _ in range(2):  # a snapshot may be restored more than once
        world.restore(snapshot)
        for k in range(3, 7):
            assert np.array_equal(world.step([actions[0][3 + k], actions[1][4 + k]]).frames, ahead[k])
    world.restore([snapshot[0]], slots=[1])
    assert np.array_equal(world.step([0, actions[0][6]]).frames[1], ahead[3][0])
    world.close()


def test_many_states_of_one_episode_are_reached_in_any_order() -> None:
    """Each goes on from another's clone; the frames must be those of its own replay."""
    game = make_game_contract("ALE/Pong-v5", sticky_probability=0.25)
    actions = np.random.default_rng(0).integers(6, size=40).tolist()
    at = [30, 5, 5, 17, 0]
    states = [recorded(game, 3, 1, actions, k)[0] for k in at]
    _, frames = recorded(game, 3, 1, actions, 0)
    other, other_frames = recorded(game, 4, 1, actions, 20)
    world = EmulatorWorld(game, num_worlds=6)
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        world.reset([states[i] for i in order], seeds=range(5), slots=[0, 1, 2, 3, 4])
        world.reset([other], seeds=[9], slots=[5])
        for k in range(8):
            step = world.step([*(actions[at[i] + k] for i in order), actions[20 + k]])
            expected = [*(frames[at[i] + k + 1] for i in order), other_frames[20 + k + 1]]
            assert np.array_equal(step.frames, np.stack(expected))
    world.close()


def test_after_the_last_frame_a_new_game_begins(counter: GameContract) -> None:
    """The order of a recorder's stream: true last frame, then the first frame of the next episode."""
    state, _ = recorded(counter, 2, 0, [1] * 10, at=10)  # the episode of seed 2 has 14 steps
    runs = []
    for _ in range(2):
        world = EmulatorWorld(counter)
        world.reset([state], seeds=[5])
        steps = [world.step([3]) for _ in range(40)]
        runs.append([(read_count(step.frames[0]), step.rewards[0], bool(step.terminated[0])) for step in steps])  # type: ignore[index]
    assert runs[0] == runs[1], "restarts follow from the world's seed"
    counts = [count for count, _, _ in runs[0]]
    assert [count.t for count in counts[:4]] == [11, 12, 13, 14]
    assert [terminated for _, _, terminated in runs[0][:5]] == [False, False, False, True, False]
    assert counts[4].episode != 2 and counts[4].t <= 3 and runs[0][4][1] == 0.0
    assert counts[5] == (counts[4].episode, counts[4].t + 1, 3)
    other = EmulatorWorld(counter)
    other.reset([state], seeds=[6])
    assert read_count([other.step([3]) for _ in range(5)][-1].frames[0]).episode != counts[4].episode


def test_states_that_cannot_be_reached_are_refused(counter: GameContract) -> None:
    state, frames = recorded(counter, 2, 0, [1] * 10, at=10)
    world = EmulatorWorld(counter)
    with pytest.raises(ValueError, match="call reset first"):
        world.step([0])
    with pytest.raises(ValueError, match="'s2' has no replay"):
        world.reset([replace(state, replay=None)], seeds=[0])
    with pytest.raises(ValueError, match="ends at another frame"):
        world.reset([replace(state, frames=frames[5][None])], seeds=[0])
    with pytest.raises(ValueError, match="ends before its action 14"):
        world.reset([replace(state, replay=Replay(2, np.ones(20, np.int64)))], seeds=[0])
    with pytest.raises(ValueError, match="action 4 at position 1"):
        world.reset([replace(state, replay=Replay(2, np.array([0, 4])))], seeds=[0])
    world.reset([state], seeds=[0])
    with pytest.raises(ValueError, match="1 actions"):
        world.step([0, 0])
    with pytest.raises(ValueError, match="no option 'speed'"):
        world.set_option("speed", 2)
    assert world.reconstruct(frames) is None and world.ram() is None
