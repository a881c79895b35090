"""importing/clips.py: which files make a clip, in which order, and what is said when one is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamengen.importing.clips import check_frame_size, find_files, fingerprint_files, natural
from tests.own_clips import write_images

FRAME = np.zeros((1, 4, 4, 3), np.uint8)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_logs_find_their_sources_in_natural_order(tmp_path: Path) -> None:
    touch(tmp_path, "run_10.mp4", "run_10.csv", "run_9.weird", "run_9.jsonl", "alone.npz", "game.yaml", "README.md")
    touch(tmp_path, "video.mkv", "video.npz", ".hidden.mp4", "late/x.avi", "late/x.csv")
    write_images(tmp_path / "shots", FRAME)
    touch(tmp_path, "shots/actions.jsonl")
    write_images(tmp_path / "more", FRAME, ".jpg")
    touch(tmp_path, "more.csv")
    found = [(f.name, f.source.name, f.log.name) for f in find_files(tmp_path)]
    assert found == [
        ("alone", "alone.npz", "alone.npz"), ("late-x", "x.avi", "x.csv"), ("more", "more", "more.csv"),
        ("run_9", "run_9.weird", "run_9.jsonl"), ("run_10", "run_10.mp4", "run_10.csv"),
        ("shots", "shots", "actions.jsonl"), ("video", "video.mkv", "video.npz"),
    ]  # fmt: skip
    for single in ("run_10.mp4", "run_10.csv", "alone.npz"):
        (one,) = find_files(tmp_path / single)
        assert single in (one.source.name, one.log.name)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a.mp4"], FileNotFoundError, r"a.mp4: no actions beside it; expected a.csv, a.jsonl or a.npz"),
        (["a.csv"], FileNotFoundError, r"a.csv: no frames beside it"),
        (["notes.txt"], FileNotFoundError, "holds no clip"),
        (["a.mp4", "a.mkv", "a.csv"], ValueError, r"a.mkv and .*a.mp4 have one name"),
        (["a.mp4", "a.csv", "a.jsonl"], ValueError, r"a.csv and .*a.jsonl have one name"),
        (["a b.mp4", "a b.csv", "a_b.mp4", "a_b.csv"], ValueError, "would both be the clip 'a_b'"),
    ],
)
def test_what_is_missing_or_double_is_named(
    names: list[str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    touch(tmp_path, *names)
    with pytest.raises(error, match=message):
        find_files(tmp_path)


def test_one_input_that_is_not_there_or_has_no_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_files(tmp_path / "none")
    write_images(tmp_path / "shots", FRAME)
    with pytest.raises(FileNotFoundError, match=r"shots: no actions .*actions.csv in it"):
        find_files(tmp_path)
    touch(tmp_path, "shots/actions.csv", "shots.csv")
    with pytest.raises(ValueError, match="two logs"):
        find_files(tmp_path)


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["frame_10", "frame_9", "frame_9b", "frame_100", "a", "10"]
    assert sorted(names, key=natural) == ["10", "a", "frame_9", "frame_9b", "frame_10", "frame_100"]


def test_the_fingerprint_knows_every_byte_and_name(tmp_path: Path) -> None:
    touch(tmp_path, "a", "b")
    before = fingerprint_files([tmp_path / "a", tmp_path / "b"])
    assert before != fingerprint_files([tmp_path / "a"])
    (tmp_path / "b").write_bytes(b"x")
    assert before != fingerprint_files([tmp_path / "a", tmp_path / "b"])


def test_sizes_are_bounded() -> None:
    check_frame_size(4096, 1, "x")
    for size in ((4097, 10), (10, 1 << 20), (0, 5)):
        with pytest.raises(ValueError, match="x: .*expected at most 4096"):
            check_frame_size(*size, "x")
