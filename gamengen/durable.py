"""Writing that a crash cannot tear: beside, fsync, rename; and the checksums that show what changed since."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

CHUNK_BYTES = 1 << 20
TEMPORARY_SUFFIX = ".tmp"
SEAL = "seal"
_UNSEALED = b"0" * 64
_SEAL_LINE = re.compile(rb'(\n  "seal": ")([0-9a-f]{64})"')
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux


class DamagedFile(ValueError):
    """A file is not the one that was written, by its checksum, size or form; the message names it."""


def write_file(path: str | Path, write: Callable[[IO[bytes]], object]) -> None:
    """Give `path` the bytes that `write(file)` writes, all of them or none.

    The bytes go to `path` + `.tmp`, are flushed to the disk, and only then take the final name.

    Raises:
        OSError: names the path; nothing is left under the final name that was not there before.
    """
    path = Path(path)
    beside = path.with_name(path.name + TEMPORARY_SUFFIX)
    with writing(path, beside):
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    fsync_folder(path.parent)


@contextlib.contextmanager
def writing(final: str | Path, unfinished: str | Path) -> Iterator[None]:
    """Make of a failed write an error that names what was to be written; what is unfinished goes.

    Raises:
        OSError: instead of what Python, torch and safetensors raise on a full disk.
    """
    try:
        yield
    except BaseException as error:
        if Path(unfinished).is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            Path(unfinished).unlink(missing_ok=True)
        if isinstance(error, (OSError, RuntimeError, SafetensorError)):
            raise OSError(
                f"could not write {final}: {error}; nothing that was there is lost. Free some space, or choose another "
                "folder, and give the same command again"
            ) from error
        raise


def write_bytes(path: str | Path, data: bytes) -> None:
    """`write_file` for bytes at hand."""
    write_file(path, lambda file: file.write(data))


def write_json(path: str | Path, value: Any) -> None:
    """`write_file` for a JSON value, indented and with a stable key order."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def read_json(path: str | Path) -> Any:
    """Parse a JSON file; ValueError names the file when it is damaged."""
    try:
        return json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedFile(f"{path} is damaged: expected JSON, {error}; restore it or make it again") from error


def write_sealed_json(path: str | Path, value: Mapping[str, Any]) -> None:
    """`write_json` for an object that gets one more entry: the sha256 of all the file's other bytes."""
    data = json_bytes({**value, SEAL: _UNSEALED.decode()})
    digest = hashlib.sha256(data).hexdigest().encode()
    write_bytes(path, _SEAL_LINE.sub(lambda line: line[1] + digest + b'"', data, count=1))


def read_sealed_json(path: str | Path, unsealed: Collection[str] = ()) -> dict[str, Any]:
    """What `write_sealed_json` wrote, the seal left out.

    Args:
        unsealed: the entries of files that were written before there were seals; they are read without one.
    Raises:
        DamagedFile: one bit of the file or more is another than when it was written.
    """
    value = read_json(path)
    advice = "restore it from a copy or make it again"
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} is damaged: expected a JSON object; {advice}")
    if SEAL not in value:
        if set(value) == set(unsealed):
            return value
        raise DamagedFile(f"{path} is damaged: its seal is gone; {advice}")
    data = Path(path).read_bytes()
    plain = _SEAL_LINE.sub(lambda line: line[1] + _UNSEALED + b'"', data, count=1)
    if hashlib.sha256(plain).hexdigest() != value.pop(SEAL):
        raise DamagedFile(f"{path} is damaged or was edited: its seal does not fit; {advice}")
    return value


def publish_folder(unfinished: str | Path, final: str | Path) -> None:
    """Give a finished folder its final name, after every file in it has reached the disk.

    An existing `final` changes place with it in one step and is then removed. On systems that cannot do that it is
    moved aside, to `final` + `.replaced`, just before.
    """
    unfinished, final = Path(unfinished), Path(final)
    fsync_tree(unfinished)
    replaced = final.with_name(final.name + ".replaced")
    if final.exists() and exchange(unfinished, final):
        fsync_folder(final.parent)
        shutil.rmtree(unfinished)
        return
    if final.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        os.rename(final, replaced)
    os.rename(unfinished, final)
    fsync_folder(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def exchange(left: str | Path, right: str | Path) -> bool:
    """Swap two files or folders in one step, so that at every moment both names exist; False where that cannot be."""
    if not sys.platform.startswith("linux"):
        return False
    system = ctypes.CDLL(None, use_errno=True)
    if not hasattr(system, "renameat2"):
        return False  # a C library older than glibc 2.28
    done = system.renameat2(_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right), _RENAME_EXCHANGE)
    number = ctypes.get_errno()
    if done == 0:
        return True
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
        return False  # a file system that cannot
    raise OSError(number, f"could not swap {left} and {right}: {os.strerror(number)}")


@contextlib.contextmanager
def folder_lock(folder: str | Path, name: str = ".lock", *, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock while its shared files change; the system frees it when the process dies.

    Raises:
        BlockingIOError: another process holds it and `wait` is false.
    """
    import fcntl  # here: readers need none, on systems without it either

    with open(Path(folder) / name, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def fsync_folder(folder: str | Path) -> None:
    """Flush a folder's list of names, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: str | Path) -> None:
    """Flush every file below a folder, and every list of names, before any of it takes a final name."""
    for path in sorted(Path(folder).rglob("*")):
        fsync_folder(path)  # the same call for a file
    fsync_folder(folder)


def sha256_file(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
