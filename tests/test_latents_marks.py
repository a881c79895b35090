"""gamengen.latents.marks: a bit for each row, in the order of the shards, refused for other ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gamengen.latents.marks import MARKS_FILE, marks_source, place_marks, read_marks, write_marks
from tests.worlds import MemoryRows, counted_rows


class NamedRows(MemoryRows):
    """Two episodes."""

    episode_ids = ("a", "b")


def rows() -> NamedRows:
    return NamedRows(**vars(counted_rows([4, 3])))


def flags(*values: int) -> np.ndarray:
    return np.array(values, bool)


def test_marks_stand_where_their_frames_stand(tmp_path: Path) -> None:
    marked = {"b": flags(1, 0, 0), "a": flags(0, 0, 1, 1)}  # in whichever order they are read
    assert marks_source(tmp_path) is None
    write_marks(tmp_path, place_marks(tmp_path, rows(), marked.items()), "frames")
    assert read_marks(tmp_path, rows()).tolist() == [False, False, True, True, True, False, False]
    assert marks_source(tmp_path) == "frames"


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ({"a": flags(0, 0, 0)}, "'a' has 3 frames in the dataset and 4 in the latents: give the dataset"),
        ({"c": flags(0, 0, 0)}, "'c' has 3 frames in the dataset and 0 in the latents"),
        ({"a": flags(0, 0, 0, 0)}, "the dataset lacks episode 'b'"),
    ],
)
def test_another_dataset_is_refused(tmp_path: Path, marked: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        place_marks(tmp_path, rows(), marked.items())


def test_missing_marks_and_those_of_other_shards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{MARKS_FILE} is missing: scripts/mark_turns.py writes it"):
        read_marks(tmp_path, rows())
    write_marks(tmp_path, torch.tensor([False] * 4 + [True] * 3), "frames")
    longer = replace(counted_rows([4, 4]))
    with pytest.raises(ValueError, match="marks 7 rows, the shards have 8: run scripts/mark_turns.py again"):
        read_marks(tmp_path, longer)
