"""What the tests of the import share: a description of a game, and recordings written as clips of every kind."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from gamengen.dataset.episodes import Episode
from gamengen.importing.spec import ImportSpec, SourceAction

DESCRIPTION: dict[str, Any] = {
    "game": "Blocks",
    "fps": 15,
    "frame_size": [20, 28],
    "noop": "NOOP",
    "actions": [
        {"name": "NOOP"},
        {"name": "LEFT", "keys": ["ArrowLeft"], "pressed": ["a"]},
        {"name": "RIGHT", "keys": ["ArrowRight"], "pressed": ["d"]},
        {"name": "JUMP", "keys": ["Space"], "pressed": ["space"]},
        {"name": "LEFTJUMP", "keys": ["ArrowLeft", "Space"], "pressed": ["a", "space"]},
    ],
}


def write_spec(folder: Path, **changes: Any) -> Path:
    """The description as YAML, with some fields changed; None leaves one out."""
    fields = {name: value for name, value in (DESCRIPTION | changes).items() if value is not None}
    path = folder / "game.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


def make_spec(**changes: Any) -> ImportSpec:
    """What reading the description gives, with some fields of ImportSpec changed."""
    actions = (
        SourceAction(name="NOOP"),
        SourceAction(name="LEFT", keys=("ArrowLeft",), pressed=("a",)),
        SourceAction(name="RIGHT", keys=("ArrowRight",), pressed=("d",)),
        SourceAction(name="JUMP", keys=(" ",), pressed=("space",)),
        SourceAction(name="LEFTJUMP", keys=("ArrowLeft", " "), pressed=("a", "space")),
    )
    spec = ImportSpec(game="Blocks", fps=15.0, frame_height=20, frame_width=28, actions=actions, noop_action=0)
    return dataclasses.replace(spec, **changes)


def encode_video(
    frames: np.ndarray, fps: float, *, codec: str = "libx264rgb", pix_fmt: str = "rgb24", times: Sequence[float] = (),
    container: str = "matroska", options: dict[str, str] | None = None,
) -> bytes:  # fmt: skip
    """A video file; lossless by default. With `times` (seconds), frames are shown then."""
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options or {"qp": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000) if len(times) else 1 / Fraction(fps).limit_denominator(1001)
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = round(times[index] * 1000) if len(times) else index
            frame.time_base = stream.codec_context.time_base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def write_images(folder: Path, frames: np.ndarray, suffix: str = ".png") -> None:
    """A folder of images, numbered from 1."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame_{index + 1}{suffix}")


def write_csv(path: Path, columns: dict[str, Sequence[Any]]) -> Path:
    """A log; None becomes an empty cell."""
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return path


def rows_of(episodes: Sequence[Episode]) -> dict[str, list[Any]]:
    """The columns of a log with a row a frame: the last row of each episode has neither action nor reward."""
    columns: dict[str, list[Any]] = {"action": [], "reward": [], "terminated": [], "truncated": []}
    for episode in episodes:
        last = len(episode.actions)
        columns["action"] += [*episode.actions.tolist(), None]
        columns["reward"] += [*(repr(float(reward)) for reward in episode.rewards), None]
        columns["terminated"] += [int(t == last and episode.terminated) for t in range(last + 1)]
        columns["truncated"] += [int(t == last and episode.truncated) for t in range(last + 1)]
    return columns


def key_events(actions: Sequence[int], spec: ImportSpec, fps: float, jitter: float = 0.0) -> dict[str, list[Any]]:
    """The key log of someone who wants these actions: each key goes down or up at its frame, `jitter` frames before."""
    events: dict[str, list[Any]] = {"time": [], "key": [], "event": []}
    held: set[str] = set()
    for t, action in enumerate(actions):
        wanted = set(spec.actions[action].pressed)
        for keys, event in ((held - wanted, "up"), (wanted - held, "down")):
            for key in sorted(keys):
                events["time"].append(f"{max(t - jitter, 0) / fps:.4f}")
                events["key"].append(key)
                events["event"].append(event)
        held = wanted
    return events
