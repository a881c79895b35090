"""Manifests: the size and sha256 of every file of a folder, so that a damaged one is refused by its name.

Checkpoints, world folders, codec folders and shards each have a `manifest.json`. No file format that is loaded here
notices a flipped bit by itself. diffusers passes over the file, so the folders stay what its `from_pretrained` reads.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from gamengen.durable import DamagedFile, read_sealed_json, sha256_file, write_sealed_json

MANIFEST_FILE = "manifest.json"
logger = logging.getLogger(__name__)


def write_manifest(
    folder: str | Path, names: Iterable[str] | None = None, *, to_come: Mapping[str, bytes] | None = None
) -> None:
    """Write the sizes and sha256 of files below `folder`.

    Args:
        names: relative to the folder; all files when None.
        to_come: the bytes of files that are written only after the manifest.
    """
    folder = Path(folder)
    if names is None:
        found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        names = [name for name in found if name != MANIFEST_FILE]
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_file(folder / name)} for name in sorted(names)
    }
    for name, data in (to_come or {}).items():
        files[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    write_sealed_json(folder / MANIFEST_FILE, {"files": files})


def verify_manifest(folder: str | Path) -> None:
    """Compare every file with the manifest.

    Raises:
        DamagedFile: names the first file that is missing, of another size, or of another content.
    """
    folder = Path(folder)
    if not (folder / MANIFEST_FILE).is_file():
        raise DamagedFile(f"{folder} has no {MANIFEST_FILE}: it was not completely written")
    for name, expected in _entries(folder / MANIFEST_FILE).items():
        _verify(folder / name, expected)


def verify_if_listed(folder: str | Path) -> None:
    """`verify_manifest` where there is a manifest; else a warning: nothing could be checked."""
    if (Path(folder) / MANIFEST_FILE).is_file():
        verify_manifest(folder)
    else:
        logger.warning("%s has no %s: damage to its files would not be noticed", folder, MANIFEST_FILE)


def verify_file(path: str | Path) -> None:
    """Compare one file with the manifest beside it, if that lists it.

    Raises:
        DamagedFile: names the file that is missing, or of another size or content.
    """
    path = Path(path)
    manifest = path.parent / MANIFEST_FILE
    if manifest.is_file() and (expected := _entries(manifest).get(path.name)) is not None:
        _verify(path, expected)


def _entries(manifest: Path) -> dict[str, dict[str, object]]:
    entries: dict[str, dict[str, object]] = read_sealed_json(manifest, unsealed=("files",))["files"]
    return entries


def _verify(file: Path, expected: Mapping[str, object]) -> None:
    if not file.is_file():
        raise DamagedFile(f"{file} is missing")
    if file.stat().st_size != expected["bytes"]:
        raise DamagedFile(f"{file} has {file.stat().st_size} bytes, expected {expected['bytes']}: it is damaged")
    if sha256_file(file) != expected["sha256"]:
        raise DamagedFile(f"{file} was changed or damaged: its sha256 is not the one in {MANIFEST_FILE} beside it")
