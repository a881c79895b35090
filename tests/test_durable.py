"""gamengen.durable: a crash or a full disk at any moment leaves the old file or the new one, never a part."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
import torch

from gamengen.durable import (
    DamagedFile,
    exchange,
    folder_lock,
    publish_folder,
    read_json,
    read_sealed_json,
    sha256_file,
    write_bytes,
    write_file,
    write_json,
    write_sealed_json,
)

ROOT = Path(__file__).parent.parent


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_bytes_and_json_come_back_and_nothing_stays_beside(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"\0\1")
    write_json(tmp_path / "b", {"z": 1, "a": [1.5, None, "ä"]})
    assert (tmp_path / "a").read_bytes() == b"\0\1" and read_json(tmp_path / "b") == {"a": [1.5, None, "ä"], "z": 1}
    assert (tmp_path / "b").read_text().index('"a"') < (tmp_path / "b").read_text().index('"z"')
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), OSError("x"), ValueError("x")])
def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")

    def write(file: IO[bytes]) -> None:
        file.write(b"half of the n")
        raise error

    with pytest.raises((OSError, ValueError, KeyboardInterrupt)):
        write_file(path, write)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_between_write_and_rename_leaves_the_old_file_and_the_next_write_works(
    tmp_path: Path, moment: str
) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")
    code = (
        "import os, sys; from gamengen import durable; "
        f"setattr(os, {moment!r}, lambda *a: os._exit(9)); durable.write_bytes(sys.argv[1], b'new')"
    )
    assert run(code, path).returncode == 9
    assert path.read_bytes() == b"old"
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource, signal, sys
import torch
from gamengen.durable import write_bytes, write_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
if sys.argv[2] == "torch":
    write_file(sys.argv[1], lambda file: torch.save(torch.zeros(1_000_000), file))
else:
    write_bytes(sys.argv[1], b"0" * 1_000_000)
"""


@pytest.mark.parametrize("writer", ["bytes", "torch"])
def test_a_full_disk_names_the_path_and_leaves_no_final_file(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "shard.pt"
    done = run(FULL_DISK, path, writer)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("OSError") and f"could not write {path}" in last and "Free some space" in last
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"could not write .*nowhere"):
        write_bytes(tmp_path / "nowhere" / "a", b"")


def test_torch_bytes_do_not_depend_on_the_name(tmp_path: Path) -> None:
    """torch.save(value, path) writes the name into the archive: the sha256 would change with the rename."""
    for name in ("a.pt", "another.pt"):
        write_file(tmp_path / name, lambda file: torch.save({"x": torch.arange(5)}, file))
    assert sha256_file(tmp_path / "a.pt") == sha256_file(tmp_path / "another.pt")


def test_sha256_sees_one_flipped_bit(tmp_path: Path) -> None:
    data = bytearray(os.urandom(3 << 20))
    write_bytes(tmp_path / "a", bytes(data))
    before = sha256_file(tmp_path / "a")
    data[2 << 20] ^= 1
    write_bytes(tmp_path / "a", bytes(data))
    assert sha256_file(tmp_path / "a") != before


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ValueError, match=r"a\.json is damaged"):
        read_json(tmp_path / "a.json")


def folder_of(path: Path, text: str) -> Path:
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "file").write_text(text)
    return path


def test_a_folder_is_published_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    final = tmp_path / "checkpoint-1"
    publish_folder(folder_of(tmp_path / "one.tmp", "first"), final)
    assert (final / "sub" / "file").read_text() == "first"
    publish_folder(folder_of(tmp_path / "two.tmp", "second"), final)
    assert (final / "sub" / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("swap", ["a system that swaps in one step", "one that cannot"])
def test_a_kill_before_publishing_keeps_the_old_folder(tmp_path: Path, swap: str) -> None:
    final = folder_of(tmp_path / "final", "old")
    new = folder_of(tmp_path / "new.tmp", "new")
    die = "lambda *a: os._exit(9)"
    code = (
        "import os, sys; from gamengen import durable; "
        f"os.rename = {die}; durable.exchange = {die if 'swaps' in swap else 'lambda *a: False'}; "
        "durable.publish_folder(sys.argv[1], sys.argv[2])"
    )
    assert run(code, new, final).returncode == 9
    assert (final / "sub" / "file").read_text() == "old"
    publish_folder(new, final)
    assert (final / "sub" / "file").read_text() == "new"


def test_folders_are_swapped_in_one_step_or_not_at_all(tmp_path: Path) -> None:
    left, right = folder_of(tmp_path / "left", "1"), folder_of(tmp_path / "right", "2")
    swapped = exchange(left, right)
    if sys.platform.startswith("linux"):
        assert swapped, "every file system that the tests run on can"
    texts = [(folder / "sub" / "file").read_text() for folder in (left, right)]
    assert texts == (["2", "1"] if swapped else ["1", "2"])
    with pytest.raises(FileNotFoundError, match="could not swap .*left and .*nowhere"):
        exchange(left, tmp_path / "nowhere")


def test_where_nothing_can_be_swapped_the_old_folder_is_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gamengen.durable.exchange", lambda left, right: False)
    final = folder_of(tmp_path / "final", "old")
    publish_folder(folder_of(tmp_path / "new.tmp", "new"), final)
    assert (final / "sub" / "file").read_text() == "new" and list(tmp_path.iterdir()) == [final]


SEALED = {"steps": [1, 2, 3], "name": "\u00e4", "share": 0.1 + 0.2, "files": {"a": {"bytes": 7}}}


def test_every_flipped_bit_of_a_sealed_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    write_sealed_json(path, SEALED)
    assert read_sealed_json(path) == SEALED and "seal" in read_json(path)
    data = path.read_bytes()
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            with pytest.raises(DamagedFile, match=r"index\.json is damaged"):
                read_sealed_json(path, unsealed=SEALED)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedFile, match=r"index\.json is damaged"):
        read_sealed_json(path)


def test_files_from_before_there_were_seals_are_read(tmp_path: Path) -> None:
    write_json(tmp_path / "old.json", SEALED)
    assert read_sealed_json(tmp_path / "old.json", unsealed=SEALED) == SEALED
    with pytest.raises(DamagedFile, match="its seal is gone"):
        read_sealed_json(tmp_path / "old.json", unsealed=("steps",))
    write_json(tmp_path / "list.json", [1])
    with pytest.raises(DamagedFile, match="expected a JSON object"):
        read_sealed_json(tmp_path / "list.json")


def test_a_lock_is_held_until_its_end(tmp_path: Path) -> None:
    with folder_lock(tmp_path), pytest.raises(BlockingIOError), folder_lock(tmp_path, wait=False):
        pass
    with folder_lock(tmp_path, wait=False):
        pass
