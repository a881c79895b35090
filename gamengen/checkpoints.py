"""Checkpoints that are published: complete under their final name, or not there at all.

A checkpoint is written into `checkpoint-N.tmp/`, fsynced, given a manifest with every file's size and sha256
last, and renamed by one rank between two barriers; only then are older ones pruned. Resuming takes the newest
whose manifest verifies.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from gamengen.durable import publish_folder, read_json, sha256_file, write_json

MANIFEST_FILE = "manifest.json"
_NAME = re.compile(r"checkpoint-(\d+)")
logger = logging.getLogger(__name__)


class DamagedCheckpoint(ValueError):
    """A checkpoint's files are not the ones that its manifest names."""


def publish_checkpoint(
    root: Path,
    step: int,
    write: Callable[[Path], None],
    *,
    is_main_process: bool = True,
    barrier: Callable[[], None] = lambda: None,
    total_limit: int | None = None,
) -> Path:
    """Publish `root/checkpoint-<step>` with the files that `write(folder)` writes; every rank calls this.

    Args:
        write: called on the main process only, with the unfinished folder.
        total_limit: checkpoints to keep, at least 1; None keeps all. Older ones go after the new one is in place.
    Returns:
        The final folder.
    """
    final = root / f"checkpoint-{step}"
    unfinished = final.with_name(final.name + ".tmp")
    if is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        write(unfinished)
        write_manifest(unfinished)
        publish_folder(unfinished, final)
    barrier()
    if is_main_process:
        _prune(root, step, total_limit)
    return final


def _prune(root: Path, step: int, total_limit: int | None) -> None:
    """Make the checkpoint of `step`, just published, the newest of at most `total_limit`."""
    published = list_checkpoints(root)
    # A later one is damaged or of a branch that was left: this run came from an older one, or from the start.
    # It would be taken for the newest, and would push this one out.
    later = [path for path in published if step_of(path) > step]
    kept = published[: len(published) - len(later)]
    older = [] if total_limit is None else kept[: -max(1, total_limit)]
    for path in [*older, *later, *root.glob("checkpoint-*.tmp"), *root.glob("checkpoint-*.replaced")]:
        shutil.rmtree(path)


def list_checkpoints(root: Path) -> list[Path]:
    """Published checkpoints by rising step, unverified."""
    found = [(int(match[1]), path) for path in root.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def newest_checkpoint(root: Path) -> Path | None:
    """The newest checkpoint whose manifest verifies; a damaged one is named in a warning and passed over."""
    for path in reversed(list_checkpoints(root)):
        try:
            verify_manifest(path)
            return path
        except DamagedCheckpoint as error:
            logger.warning("%s; falling back to the checkpoint before it", error)
    return None


def step_of(checkpoint: Path) -> int:
    """The optimizer step in a checkpoint's name."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint}: expected a folder named checkpoint-<step>")
    return int(match[1])


def write_manifest(folder: Path) -> None:
    """Write the sizes and sha256 of all files below `folder`, last of all."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_FILE
    }
    write_json(folder / MANIFEST_FILE, {"files": files})


def verify_manifest(folder: Path) -> None:
    """Compare every file with the manifest.

    Raises:
        DamagedCheckpoint: names the first file that is missing, of another size, or of another content.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise DamagedCheckpoint(f"{folder} has no {MANIFEST_FILE}: it was not completely written")
    try:
        files = read_json(path)["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"{path} is damaged: {error}") from error
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise DamagedCheckpoint(f"{file} is missing")
        if file.stat().st_size != expected["bytes"]:
            raise DamagedCheckpoint(f"{file} has {file.stat().st_size} bytes, expected {expected['bytes']}")
        if sha256_file(file) != expected["sha256"]:
            raise DamagedCheckpoint(f"{file} was changed or damaged: its sha256 is not the one in {path}")
