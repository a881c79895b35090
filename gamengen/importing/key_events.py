"""Timestamped logs: which keys are down, or which row holds, at each tick of the stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gamengen.importing.actions import NO_ACTION, Ids, KeyTable
from gamengen.importing.logs import Log
from gamengen.importing.spec import ImportSpec
from gamengen.importing.timeline import TIME_TOLERANCE, Times

_DOWN, _UP, _START, _RESET = "down", "up", "start", "reset"
_WORDS = {
    "down": _DOWN, "keydown": _DOWN, "press": _DOWN, "pressed": _DOWN, "1": _DOWN, "true": _DOWN,
    "up": _UP, "keyup": _UP, "release": _UP, "released": _UP, "0": _UP, "false": _UP, "start": _START, "reset": _RESET,
}  # fmt: skip


@dataclass
class KeyEvents:
    """Key events in the order of their times, seconds after the first frame."""

    events: list[tuple[float, str, bool, int]] = field(default_factory=list)
    """(time, key, is it down now, row of the log)."""
    resets: list[float] = field(default_factory=list)
    """When a new game began."""
    notes: dict[str, int] = field(default_factory=dict)
    """What was passed over -> how often."""


def seconds_of(log: Log, spec: ImportSpec) -> list[float]:
    """The column `time` in seconds; ValueError for an empty cell or times that fall."""
    unit = 1e-3 if spec.time_unit == "milliseconds" else 1.0
    seconds: list[float] = []
    for row, number in enumerate(log.numbers("time")):
        if number is None:
            raise ValueError(f"{log.at(row)}, time: empty; expected when it happened")
        if seconds and number * unit < seconds[-1]:
            raise ValueError(
                f"{log.at(row)}: time {number:g} is before the one above; expected rows in the order of time"
            )
        seconds.append(number * unit)
    return seconds


def read_events(log: Log, keys: KeyTable, spec: ImportSpec) -> KeyEvents:
    """Key events on the clock of the frames: a row `start` says when the first frame was shown, else that is time 0.

    A repeated down (the keyboard's own repetition) and an up of a key that is not down change nothing and are counted.

    Raises:
        ValueError: an unknown event or key, two starts, times that fall; with the row.
    """
    found = KeyEvents()
    zero: float | None = None
    held: set[str] = set()
    rows: list[tuple[float, str, bool, int]] = []
    for row, time in enumerate(seconds_of(log, spec)):
        kind = _event(log.columns["event"][row], log.at(row))
        if kind == _START:
            if zero is not None:
                raise ValueError(f"{log.at(row)}: a second `start`; expected one, at the first frame of the clip")
            zero = time
        elif kind == _RESET:
            found.resets.append(time)
        else:
            name = log.columns["key"][row]
            if name is None:
                raise ValueError(f"{log.at(row)}, key: empty; expected which key went {kind}")
            key = keys.key(str(name), log.at(row))
            if key is None:
                continue
            if (key in held) == (kind == _DOWN):
                what = "repeated downs" if kind == _DOWN else "ups of keys that were not down"
                found.notes[what] = found.notes.get(what, 0) + 1
                continue
            held ^= {key}
            rows.append((time, key, kind == _DOWN, row))
    start = zero or 0.0
    found.events = [(time - start, key, down, row) for time, key, down, row in rows]
    found.resets = [time - start for time in found.resets]
    return found


def event_actions(events: KeyEvents, ticks: Times, keys: KeyTable, log: Log) -> Ids:
    """The action at every tick: the keys that are down then, and those that were tapped since the tick before.

    A game that reads its keyboard once a frame does the same with a key that is down; with a tap, one that reads a
    queue of events does. So no press is lost.

    Args:
        ticks: (n,) seconds after the first frame, rising.
    """
    found = np.empty(len(ticks), np.int64)
    down: set[str] = set()
    next_event = 0
    for tick, time in enumerate(ticks):
        tapped: set[str] = set()
        row = 0
        while next_event < len(events.events) and events.events[next_event][0] <= time + TIME_TOLERANCE:
            at, key, pressed, row = events.events[next_event]
            next_event += 1
            if pressed:
                down.add(key)
                # What was tapped long before the first tick is over.
                if tick > 0 or at >= time - TIME_TOLERANCE:
                    tapped.add(key)
            else:
                down.discard(key)
        found[tick] = keys.action(down | tapped, log.at(row) if row else f"{log.where}, at {time:.3f} s")
    return found


def held_rows(ids: Ids, seconds: Times, ticks: Times) -> Ids:
    """Sampled states at every tick: the newest row by then. NO_ACTION before the first row and after the last one ends.

    Args:
        ids: (m,) action of each row.
        seconds: (m,) when each row was written, rising.
    """
    if len(ids) == 0:
        return np.full(len(ticks), NO_ACTION, np.int64)
    rows = np.searchsorted(seconds, ticks + TIME_TOLERANCE, side="right") - 1
    last = seconds[-1] + (float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0)
    inside = (rows >= 0) & (ticks < last + TIME_TOLERANCE)
    return np.where(inside, ids[np.maximum(rows, 0)], NO_ACTION)


def reset_ticks(resets: list[float], ticks: Times) -> npt.NDArray[np.bool_]:
    """(n,) True where a tick shows the first frame of a new game."""
    first = np.zeros(len(ticks), bool)
    at = np.searchsorted(ticks, np.array(resets) - TIME_TOLERANCE)
    first[at[(at > 0) & (at < len(ticks))]] = True
    return first


def _event(value: Any, where: str) -> str:
    word = str(value).strip().lower()
    if word not in _WORDS:
        raise ValueError(f"{where}, event: expected down, up, start or reset, got {value!r}")
    return _WORDS[word]
