"""importing/sources.py: each input becomes the clip of its kind; a missing extra is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamengen.importing.arrays import ArrayClip
from gamengen.importing.images import ImageClip
from gamengen.importing.sources import open_clips
from gamengen.importing.videos import VideoClip
from tests.codec_data import block_frames
from tests.own_clips import encode_video, make_spec, write_csv, write_images


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    frames = block_frames(4)
    np.savez(tmp_path / "a.npz", frames=frames, actions=[0, 1, 2, 0])
    write_images(tmp_path / "b", frames)
    write_csv(tmp_path / "b.csv", {"action": [0, 1, 2, 0]})
    (tmp_path / "c.mkv").write_bytes(encode_video(frames, 15))
    np.savez(tmp_path / "c.npz", action=[0, 1, 2])
    return tmp_path


def test_the_kind_follows_from_the_files(clips: Path) -> None:
    found = open_clips(str(clips), make_spec())
    assert [type(clip) for clip in found] == [ArrayClip, ImageClip, VideoClip]
    assert [clip.name for clip in found] == ["a", "b", "c"]
    assert len({clip.fingerprint() for clip in found}) == 3
    assert [len(clip.log()) for clip in found] == [4, 4, 3]


def test_videos_without_pyav_name_the_extra(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'c.mkv: videos need PyAV: pip install "gamengen\[video\]"'):
        open_clips(str(clips), make_spec())
    assert len(open_clips(str(clips / "a.npz"), make_spec())) == 1
