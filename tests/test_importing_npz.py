"""importing/npz.py: arrays without unpickling, sizes that are lies, files that are cut or changed."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gamengen.importing.npz import MAX_COLUMN_BYTES, iterate_rows, read_columns, read_headers


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back(save: object, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (5, 4, 6, 3), np.uint8)
    columns = {"a": np.arange(5), "b": random.normal(size=5), "c": np.array(["x", "yy"]), "d": np.array([True, False])}
    save(tmp_path / "x.npz", frames=frames, **columns)  # type: ignore[operator]
    headers = read_headers(tmp_path / "x.npz")
    assert headers["frames"].shape == (5, 4, 6, 3) and headers["c"].dtype == "<U2"
    np.testing.assert_array_equal(np.stack(list(iterate_rows(tmp_path / "x.npz", "frames"))), frames)
    read = read_columns(tmp_path / "x.npz", skip=("frames",))
    for name, values in columns.items():
        np.testing.assert_array_equal(read[name], values)


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_an_array_of_objects_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    np.savez(tmp_path / "x.npz", actions=np.array([Canary(canary)], dtype=object))
    for read in (read_headers, read_columns, lambda path: list(iterate_rows(path, "actions"))):
        with pytest.raises(ValueError, match="x.npz, actions: holds Python objects, .* run code"):
            read(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("actions.npy", pickle.dumps(Canary(canary)))
    with pytest.raises(ValueError, match="y.npz, actions: not an array"):
        read_columns(tmp_path / "y.npz")
    assert not canary.exists()


def lying(path: Path, shape: str, data: bytes, dtype: str = "|u1") -> Path:
    """An .npz with one array `frames` whose header says what it likes."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("frames.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data)
    return path


def test_stated_sizes_are_not_believed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"bytes; expected a column of at most {MAX_COLUMN_BYTES}"):
        read_columns(lying(tmp_path / "a.npz", "(10000000000,)", b""))
    with pytest.raises(ValueError, match="cut short, expected 12 bytes, got 5"):
        read_columns(lying(tmp_path / "b.npz", "(12,)", b"12345"))
    with pytest.raises(ValueError, match="longer than its header says"):
        read_columns(lying(tmp_path / "c.npz", "(3,)", b"12345"))
    rows = iterate_rows(lying(tmp_path / "d.npz", "(1000000000, 2)", b"1234"), "frames")
    assert [next(rows).tolist(), next(rows).tolist()] == [[49, 50], [51, 52]]
    with pytest.raises(ValueError, match="cut short"):
        next(rows)
    with pytest.raises(ValueError, match="not an array of NumPy"):
        read_headers(lying(tmp_path / "e.npz", "(" * 100, b""))


def test_damage_is_named(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", frames=np.arange(3000, dtype=np.int64))
    data = bytearray((tmp_path / "x.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(ValueError, match="x.npz"):
        list(iterate_rows(tmp_path / "x.npz", "frames"))
    (tmp_path / "y.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="y.npz: not an .npz file or damaged"):
        read_headers(tmp_path / "y.npz")
    np.savez(tmp_path / "z.npz", frames=np.asfortranarray(np.zeros((3, 4))), wide=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="column by column"):
        list(iterate_rows(tmp_path / "z.npz", "frames"))
    with pytest.raises(ValueError, match="expected a 1-D column"):
        read_columns(tmp_path / "z.npz")
    with pytest.raises(ValueError, match="has no array 'other'"):
        list(iterate_rows(tmp_path / "z.npz", "other"))
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    assert buffer.getvalue()[6:8] == b"\x01\x00"  # the version that `lying` writes
