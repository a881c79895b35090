"""Checkpoints that are published: complete under their final name, or not there at all.

A checkpoint is written into `checkpoint-N.tmp/`, fsynced, given a manifest with every file's size and sha256
last, and renamed by one rank between two barriers; only then are older ones pruned. Resuming takes the newest
whose manifest verifies.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from gamengen.durable import DamagedFile, publish_folder, writing
from gamengen.manifest import verify_manifest, write_manifest

_NAME = re.compile(r"checkpoint-(\d+)")
logger = logging.getLogger(__name__)


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
    Raises:
        OSError: on the main process, when the disk is full or fails; the checkpoints that were there are whole.
    """
    final = root / f"checkpoint-{step}"
    unfinished = final.with_name(final.name + ".tmp")
    if is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        with writing(final, unfinished):
            write(unfinished)
            write_manifest(unfinished)
            publish_folder(unfinished, final)
    barrier()
    if is_main_process:
        prune_checkpoints(root, step, total_limit)
    return final


def prune_checkpoints(root: Path, step: int, total_limit: int | None, *, keep_later: bool = False) -> None:
    """Make the checkpoint of `step` the newest of at most `total_limit`, and clear away what a kill has left.

    Args:
        keep_later: spare those of later steps, as long as nothing has been published after `step`.
    """
    published = list_checkpoints(root)
    # A later one is damaged or of a branch that was left: this run came from an older one, or from the start.
    # It would be taken for the newest, and would push this one out.
    later = [path for path in published if step_of(path) > step]
    kept = published[: len(published) - len(later)]
    older = [] if total_limit is None else kept[: -max(1, total_limit)]
    for path in [*older, *([] if keep_later else later)]:
        # First another name: a kill on the way leaves no part of a checkpoint under the name of a whole one.
        os.rename(path, path.with_name(path.name + ".removed.tmp"))
    for path in [*root.glob("checkpoint-*.tmp"), *root.glob("checkpoint-*.replaced")]:
        shutil.rmtree(path)


def list_checkpoints(root: Path) -> list[Path]:
    """Published checkpoints by rising step, unverified."""
    found = [(int(match[1]), path) for path in root.glob("checkpoint-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def newest_checkpoint(root: Path) -> Path | None:
    """The newest checkpoint whose manifest verifies, None where there is no checkpoint at all.

    A damaged one is named in a warning and passed over.

    Raises:
        DamagedFile: there are checkpoints and all are damaged: to begin again at step 0 is for the user to decide.
    """
    damaged: list[DamagedFile] = []
    for path in reversed(list_checkpoints(root)):
        try:
            verify_manifest(path)
            return path
        except DamagedFile as error:
            logger.warning("%s; falling back to the checkpoint before it", error)
            damaged.append(error)
    if damaged:
        raise DamagedFile(
            f"every checkpoint in {root} is damaged, the newest: {damaged[0]}. Restore one from a copy, or start over "
            "with --resume_from_checkpoint none"
        )
    return None


def step_of(checkpoint: Path) -> int:
    """The optimizer step in a checkpoint's name."""
    match = _NAME.fullmatch(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint}: expected a folder named checkpoint-<step>")
    return int(match[1])
