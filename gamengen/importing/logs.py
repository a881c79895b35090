"""Logs of what was done: CSV, JSONL or npz, read as named columns. Nothing is unpickled, sizes are bounded."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gamengen.importing.npz import read_columns
from gamengen.importing.spec import ImportSpec

LOG_SUFFIXES = (".csv", ".jsonl", ".npz")
MAX_LOG_BYTES = 1 << 28
MAX_LINE = 1 << 20
_PLURALS = {"actions": "action", "rewards": "reward", "times": "time", "timestamps": "time", "episodes": "episode"}


@dataclass(frozen=True)
class Log:
    """Columns of equal length by what they mean, empty cells None. Values are int, float, bool, str or lists of str."""

    columns: dict[str, list[Any]]
    where: str
    lines: list[int] = field(default_factory=list)
    """Where each row stands in a text file; empty for other logs."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def at(self, row: int) -> str:
        """The place of a row, for messages."""
        return f"{self.where}, line {self.lines[row]}" if self.lines else f"{self.where}, row {row}"

    def numbers(self, name: str) -> list[float | None]:
        """A column as numbers; ValueError names the row that holds none."""
        return [None if value is None else self._number(name, row) for row, value in enumerate(self.columns[name])]

    def flags(self, name: str) -> list[bool]:
        """A column of true and false (1 and 0); empty is false."""
        words = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
        found = []
        for row, value in enumerate(self.columns[name]):
            flag = False if value is None else words.get(str(value).strip().lower())
            if flag is None:
                raise ValueError(f"{self.at(row)}, {name}: expected true or false (1 or 0), got {value!r}")
            found.append(flag)
        return found

    def _number(self, name: str, row: int) -> float:
        value = self.columns[name][row]
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{self.at(row)}, {name}: expected a number, got {value!r}")
        return number


def read_log(path: str | Path, spec: ImportSpec) -> Log:
    """Read a log under the names that the YAML gives its columns.

    Raises:
        ValueError: too large, damaged, an unequal row, columns of two lengths, a name twice; with its place.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        columns: dict[str, list[Any]] = {
            name: [None if isinstance(value, float) and math.isnan(value) else value for value in values.tolist()]
            for name, values in read_columns(path, skip=("frames", dict(spec.columns).get("frames", "frames"))).items()
        }
        return Log(_rename(columns, spec, str(path)), str(path))
    if path.stat().st_size > MAX_LOG_BYTES:
        raise ValueError(f"{path}: {path.stat().st_size} bytes; expected a log of at most {MAX_LOG_BYTES}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 text, {error}") from error
    columns, lines = (_read_csv if path.suffix.lower() == ".csv" else _read_jsonl)(text, path)
    return Log(_rename(columns, spec, str(path)), str(path), lines)


def _read_csv(text: str, path: Path) -> tuple[dict[str, list[Any]], list[int]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        if not names or "" in names or len(set(names)) < len(names):
            raise ValueError(f"{path}, line 1: expected a header of names, each once, got {names}")
        columns: dict[str, list[Any]] = {name: [] for name in names}
        lines = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise ValueError(f"{path}, line {reader.line_num}: {len(row)} cells, the header has {len(names)}")
            lines.append(reader.line_num)
            for name, cell in zip(names, row, strict=True):
                # Not stripped: a key may be the space itself.
                columns[name].append(cell if cell != "" else None)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not CSV, {error}") from error
    return columns, lines


def _read_jsonl(text: str, path: Path) -> tuple[dict[str, list[Any]], list[int]]:
    rows: list[dict[str, Any]] = []
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            raise ValueError(f"{path}, line {number}: {len(line)} characters; expected one row, at most {MAX_LINE}")
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: not JSON, {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f'{path}, line {number}: expected an object such as {{"action": 0}}, got {line[:60]!r}')
        rows.append(row)
        lines.append(number)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}, lines


def _rename(columns: dict[str, list[Any]], spec: ImportSpec, where: str) -> dict[str, list[Any]]:
    given = {theirs: meaning for meaning, theirs in spec.columns}
    renamed: dict[str, list[Any]] = {}
    for name, values in columns.items():
        meaning = given.get(name, _PLURALS.get(name, name))
        if meaning in renamed:
            raise ValueError(f"{where}: two columns would be {meaning!r}; say which under `columns` in the YAML")
        renamed[meaning] = values
    missing = [theirs for theirs, meaning in given.items() if theirs not in columns and meaning != "frames"]
    if missing:
        raise ValueError(
            f"{where}: the YAML names a column {missing[0]!r}; this log has: {', '.join(columns) or 'none'}"
        )
    lengths = {name: len(values) for name, values in renamed.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{where}: expected columns of one length, got {lengths}")
    if not any(lengths.values()):
        raise ValueError(f"{where}: no rows; expected a row a frame, or key events")
    return renamed
