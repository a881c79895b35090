"""importing/offset.py: shifts that are put in come out, and what the data do not tell is not claimed."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.importing.actions import NO_ACTION
from gamengen.importing.offset import OffsetEstimate, estimate_offset, grey, motion_of

NUM_ACTIONS, MAX_SHIFT = 3, 4


def play(seed: int, count: int = 1200, *, inertia: float = 0.0, obeys: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Frames uint8 (count, 40, 60, 3) of a block that is steered beside one that is not; the action of each frame."""
    random = np.random.default_rng(seed)
    actions = random.integers(0, NUM_ACTIONS, count).repeat(random.integers(1, 9, count))[:count]
    x, speed, other, velocity = 30.0, 0.0, np.array([20.0, 20.0]), np.array([2.0, 3.0])
    frames = np.full((count, 40, 60, 3), 30, np.uint8)
    for frame, action in zip(frames, actions if obeys else random.permutation(actions), strict=True):
        frame[30:36, int(x) : int(x) + 8] = (40, 200, 60)
        top, left = other.astype(int)
        frame[top : top + 5, left : left + 5] = 240
        speed = inertia * speed + (1 - inertia) * (0, -3, 3)[action]
        x = float(np.clip(x + speed, 0, 52))
        for axis, limit in enumerate((24, 54)):
            if not 0 <= other[axis] + velocity[axis] <= limit:
                velocity[axis] *= -1
        other += velocity
    return frames, actions


def estimate(frames: np.ndarray, log: np.ndarray) -> OffsetEstimate:
    small = [grey(frame) for frame in frames]
    motion = np.stack([motion_of(a, b) for a, b in zip(small, small[1:], strict=False)])
    shifted = {}
    for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
        places = np.arange(len(log)) + shift
        inside = (places >= 0) & (places < len(log))
        shifted[shift] = np.where(inside, log[places.clip(0, len(log) - 1)], NO_ACTION)
    return estimate_offset([motion], [shifted], NUM_ACTIONS, MAX_SHIFT)


@pytest.fixture(scope="module")
def game() -> tuple[np.ndarray, np.ndarray]:
    return play(0)


@pytest.mark.parametrize("late", [-2, 0, 1, 3])
def test_a_shift_of_the_log_is_found(late: int, game: tuple[np.ndarray, np.ndarray]) -> None:
    """The log is `late` rows late: the action of frame t stands in row t + late."""
    frames, actions = game
    found = estimate(frames, np.roll(actions, late))
    assert found.best == late, found.table()
    scores = {score.shift: score.explained for score in found.scores}
    assert all(scores[late] > 5 * abs(scores[other]) for other in scores if other != late)
    assert "<- best" in found.table()


def test_inertia_does_not_move_it() -> None:
    """The speed follows the key slowly: later motion still depends on the action, the first frame on it alone."""
    frames, actions = play(1, 2400, inertia=0.5)
    assert estimate(frames, actions).best == 0
    frames, actions = play(1, 2400, inertia=0.8)
    assert estimate(frames, actions).best is None  # too slow to tell: not claimed


def test_actions_that_do_nothing_are_not_explained() -> None:
    frames, actions = play(2, obeys=False)
    found = estimate(frames, actions)
    assert found.best is None and found.reason.startswith("not identifiable: no shift explains")


def test_two_effects_of_one_action_are_a_tie() -> None:
    """A light that shows the key changes when the key does: the frame before and the one after tell the same."""
    random = np.random.default_rng(0)
    actions = random.integers(0, NUM_ACTIONS, 1200)
    frames = np.full((1200, 40, 60, 3), 30, np.uint8)
    frames[1:, 10:20, 10:20] = (80 * actions[:-1, None, None, None]).astype(np.uint8)
    found = estimate(frames, actions)
    assert found.best is None and "about equally well" in found.reason


def test_too_little_and_nothing_that_moves(game: tuple[np.ndarray, np.ndarray]) -> None:
    frames, actions = game
    assert "expected at least" in estimate(frames[:69], actions[:69]).reason
    assert "changes of the action" in estimate(frames, np.zeros_like(actions)).reason
    assert "nothing moves" in estimate(np.zeros_like(frames), actions).reason
    beyond = estimate(frames, np.roll(actions, MAX_SHIFT))
    assert beyond.best is None and "raise --max_shift" in beyond.reason


def test_motion_knows_its_direction_wherever_it_is() -> None:
    def bar(x: int) -> np.ndarray:
        frame = np.zeros((40, 40, 3), np.uint8)
        frame[:, x : x + 8] = 255
        return grey(frame)

    right = [motion_of(bar(x), bar(x + 1))[2] for x in (4, 20, 28)]
    left = [motion_of(bar(x), bar(x - 1))[2] for x in (4, 20, 28)]
    assert max(right) < 0 < min(left)
    assert grey(np.zeros((210, 160, 3), np.uint8)).shape == (48, 37)
