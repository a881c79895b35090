"""importing/arrays.py: .npz clips; arrays of the wrong shape, named with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamengen.importing.arrays import ArrayClip
from gamengen.importing.clips import Files
from gamengen.importing.spec import ImportSpec
from tests.codec_data import block_frames
from tests.own_clips import make_spec

FRAMES = block_frames(6)


def clip(path: Path, spec: ImportSpec | None = None, **arrays: np.ndarray) -> ArrayClip:
    np.savez(path, **arrays)
    return ArrayClip(Files("a", path, path, None), spec or make_spec())


def test_frames_and_log_come_from_one_file(tmp_path: Path) -> None:
    data = clip(tmp_path / "a.npz", frames=FRAMES, actions=np.arange(6) % 5, rewards=np.ones(6))
    scan = data.scan()
    assert (scan.num_frames, scan.height, scan.width, scan.times) == (6, 20, 28, None)
    np.testing.assert_array_equal(np.stack(list(data.frames())), FRAMES)
    assert data.log().columns == {"action": [0, 1, 2, 3, 4, 0], "reward": [1.0] * 6}


def test_the_array_may_have_another_name_and_be_gray(tmp_path: Path) -> None:
    spec = make_spec(columns=(("frames", "obs"),), accept_grayscale=True)
    for gray in (FRAMES[..., 0], FRAMES[..., :1]):
        data = clip(tmp_path / "a.npz", spec, obs=gray, action=np.zeros(6))
        assert data.scan().num_frames == 6 and set(data.log().columns) == {"action"}
        np.testing.assert_array_equal(np.stack(list(data.frames())), FRAMES[..., :1].repeat(3, axis=3))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (FRAMES.astype(np.float32), r"expected uint8 \(frames, height, width, 3\), got float32"),
        (np.concatenate([FRAMES, FRAMES[..., :1]], axis=3), r"alpha channel: save frames\[..., :3\]"),
        (FRAMES.transpose(0, 3, 1, 2), r"channels first: save frames.transpose"),
        (FRAMES[..., 0], r"grayscale: write `accept_grayscale: true`"),
        (FRAMES[0], "expected uint8"),
        (np.zeros((1, 1, 5000, 3), np.uint8), "expected at most 4096"),
    ],
)
def test_each_wrong_shape_is_one_error_with_advice(frames: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"a.npz.*{message}" if "at most" not in message else message):
        clip(tmp_path / "a.npz", frames=frames, action=np.zeros(6)).scan()


def test_a_file_without_frames_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no array 'frames' .*it has: images, action"):
        clip(tmp_path / "a.npz", images=FRAMES, action=np.zeros(6)).scan()
