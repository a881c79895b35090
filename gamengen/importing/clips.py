"""The clips of an import: what a clip is, and which ones a folder holds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from gamengen.dataset.episodes import SPLITS
from gamengen.durable import sha256_file
from gamengen.importing.logs import LOG_SUFFIXES, Log, read_log
from gamengen.importing.spec import MAX_SIDE, ImportSpec
from gamengen.importing.timeline import Times

ACTIONS_IN_FOLDER = "actions"
"""A folder of images may hold its log itself: actions.csv, actions.jsonl or actions.npz."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_VIDEO_SUFFIXES = (
    ".avi", ".flv", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".nut", ".ogv", ".ts", ".webm",
    ".wmv",
)  # fmt: skip
"""Only to tell a video whose log is missing from another file; with a log beside it, a file of any suffix is tried."""


@dataclass(frozen=True)
class Scan:
    """What a look at a whole source gives, before a frame of it is kept."""

    num_frames: int
    times: Times | None
    """(num_frames,) seconds, None where the source has no clock."""
    height: int
    width: int
    notes: list[str] = field(default_factory=list)
    """What a person should know, such as that it was compressed with losses."""


class Clip(Protocol):
    """One recording: frames, and the log of what was done."""

    @property
    def name(self) -> str:
        """Unique in the import, letters, digits, - and _."""
        ...

    @property
    def where(self) -> str:
        """For messages."""
        ...

    @property
    def split(self) -> str | None:
        """Where the user has put it: a folder `train`, `validation` or `test`."""
        ...

    def fingerprint(self) -> str:
        """Changes when a byte of its files does."""
        ...

    def scan(self) -> Scan:
        """Look at all of it; ValueError names what cannot be read."""
        ...

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 (h, w, 3) each, channels in the source's own order."""
        ...

    def log(self) -> Log:
        """What was done."""
        ...


@dataclass(frozen=True)
class Files:
    """The files of one clip, as `find_files` pairs them."""

    name: str
    source: Path
    """A video, a folder of images, or an .npz with frames in it."""
    log: Path
    split: str | None


@dataclass(frozen=True)
class FileClip:
    """What all clips in files share. Each kind adds `scan` and `frames`."""

    files: Files
    spec: ImportSpec

    @property
    def name(self) -> str:
        return self.files.name

    @property
    def where(self) -> str:
        return str(self.files.source)

    @property
    def split(self) -> str | None:
        return self.files.split

    def fingerprint(self) -> str:
        return fingerprint_files(list(dict.fromkeys([self.files.source, self.files.log])))

    def log(self) -> Log:
        return read_log(self.files.log, self.spec)


def find_files(root: str | Path) -> list[Files]:
    """The clips below a folder, or the one that a file is, in order of their names.

    A log `x.csv`, `x.jsonl` or `x.npz` belongs to the video `x.*` or the folder of images `x/` beside it; a folder of
    images may also hold its log, `actions.*`; an .npz with nothing beside it is a clip of its own. Names that begin
    with a dot are passed over. The folders `train`, `validation` and `test` at the top say what the split is.

    Raises:
        FileNotFoundError: nothing there, a video without a log, a log without a source.
        ValueError: two sources or two logs of one name.
    """
    root = Path(root)
    if not root.exists():
        raise FileNotFoundError(f"{root} does not exist: expected a folder of clips, or one clip (docs/own-game.md)")
    folder = root.parent if root.is_file() else root
    wanted = None if root.is_dir() else root
    clips = {clip.source: clip for clip in _walk(folder, folder, wanted)}
    found = [clip for clip in clips.values() if wanted in (None, clip.source, clip.log)]
    if not found:
        raise FileNotFoundError(
            f"{root} holds no clip: expected videos or folders of images with a log (.csv, .jsonl or .npz) of the same "
            "name beside them, or .npz files with frames and actions (docs/own-game.md)"
        )
    found.sort(key=lambda clip: natural(clip.name))
    for one, other in zip(found, found[1:], strict=False):
        if one.name == other.name:
            raise ValueError(f"{one.source} and {other.source} would both be the clip {one.name!r}; rename one of them")
    return found


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key under which `frame_10` follows `frame_9`."""
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def fingerprint_files(paths: list[Path]) -> str:
    """Hex sha256 over the names and contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {sha256_file(path)}\n".encode())
    return digest.hexdigest()


def check_frame_size(height: int, width: int, where: str) -> None:
    """Raise ValueError for a frame that is too large to be a game's: before its pixels are unpacked."""
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ValueError(f"{where}: {height}x{width} pixels (height x width); expected at most {MAX_SIDE} a side")


def _walk(folder: Path, root: Path, wanted: Path | None) -> Iterator[Files]:
    items = sorted(item for item in folder.iterdir() if not item.name.startswith("."))
    logs: dict[str, Path] = {}
    sources: dict[str, Path] = {}
    for item in items:
        if item.is_dir():
            if _holds_images(item):
                _put(sources, item.name, item)
            elif wanted is None:
                yield from _walk(item, root, None)
        elif item.suffix.lower() in LOG_SUFFIXES:
            _put(logs, item.stem, item)
    for item in items:
        if item.is_file() and item.suffix.lower() not in (*LOG_SUFFIXES, *IMAGE_SUFFIXES):
            is_video = item.suffix.lower() in _VIDEO_SUFFIXES
            if is_video or (item.stem in logs and item.suffix.lower() not in (".yaml", ".yml", ".md", ".txt")):
                _put(sources, item.stem, item)
    for stem, source in sources.items():
        log = _log_of(source, logs.pop(stem, None))
        if log is not None:
            yield Files(_name(source, root), source, log, _split(source, root))
        elif wanted in (None, source):
            raise FileNotFoundError(
                f"{source}: no actions beside it; expected {stem}.csv, {stem}.jsonl or {stem}.npz in {folder}"
                + (f", or {ACTIONS_IN_FOLDER}.csv in it" if source.is_dir() else "")
            )
    for stem, log in logs.items():
        if log.suffix.lower() == ".npz":
            yield Files(_name(log, root), log, log, _split(log, root))
        elif wanted in (None, log):
            raise FileNotFoundError(
                f"{log}: no frames beside it; expected a video {stem}.* or a folder of images {stem}/"
            )


def _put(found: dict[str, Path], stem: str, path: Path) -> None:
    if stem in found:
        raise ValueError(f"{found[stem]} and {path} have one name: which of them is meant? Remove or rename the other")
    found[stem] = path


def _holds_images(folder: Path) -> bool:
    return any(item.suffix.lower() in IMAGE_SUFFIXES for item in folder.iterdir() if not item.name.startswith("."))


def _log_of(source: Path, beside: Path | None) -> Path | None:
    inside = [source / f"{ACTIONS_IN_FOLDER}{suffix}" for suffix in LOG_SUFFIXES] if source.is_dir() else []
    logs = [path for path in [*inside, beside] if path is not None and path.is_file()]
    if len(logs) > 1:
        raise ValueError(f"{source} has two logs, {logs[0]} and {logs[1]}; remove or rename one of them")
    return logs[0] if logs else None


def _name(source: Path, root: Path) -> str:
    relative = source.relative_to(root)
    parts = [*relative.parts[:-1], relative.name if source.is_dir() else relative.stem]
    return re.sub(r"[^A-Za-z0-9_-]", "_", "-".join(parts))


def _split(source: Path, root: Path) -> str | None:
    first = source.relative_to(root).parts[0]
    return first if first in SPLITS and len(source.relative_to(root).parts) > 1 else None
