"""Marked rows: frames of the training split that a training is to see more often, kept beside the shards."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load, save
from torch import Tensor

from gamengen.durable import write_bytes
from gamengen.latents.windows import EpisodeRows, Rows

MARKS_FILE = "marks.safetensors"


def place_marks(folder: str | Path, rows: EpisodeRows, marked: Iterable[tuple[str, npt.NDArray[np.bool_]]]) -> Tensor:
    """Marks of episodes where their rows stand in a folder of shards.

    Args:
        rows: the folder's training split.
        marked: (episode id, bool (frames,)) of every episode of the dataset's training split.
    Returns:
        bool (rows,).
    Raises:
        ValueError: an episode is not among the rows, has another length, or is missing: these are other episodes.
    """
    segments = dict(zip(rows.episode_ids, rows.segments.tolist(), strict=True))
    marks = torch.zeros(len(rows.actions), dtype=torch.bool)
    for episode, frames in marked:
        first, end = segments.pop(episode, (0, -1))
        if len(frames) != end - first:
            raise ValueError(
                f"{folder}: episode {episode!r} has {len(frames)} frames in the dataset and "
                f"{max(0, end - first)} in the latents: give the dataset that was encoded"
            )
        marks[first:end] = torch.from_numpy(frames)
    if segments:
        raise ValueError(f"{folder}: the dataset lacks episode {next(iter(segments))!r}: give the one that was encoded")
    return marks


def write_marks(folder: str | Path, marks: Tensor, source: str) -> None:
    """Write `marks.safetensors` into a folder of shards, atomically.

    Args:
        marks: bool (rows,), as `place_marks` gives them.
        source: what they were made of; `marks_source` gives it back.
    """
    write_bytes(Path(folder) / MARKS_FILE, save({"rows": marks}, {"source": source}))


def marks_source(folder: str | Path) -> str | None:
    """What a folder's marks were made of, None where there are none."""
    file = Path(folder) / MARKS_FILE
    if not file.is_file():
        return None
    with safe_open(file, "pt") as marks:
        source: str | None = (marks.metadata() or {}).get("source")
        return source


def read_marks(folder: str | Path, rows: Rows) -> Tensor:
    """bool (rows,): which rows of the training split are marked.

    Raises:
        FileNotFoundError, ValueError: no marks, or marks of other shards; what to do.
    """
    file = Path(folder) / MARKS_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: scripts/mark_turns.py writes it, or set --turn_share 0")
    marks = load(file.read_bytes())["rows"]
    if len(marks) != len(rows.actions):
        raise ValueError(
            f"{file} marks {len(marks)} rows, the shards have {len(rows.actions)}: run scripts/mark_turns.py again"
        )
    return marks
