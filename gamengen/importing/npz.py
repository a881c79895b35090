"""Arrays of an .npz file, read without unpickling and without trusting the sizes that it states."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

MAX_COLUMN_BYTES = 1 << 28
"""Of an array that is read whole; frames are read one by one."""


@dataclass(frozen=True)
class Header:
    """What an array says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def read_headers(path: str | Path) -> dict[str, Header]:
    """Name -> header of every array.

    Raises:
        ValueError: not an .npz, or an array of Python objects: reading it would run code that the file holds.
    """
    with _opened(path) as archive:
        return {name: _header(file, f"{path}, {name}")[0] for name, file in _members(archive)}


def read_columns(path: str | Path, skip: Collection[str] = ()) -> dict[str, npt.NDArray[np.generic]]:
    """Every array but those in `skip`: 1-D numbers, flags or texts.

    Raises:
        ValueError: as `read_headers`; another number of dimensions; larger than MAX_COLUMN_BYTES; cut short.
    """
    columns: dict[str, npt.NDArray[np.generic]] = {}
    with _opened(path) as archive:
        for name, file in _members(archive):
            if name in skip:
                continue
            where = f"{path}, {name}"
            header, _ = _header(file, where)
            size = math.prod(header.shape) * header.dtype.itemsize
            if len(header.shape) != 1 or header.dtype.kind not in "biufU":
                raise ValueError(f"{where}: expected a 1-D column, got {header.dtype} {header.shape}")
            if size > MAX_COLUMN_BYTES:
                raise ValueError(f"{where}: {size} bytes; expected a column of at most {MAX_COLUMN_BYTES}")
            columns[name] = np.frombuffer(_read(file, size, where), header.dtype)
            _check_end(file, where)
    return columns


def iterate_rows(path: str | Path, name: str) -> Iterator[np.ndarray]:
    """An array's entries along its first axis, one in memory at a time.

    Raises:
        ValueError: as `read_headers`; no such array; cut short.
    """
    with _opened(path) as archive:
        for found, file in _members(archive):
            if found == name:
                where = f"{path}, {name}"
                header, fortran_order = _header(file, where)
                if fortran_order:
                    raise ValueError(f"{where}: stored column by column; save np.ascontiguousarray(array)")
                size = math.prod(header.shape[1:]) * header.dtype.itemsize
                for _ in range(header.shape[0]):
                    yield np.frombuffer(_read(file, size, where), header.dtype).reshape(header.shape[1:])
                _check_end(file, where)
                return
    raise ValueError(f"{path}: has no array {name!r}")


@contextmanager
def _opened(path: str | Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path}: not an .npz file or damaged, {error}") from error


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[str, IO[bytes]]]:
    for info in archive.infolist():
        with archive.open(info) as file:
            yield info.filename.removesuffix(".npy"), file


def _header(file: IO[bytes], where: str) -> tuple[Header, bool]:
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0
        }.get(version)  # fmt: skip
        if read is None:
            raise ValueError(f"version {version} of the format")
        shape, fortran_order, dtype = read(file)
    except (ValueError, SyntaxError, TypeError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: not an array of NumPy, {error}") from error
    if dtype.hasobject:
        raise ValueError(
            f"{where}: holds Python objects, and reading them would run code that the file brings; save plain arrays "
            "(np.savez(..., allow_pickle=False) tells which are not)"
        )
    return Header(shape, dtype), fortran_order and len(shape) > 1


def _read(file: IO[bytes], size: int, where: str) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError(f"{where}: cut short, expected {size} bytes, got {len(data)}")
    return data


def _check_end(file: IO[bytes], where: str) -> None:
    """Reading the end is also what makes zipfile compare the checksum."""
    if file.read(1):
        raise ValueError(f"{where}: longer than its header says")
