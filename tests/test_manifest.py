"""gamengen.manifest: what was written is what is read, file by file, and damage is refused by name."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

from gamengen.durable import DamagedFile, read_json, write_json
from gamengen.manifest import MANIFEST_FILE, verify_file, verify_if_listed, verify_manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "weights").write_bytes(bytes(range(200)))
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


def test_it_lists_size_and_sha256_of_every_file(folder: Path) -> None:
    write_manifest(folder)
    write_manifest(folder)  # not of itself
    files = read_json(folder / MANIFEST_FILE)["files"]
    assert set(files) == {"unet/weights", "config.json"}
    assert files["unet/weights"] == {"bytes": 200, "sha256": hashlib.sha256(bytes(range(200))).hexdigest()}
    verify_manifest(folder)


def test_only_named_files_and_those_to_come(folder: Path) -> None:
    write_manifest(folder, ("config.json",), to_come={"index.json": b"[]"})
    with pytest.raises(DamagedFile, match=r"index\.json is missing"):
        verify_manifest(folder)
    (folder / "index.json").write_bytes(b"[]")
    (folder / "unet" / "weights").write_bytes(b"of another program")
    verify_manifest(folder)
    verify_file(folder / "index.json")
    (folder / "index.json").write_bytes(b"{}")
    for check, path in ((verify_manifest, folder), (verify_file, folder / "index.json")):
        with pytest.raises(DamagedFile, match=r"index\.json was changed or damaged: its sha256"):
            check(path)


def test_a_file_that_no_manifest_lists_is_not_checked(folder: Path) -> None:
    verify_file(folder / "config.json")
    write_manifest(folder, ("config.json",))
    verify_file(folder / "notes.txt")
    verify_file(folder / "unet" / "weights")


def test_a_missing_manifest_is_an_error_or_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DamagedFile, match="was not completely written"):
        verify_manifest(folder)
    with caplog.at_level(logging.WARNING):
        verify_if_listed(folder)
    assert str(folder) in caplog.text and "would not be noticed" in caplog.text
    caplog.clear()
    write_manifest(folder)
    verify_if_listed(folder)
    (folder / "config.json").write_text("{ }")
    with pytest.raises(DamagedFile, match=r"config\.json has 3 bytes, expected 2"):
        verify_if_listed(folder)
    assert not caplog.text


def test_manifests_from_before_there_were_seals_are_read(folder: Path) -> None:
    write_manifest(folder)
    files = read_json(folder / MANIFEST_FILE)["files"]
    write_json(folder / MANIFEST_FILE, {"files": files})
    verify_manifest(folder)
    (folder / "config.json").unlink()
    with pytest.raises(DamagedFile, match=r"config\.json is missing"):
        verify_manifest(folder)
