"""inverse_dynamics: it learns to read actions from what moves, and is the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gamengen.dataset.episodes import Episode
from gamengen.evaluation.action_effects import ActionEffects, unmeasured_effects
from gamengen.evaluation.inverse_dynamics import (
    InverseDynamicsConfig,
    shrink,
    stored_inverse_dynamics,
    train_inverse_dynamics,
)
from gamengen.evaluation.recordings import Recordings
from tests.worlds import tiny_game

SIZE = 32
GAME = tiny_game(SIZE)
SMALL = InverseDynamicsConfig(size=SIZE, train_steps=150, batch_size=32, piece_length=50)


def dots(actions: np.ndarray, seed: int) -> np.ndarray:
    """A white dot that LEFT and RIGHT move, one frame late, and one that moves as it likes: (T + 1, 32, 32, 3)."""
    rng = np.random.default_rng(seed)
    step = np.array([0, -3, 3])
    own = (SIZE // 2 + np.concatenate([[0, 0], step[actions[:-1]]]).cumsum()) % (SIZE - 4)
    other = (SIZE // 2 + rng.choice(step, len(actions) + 1).cumsum()) % (SIZE - 4)
    frames = np.zeros((len(actions) + 1, SIZE, SIZE, 3), np.uint8)
    for t, frame in enumerate(frames):
        frame[22:26, own[t] : own[t] + 4] = 255
        frame[6:10, other[t] : other[t] + 4] = 255
    return frames


def dot_episode(seed: int, length: int = 200) -> Episode:
    actions = np.random.default_rng(seed + 100).integers(0, 3, length)
    return Episode(
        dots(actions, seed), actions, np.zeros(length, np.float32), False, True, f"dots-{seed}", "dots", seed, seed, 0,
        "train", "random",
    )  # fmt: skip


@pytest.fixture(scope="module")
def recordings() -> Recordings:
    return Recordings.of([dot_episode(seed) for seed in range(3)])


def test_it_reads_late_actions_and_is_not_taken_in_by_what_moves_by_itself(recordings: Recordings) -> None:
    reader = train_inverse_dynamics(recordings, GAME, unmeasured_effects(GAME), SMALL)
    unseen = dot_episode(seed=9)
    assert reader.after == 3
    read = reader.read(unseen.frames, first=1)
    assert len(read) == len(unseen.frames) - 1 - 3
    assert (read == unseen.actions[1 : 1 + len(read)]).mean() > 0.95
    still = unseen.frames[:1].repeat(20, axis=0)
    assert set(reader.read(still, first=0)) == {0}  # nothing moves: the no-op; the first frame needs none before it
    with pytest.raises(ValueError, match="record longer"):
        train_inverse_dynamics(Recordings.of([dot_episode(1, length=3)]), GAME, unmeasured_effects(GAME), SMALL)


def test_the_same_data_give_the_same_reader_and_it_is_kept(recordings: Recordings, tmp_path: Path) -> None:
    quick = InverseDynamicsConfig(size=SIZE, train_steps=5, batch_size=8, piece_length=50)
    merged = ActionEffects(((0, 1), (2,)), 4)
    state = torch.random.get_rng_state()
    first = stored_inverse_dynamics(recordings, GAME, merged, quick, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)  # it leaves the caller's chance alone
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = stored_inverse_dynamics(recordings, GAME, merged, quick, tmp_path)
    fresh = train_inverse_dynamics(recordings, GAME, merged, quick)
    frames = dot_episode(seed=9).frames
    for other in (again, fresh):
        for name, weight in first.network.state_dict().items():
            assert torch.equal(weight, other.network.state_dict()[name])
        assert np.array_equal(first.read(frames, 1), other.read(frames, 1)) and set(other.read(frames, 1)) <= {0, 1}
    assert file.stat().st_mtime_ns == written
    stored_inverse_dynamics(recordings, GAME, unmeasured_effects(GAME), quick, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2  # other groups of actions: another reader


def test_frames_are_made_small_by_whole_squares() -> None:
    frames = np.zeros((2, 210, 160, 3), np.uint8)
    frames[1, :2, :2] = 100, 200, 50
    small = shrink(frames, 80)
    assert small.shape == (2, 105, 80) and not small[0].any() and small[1].sum() == small[1, 0, 0]
    assert small[1, 0, 0] == round(0.299 * 100 + 0.587 * 200 + 0.114 * 50)
    assert shrink(frames, 500).shape == (2, 210, 160)  # never larger
    assert InverseDynamicsConfig().frames_after(GAME) == 3
