"""importing/clip_reader.py: frames tick by tick, everything else known before; a clip that changes while it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamengen.importing.actions import NO_ACTION
from gamengen.importing.clip_reader import ClipReader, MotionSample
from gamengen.importing.sources import open_clips
from gamengen.importing.spec import ImportSpec
from tests.codec_data import block_frames
from tests.own_clips import make_spec

FRAMES = block_frames(30)
ACTIONS = np.random.default_rng(0).integers(0, 5, 30)


def reader(folder: Path, spec: ImportSpec | None = None, **arrays: np.ndarray) -> ClipReader:
    np.savez(folder / "a.npz", **({"frames": FRAMES, "actions": ACTIONS} | arrays))
    spec = spec or make_spec()
    return ClipReader(open_clips(str(folder), spec)[0], spec)


def test_ticks_show_the_frames_of_the_timeline(tmp_path: Path) -> None:
    clip = reader(tmp_path, make_spec(source_fps=45.0))
    np.testing.assert_array_equal(np.stack(list(clip.frames())), FRAMES[::3])
    assert len(clip.steps.actions) == 10 and clip.kind == "a row a frame"
    every = reader(tmp_path)
    np.testing.assert_array_equal(np.stack(list(every.frames())), FRAMES)
    np.testing.assert_array_equal(every.steps.actions, ACTIONS)


def test_faults_come_before_any_frame_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="28 rows for 30 frames"):
        reader(tmp_path, actions=ACTIONS[:28])
    with pytest.raises(ValueError, match="action 9 is not in the action table"):
        reader(tmp_path, actions=np.full(30, 9))
    with pytest.raises(ValueError, match="frame_size says 20x30"):
        reader(tmp_path, make_spec(frame_width=30))


def test_a_clip_that_shrinks_while_it_is_read_is_named(tmp_path: Path) -> None:
    clip = reader(tmp_path)
    np.savez(tmp_path / "a.npz", frames=FRAMES[:20], actions=ACTIONS[:20])
    with pytest.raises(ValueError, match="a.npz: has fewer frames when it is read again"):
        list(clip.frames())


def test_shifted_actions_end_with_games(tmp_path: Path) -> None:
    clip = reader(tmp_path, terminated=np.arange(30) == 14)
    shifted = clip.shifted_actions(2)
    for shift, ids in shifted.items():
        for t in range(30):
            inside = 0 <= t + shift < 30 and t not in (14, 29)
            assert ids[t] == (ACTIONS[t + shift] if inside else NO_ACTION)


def test_a_sample_stops_when_it_is_full(tmp_path: Path) -> None:
    clip = reader(tmp_path)
    sample = MotionSample(make_spec(), max_shift=1, max_steps=10)
    for frame in clip.frames():
        sample.add(frame)
    assert sample.full
    sample.end_clip(clip)
    assert sample.estimate().num_steps <= 10 and "not identifiable" in sample.estimate().reason
    assert MotionSample(make_spec(), 1, 10).estimate().reason == "not identifiable: no steps"
