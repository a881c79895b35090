"""From what a log holds to action ids: values, key columns, lists of keys, sampled states, key events."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from gamengen.importing.logs import Log
from gamengen.importing.spec import ImportSpec

NO_ACTION = -1
"""Of a frame whose action the log does not hold."""
Ids = npt.NDArray[np.int64]
Kind = Literal["a row a frame", "timed rows", "key events"]


@dataclass
class Counts:
    """What was passed over or decided while keys became actions, for the report."""

    ignored_keys: Counter[str] = field(default_factory=Counter)
    other_combinations: Counter[str] = field(default_factory=Counter)
    """Keys held together that no action names -> rows or ticks."""


def kind_of(log: Log) -> Kind:
    """How a log tells what was done, by its columns."""
    if {"time", "key", "event"} <= set(log.columns):
        return "key events"
    return "timed rows" if "time" in log.columns else "a row a frame"


class KeyTable:
    """Combinations of keys -> action ids, by the YAML."""

    def __init__(self, spec: ImportSpec) -> None:
        self._spec = spec
        self._aliases = dict(spec.aliases)
        self._ignored = frozenset(spec.ignored_keys)
        self._ids = {frozenset(action.pressed): number for number, action in enumerate(spec.actions) if action.pressed}
        self._ids[frozenset()] = spec.noop_action
        self._keys = spec.known_keys
        self.counts = Counts()

    def called(self, name: str) -> str:
        """What an alias stands for; the name itself where it is none."""
        return self._aliases.get(name, name)

    def key(self, name: str, where: str) -> str | None:
        """The key that the log calls `name`; None where the YAML ignores it.

        Raises:
            ValueError: no action, alias or ignored key has this name.
        """
        key = self.called(name)
        if key in self._keys:
            return key
        if name in self._ignored:
            self.counts.ignored_keys[name] += 1
            return None
        near = difflib.get_close_matches(name, self._keys, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"{where}: unknown key {name!r}; {hint}the actions are made of {', '.join(map(repr, sorted(self._keys)))}. "
            "Add it to `pressed` of an action, to `aliases` or to `ignored_keys` of the YAML"
        )

    def action(self, down: Iterable[str], where: str) -> int:
        """The action of keys that are down together.

        Raises:
            ValueError: no action has this combination, and the YAML does not allow the largest part of it.
        """
        keys = frozenset(down)
        if keys in self._ids:
            return self._ids[keys]
        name = " + ".join(sorted(keys))
        if self._spec.other_combinations == "error":
            raise ValueError(
                f"{where}: no action is {name}; add one with `pressed: [{', '.join(sorted(keys))}]`, or write "
                "`other_combinations: largest` to take the action with most of these keys"
            )
        self.counts.other_combinations[name] += 1
        parts = [(len(part), -number, number) for part, number in self._ids.items() if part <= keys]
        return max(parts)[2]


def row_actions(log: Log, keys: KeyTable, spec: ImportSpec) -> Ids:
    """The action id of every row, NO_ACTION where a row is empty.

    A column `action` holds ids, names or values of the table; a column `keys` what is down (`w+space`, or a JSON
    list); otherwise every key of the table has a column of 0 and 1.

    Raises:
        ValueError: none or several of these; a value outside the table; an unknown key; with the row.
    """
    has_columns = spec.known_keys & ({keys.called(name) for name in log.columns})
    ways = [way for way, there in (("action", "action" in log.columns), ("keys", "keys" in log.columns)) if there]
    if has_columns:
        ways.append(f"a column a key ({', '.join(sorted(has_columns))})")
    if len(ways) != 1:
        raise ValueError(
            f"{log.where}: expected one of a column `action`, a column `keys`, a column a key "
            f"({', '.join(sorted(spec.known_keys)) or 'no action has keys'}), or `time`, `key` and `event`; got "
            f"{' and '.join(ways) or 'the columns ' + ', '.join(log.columns)}. `columns` in the YAML renames them"
        )
    if "action" in log.columns:
        return _value_actions(log, spec)
    if "keys" in log.columns:
        return _list_actions(log, keys)
    return _column_actions(log, keys, spec)


def _value_actions(log: Log, spec: ImportSpec) -> Ids:
    ids: dict[str, int] = {}
    for number, action in enumerate(spec.actions):
        ids |= {action.value: number} if action.value else {str(number): number, action.name: number}
    found = np.full(len(log), NO_ACTION, np.int64)
    for row, value in enumerate(log.columns["action"]):
        if value is None:
            continue
        written = (
            str(int(value)) if isinstance(value, (int, float)) and float(value).is_integer() else str(value).strip()
        )
        if written not in ids:
            table = ", ".join(f"{a.value or number} {a.name}" for number, a in enumerate(spec.actions))
            raise ValueError(f"{log.at(row)}: action {value!r} is not in the action table; expected one of: {table}")
        found[row] = ids[written]
    return found


def _list_actions(log: Log, keys: KeyTable) -> Ids:
    found = np.full(len(log), NO_ACTION, np.int64)
    for row, value in enumerate(log.columns["keys"]):
        if value is None and log.where.endswith(".jsonl"):
            continue
        names = _names(value, log, row)
        down = {key for name in names if (key := keys.key(name, log.at(row))) is not None}
        found[row] = keys.action(down, log.at(row))
    return found


def _names(value: object, log: Log, row: int) -> list[str]:
    """An empty cell of a CSV or npz is: nothing is down."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{log.at(row)}, keys: not a list of keys, {error}") from error
    if value is None:
        return []
    if isinstance(value, str):
        return [part.strip() or part for part in value.split("+")] if value else []
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return value
    raise ValueError(f"{log.at(row)}, keys: expected keys such as `w+space` or a list of them, got {value!r}")


def _column_actions(log: Log, keys: KeyTable, spec: ImportSpec) -> Ids:
    by_key: dict[str, list[str]] = {key: [] for key in sorted(spec.known_keys)}
    for name in log.columns:
        key = keys.called(name)
        if key in by_key:
            by_key[key].append(name)
    missing = [key for key, names in by_key.items() if not names]
    if missing:
        raise ValueError(f"{log.where}: a column a key, but none for {missing[0]!r}; it has: {', '.join(log.columns)}")
    names = [name for columns in by_key.values() for name in columns]
    flags = {name: log.flags(name) for name in names}
    found = np.full(len(log), NO_ACTION, np.int64)
    for row in range(len(log)):
        if all(log.columns[name][row] is None for name in names):
            continue
        down = [key for key, columns in by_key.items() if any(flags[name][row] for name in columns)]
        found[row] = keys.action(down, log.at(row))
    return found
