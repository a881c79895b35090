"""Log and timeline together: action, reward and borders of games at every tick, and the episodes that they make."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamengen.importing.actions import NO_ACTION, Ids, KeyTable, kind_of, row_actions
from gamengen.importing.key_events import event_actions, held_rows, read_events, reset_ticks, seconds_of
from gamengen.importing.logs import Log
from gamengen.importing.spec import ImportSpec
from gamengen.importing.timeline import Timeline

Flags = npt.NDArray[np.bool_]
_SIDE_COLUMNS = ("frame", "episode", "reward", "terminated", "truncated")


@dataclass(frozen=True)
class Steps:
    """What is known of each of n ticks."""

    actions: Ids
    """(n,) chosen on the tick's frame; NO_ACTION where the log holds none."""
    rewards: npt.NDArray[np.float64]
    """(n,) that came with the next frame."""
    first: Flags
    """(n,) the tick shows the first frame of a game."""
    terminated: Flags
    """(n,) the tick shows the last frame of a game that ended."""
    truncated: Flags
    """(n,) the tick shows the last frame of a game that was cut."""


@dataclass(frozen=True)
class Piece:
    """One episode: the ticks first .. last, both shown."""

    first: int
    last: int
    terminated: bool


def make_steps(
    log: Log, timeline: Timeline, num_frames: int, spec: ImportSpec, keys: KeyTable, offset: float, notes: Counter[str]
) -> Steps:
    """What was done at every tick.

    Args:
        num_frames: of the source.
        offset: `action_offset` of the YAML, or another one to try.
        notes: what was passed over is counted here.
    Raises:
        ValueError: another number of rows than frames, an unknown key or action, an offset that is no whole number of
            rows; with the place.
    """
    kind = kind_of(log)
    if kind == "key events":
        return _from_events(log, timeline, spec, keys, offset, notes)
    ids = row_actions(log, keys, spec)
    unused = set(log.columns) - {"action", "keys", "time", *_SIDE_COLUMNS} - spec.known_keys - dict(spec.aliases).keys()
    notes.update({f"column {name!r} not used": 1 for name in unused})
    if kind == "timed rows":
        return _from_timed_rows(log, ids, timeline, spec, offset)
    return _from_rows(log, ids, timeline, num_frames, spec, offset)


def cut_episodes(steps: Steps, max_actions: int, dropped: Counter[str]) -> list[Piece]:
    """The episodes of a clip. Frames that are in none are counted in `dropped`, by the reason.

    An episode ends where a game does, and where the log has a gap. One longer than `max_actions` is cut into several;
    each begins with the frame that the one before ended with, so that no step is lost.
    """
    count = len(steps.actions)
    last = steps.terminated | steps.truncated | (steps.actions == NO_ACTION)
    last[:-1] |= steps.first[1:]
    last[-1] = True
    pieces: list[Piece] = []
    first = 0
    for tick in np.flatnonzero(last):
        if tick > first:
            for start in range(first, int(tick), max_actions):
                end = min(start + max_actions, int(tick))
                pieces.append(Piece(start, end, bool(end == tick and steps.terminated[tick])))
        else:
            without = steps.actions[tick] == NO_ACTION and tick < count - 1
            dropped["frames without an action in the log" if without else "games of a single frame"] += 1
        first = int(tick) + 1
    return pieces


def _from_rows(log: Log, ids: Ids, timeline: Timeline, num_frames: int, spec: ImportSpec, offset: float) -> Steps:
    if len(log) not in (num_frames, num_frames - 1):
        raise ValueError(
            f"{log.where}: {len(log)} rows for {num_frames} frames; expected a row a frame (the last one may be left "
            "out, its action leads nowhere). Cut both to the same span, or log times"
        )
    if "frame" in log.columns:
        numbers = np.array([np.nan if number is None else number for number in log.numbers("frame")])
        wrong = np.flatnonzero(numbers != numbers[0] + np.arange(len(numbers)))
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"{log.at(row)}: frame {numbers[row]:g}, expected {numbers[0] + row:g}: a row is missing or doubled"
            )
    per_tick = 1.0 if len(timeline.source) == num_frames else timeline.source_fps / spec.fps
    shift = round(offset * per_tick)
    if abs(shift - offset * per_tick) > 0.05:
        raise ValueError(
            f"{log.where}: action_offset {offset:g} is {offset * per_tick:.2f} rows of this log at "
            f"{timeline.source_fps:g} rows a second; expected a whole number of rows"
        )
    starts, ends = timeline.source + shift, timeline.next_source + shift
    padded = np.append(ids, NO_ACTION) if len(ids) < num_frames else ids
    actions = np.array([_most_frequent(padded, a, max(b, a + 1)) for a, b in zip(starts, ends, strict=True)], np.int64)
    sums = np.append(0.0, np.cumsum(_rewards(log)))
    inside = [np.clip(edge, 0, len(log)) for edge in (starts, ends)]
    first, terminated, truncated = (_shown(flags, timeline) for flags in _row_borders(log, num_frames))
    return Steps(actions, sums[inside[1]] - sums[inside[0]], _began(first), terminated, truncated)


def _most_frequent(ids: Ids, start: int, end: int) -> int:
    """Of the rows start .. end, the earliest of several; NO_ACTION outside the log."""
    if start < 0 or start >= len(ids):
        return NO_ACTION
    rows = ids[start:end]
    if len(rows) == 1:
        return int(rows[0])
    rows = rows[rows != NO_ACTION]
    if len(rows) == 0:
        return NO_ACTION
    values, where, counts = np.unique(rows, return_index=True, return_counts=True)
    return int(values[np.lexsort((where, -counts))[0]])


def _row_borders(log: Log, num_frames: int) -> tuple[Flags, Flags, Flags]:
    """(num_frames,) each: how many games have begun by a frame changes there; it is the last frame of one."""
    terminated, truncated = _ends(log)
    if len(log) < num_frames:
        early = np.flatnonzero((terminated | truncated)[:-1])
        if len(early):
            raise ValueError(
                f"{log.at(int(early[0]))}: a game ends here, and the log has one row fewer than there are frames; "
                "a log of several games needs a row for the last frame of each"
            )
        # Without a row for the last frame, the last row's step leads to it.
        terminated, truncated = (np.append(False, flags) for flags in (terminated, truncated))
    first = np.zeros(num_frames, bool)
    first[1:] = (terminated | truncated)[:-1]
    if "episode" in log.columns:
        names = [*log.columns["episode"], *log.columns["episode"][-1:]][:num_frames]
        first[1:] |= np.array([a != b for a, b in zip(names, names[1:], strict=False)], bool)
    return first, terminated, truncated


def _shown(flags: Flags, timeline: Timeline) -> Flags:
    """(n,) whether a flag is up in any of the source frames from a tick to the next."""
    sums = np.append(0, np.cumsum(flags))
    ends = np.maximum(timeline.next_source, timeline.source + 1)
    found: Flags = sums[ends] - sums[timeline.source] > 0
    return found


def _began(first: Flags) -> Flags:
    first = first.copy()
    first[0] = False
    return first


def _from_timed_rows(log: Log, ids: Ids, timeline: Timeline, spec: ImportSpec, offset: float) -> Steps:
    seconds = np.array(seconds_of(log, spec))
    ticks = timeline.times
    if seconds[0] > ticks[-1] or seconds[-1] < 0:
        raise ValueError(
            f"{log.where}: times from {seconds[0]:.3f} to {seconds[-1]:.3f} s, and the clip lasts {ticks[-1]:.3f} s; "
            "expected seconds after its first frame (`time_unit: milliseconds` in the YAML for milliseconds)"
        )
    actions = held_rows(ids, seconds, ticks + offset / spec.fps)
    row_ticks = np.clip(np.searchsorted(ticks, seconds - offset / spec.fps, side="right") - 1, 0, len(ticks) - 1)
    rewards = np.bincount(row_ticks, weights=_rewards(log), minlength=len(ticks)).astype(np.float64)
    flags = [np.bincount(row_ticks, weights=column, minlength=len(ticks)) > 0 for column in _ends(log)]
    first = np.append(False, (flags[0] | flags[1])[:-1])
    if "episode" in log.columns:
        codes = np.unique([str(name) for name in log.columns["episode"]], return_inverse=True)[1]
        held = held_rows(codes.astype(np.int64), seconds, ticks)
        first[1:] |= held[1:] != held[:-1]
    return Steps(actions, rewards, first, flags[0], flags[1])


def _from_events(
    log: Log, timeline: Timeline, spec: ImportSpec, keys: KeyTable, offset: float, notes: Counter[str]
) -> Steps:
    if not spec.known_keys:
        raise ValueError(f"{log.where}: key events, but no action of the YAML has `keys` or `pressed`")
    unused = set(log.columns) - {"time", "key", "event"}
    notes.update({f"column {name!r} not used": 1 for name in unused})
    events = read_events(log, keys, spec)
    notes.update(events.notes)
    ticks = timeline.times
    late = sum(time > ticks[-1] + 1 / spec.fps for time, *_ in events.events)
    if late and late == len(events.events):
        raise ValueError(
            f"{log.where}: the first key is at {events.events[0][0]:.3f} s, and the clip lasts {ticks[-1]:.3f} s; "
            "expected seconds after its first frame, or a row with the event `start` at the time of that frame"
        )
    notes.update({"events after the last frame": late} if late else {})
    actions = event_actions(events, ticks + offset / spec.fps, keys, log)
    none = np.zeros(len(ticks), bool)
    return Steps(actions, np.zeros(len(ticks)), reset_ticks(events.resets, ticks), none, none.copy())


def _rewards(log: Log) -> npt.NDArray[np.float64]:
    if "reward" not in log.columns:
        return np.zeros(len(log))
    return np.array([0.0 if value is None else value for value in log.numbers("reward")])


def _ends(log: Log) -> tuple[Flags, Flags]:
    columns = [np.array(log.flags(name), bool) if name in log.columns else None for name in ("terminated", "truncated")]
    terminated, truncated = (np.zeros(len(log), bool) if column is None else column for column in columns)
    return terminated, truncated & ~terminated
