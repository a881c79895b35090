"""importing/offset.py: shifts that are put in come out, and what the data do not tell is not claimed."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.importing.actions import NO_ACTION
from gamengen.importing.offset import OffsetEstimate, estimate_offset, grey, motion_of

NUM_ACTIONS, MAX_SHIFT = 3, 4


def play(seed: int, count: int = 1000, *, inertia: float = 0.0, obeys: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The motion of a block that is steered beside one that is not, (count - 1, 63), and the action of each frame."""
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
    return motion(frames), actions


def motion(frames: np.ndarray) -> np.ndarray:
    small = [grey(frame) for frame in frames]
    return np.stack([motion_of(a, b) for a, b in zip(small, small[1:], strict=False)])


def estimate(moved: np.ndarray, log: np.ndarray) -> OffsetEstimate:
    shifted = {}
    for shift in range(-MAX_SHIFT, MAX_SHIFT + 1):
        places = np.arange(len(log)) + shift
        inside = (places >= 0) & (places < len(log))
        shifted[shift] = np.where(inside, log[places.clip(0, len(log) - 1)], NO_ACTION)
    return estimate_offset([moved], [shifted], NUM_ACTIONS, MAX_SHIFT)


@pytest.fixture(scope="module")
def game() -> tuple[np.ndarray, np.ndarray]:
    return play(0)


@pytest.mark.parametrize("late", [-2, 0, 1, 3])
def test_a_shift_of_the_log_is_found(late: int, game: tuple[np.ndarray, np.ndarray]) -> None:
    """The log is `late` rows late: the action of frame t stands in row t + late."""
    moved, actions = game
    found = estimate(moved, np.roll(actions, late))
    assert found.best == late, found.table()
    scores = {score.shift: score.explained for score in found.scores}
    assert all(scores[late] > 5 * abs(scores[other]) for other in scores if other != late)
    assert "<- best" in found.table()
    expected = {-2: "leave it; or the log is early", 0: "fits", 1: "1 frame late", 3: "3 frames late"}
    assert expected[late] in found.advice(2.0) and (late == 0 or f"`action_offset: {2 + late}`" in found.advice(2.0))


def test_inertia_does_not_move_it() -> None:
    """The speed follows the key slowly: later motion still depends on the action, the first frame on it alone."""
    moved, actions = play(1, 2400, inertia=0.5)
    assert estimate(moved, actions).best == 0
    moved, actions = play(1, 2400, inertia=0.8)
    assert estimate(moved, actions).best is None  # too slow to tell: not claimed


def test_actions_that_do_nothing_are_not_explained() -> None:
    moved, actions = play(2, obeys=False)
    found = estimate(moved, actions)
    assert found.best is None and found.reason.startswith("not identifiable: no shift explains")


def test_two_effects_of_one_action_are_a_tie() -> None:
    """A light that shows the key changes when the key does: the frame before and the one after tell the same."""
    random = np.random.default_rng(0)
    actions = random.integers(0, NUM_ACTIONS, 600)
    frames = np.full((600, 40, 60, 3), 30, np.uint8)
    frames[1:, 10:20, 10:20] = (80 * actions[:-1, None, None, None]).astype(np.uint8)
    found = estimate(motion(frames), actions)
    assert found.best is None and "about equally well" in found.reason and "cannot be told" in found.advice(0)


def test_too_little_and_nothing_that_moves(game: tuple[np.ndarray, np.ndarray]) -> None:
    moved, actions = game
    assert "expected at least" in estimate(moved[:69], actions[:70]).reason
    assert "changes of the action" in estimate(moved, np.zeros_like(actions)).reason
    assert "nothing moves" in estimate(np.zeros_like(moved), actions).reason
    beyond = estimate(moved, np.roll(actions, MAX_SHIFT))
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
