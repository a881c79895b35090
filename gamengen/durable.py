"""Writing that a crash cannot tear: beside, fsync, rename; and the checksums that show what changed since."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

CHUNK_BYTES = 1 << 20
TEMPORARY_SUFFIX = ".tmp"


def write_file(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Give `path` the bytes that `write(file)` writes, all of them or none.

    The bytes go to `path` + `.tmp`, are flushed to the disk, and only then take the final name.

    Raises:
        OSError: names the path; nothing is left under the final name that was not there before.
    """
    path = Path(path)
    beside = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if isinstance(error, (OSError, RuntimeError)):  # torch.save reports a full disk as RuntimeError
            raise OSError(f"could not write {path}: {error}; free some space or choose another folder") from error
        raise
    fsync_folder(path.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """`write_file` for bytes at hand."""
    write_file(path, lambda file: file.write(data))


def write_json(path: str | Path, value: Any) -> None:
    """`write_file` for a JSON value, indented and with a stable key order."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Parse a JSON file; ValueError names the file when it is damaged."""
    try:
        return json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged: expected JSON, {error}; restore it or make it again") from error


def publish_folder(unfinished: str | Path, final: str | Path) -> None:
    """Give a finished folder its final name, after every file in it has reached the disk.

    An existing `final` is moved aside first and removed last.
    """
    unfinished, final = Path(unfinished), Path(final)
    for path in sorted(unfinished.rglob("*")):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        else:
            fsync_folder(path)
    fsync_folder(unfinished)
    replaced = final.with_name(final.name + ".replaced")
    if final.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        os.rename(final, replaced)
    os.rename(unfinished, final)
    fsync_folder(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def fsync_folder(folder: str | Path) -> None:
    """Flush a folder's list of names, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
