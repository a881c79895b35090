"""importing/key_events.py: what is down at each tick, against a game that reads its keyboard; taps; clocks."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.importing.actions import NO_ACTION, KeyTable
from gamengen.importing.key_events import event_actions, held_rows, read_events, reset_ticks
from gamengen.importing.logs import Log
from gamengen.importing.spec import ImportSpec
from tests.own_clips import key_events, make_spec

TICKS = np.arange(60) / 15


def actions_of(columns: dict[str, list[object]], spec: ImportSpec, ticks: np.ndarray = TICKS) -> list[int]:
    keys, log = KeyTable(spec), Log(columns, "log")
    return event_actions(read_events(log, keys, spec), ticks, keys, log).tolist()


@pytest.mark.parametrize("jitter", [0.0, 0.4, 0.95])
def test_a_game_that_reads_its_keyboard_once_a_frame(jitter: float) -> None:
    """Pressed up to a frame before; times rounded to a tenth of a millisecond."""
    spec = make_spec()
    wanted = np.random.default_rng(0).integers(0, 5, 60).repeat(np.random.default_rng(1).integers(1, 4, 60))[:60]
    assert actions_of(key_events(wanted, spec, 15, jitter), spec) == wanted.tolist()


def test_a_tap_between_two_frames_is_not_lost() -> None:
    columns = {"time": [0.21, 0.22], "key": ["a", "a"], "event": ["keydown", "keyup"]}
    expected = [0] * 60
    expected[4] = 1  # the first tick after it, 0.267 s
    assert actions_of(columns, make_spec()) == expected


def test_the_start_event_and_the_unit_move_the_clock() -> None:
    spec = make_spec(time_unit="milliseconds")
    columns = {
        "time": [90_000, 100_000, 100_200, 100_400], "key": ["d", None, "d", "a"],
        "event": ["down", "start", "up", "down"],
    }  # fmt: skip
    assert actions_of(columns, spec) == [2] * 3 + [0] * 3 + [1] * 54  # d was held since before the clip


def test_what_changes_nothing_is_counted() -> None:
    spec = make_spec(ignored_keys=("esc",))
    log = Log(
        {
            "time": [0, 1, 1.5, 2, 2.5],
            "key": ["a", "a", "esc", "a", "a"],
            "event": ["down", "down", "down", "up", "up"],
        },
        "log",
    )
    keys = KeyTable(spec)
    events = read_events(log, keys, spec)
    assert [(time, key, down) for time, key, down, _ in events.events] == [(0, "a", True), (2, "a", False)]
    assert events.notes == {"repeated downs": 1, "ups of keys that were not down": 1}
    assert keys.counts.ignored_keys == {"esc": 1}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"time": [0, 1], "key": ["a", "b"], "event": ["down", "down"]}, "row 1: unknown key 'b'"),
        ({"time": [0], "key": ["a"], "event": ["hold"]}, "row 0, event: expected down, up, start or reset, got 'hold'"),
        ({"time": [1, 0], "key": ["a", "a"], "event": ["down", "up"]}, "row 1: time 0 is before the one above"),
        ({"time": [None], "key": ["a"], "event": ["down"]}, "row 0, time: empty"),
        ({"time": [0], "key": [None], "event": ["down"]}, "row 0, key: empty"),
        ({"time": [0, 1], "key": [None, None], "event": ["start", "start"]}, "a second `start`"),
        ({"time": [0, 0.5], "key": ["a", "d"], "event": ["down", "down"]}, r"no action is a \+ d"),
    ],
)
def test_faults_are_named_with_their_row(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        actions_of(columns, make_spec())


def test_sampled_states_hold_until_the_next_and_end() -> None:
    ids = np.array([1, 2, 3])
    found = held_rows(ids, np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.1, 0.19, 0.2, 0.35, 0.39, 0.45]))
    assert found.tolist() == [NO_ACTION, 1, 1, 2, 3, 3, NO_ACTION]


def test_a_new_game_begins_at_the_first_tick_after_its_reset() -> None:
    first = reset_ticks([-1.0, 0.0, 1.0, 1.99, 99.0], np.arange(6) / 2)
    assert np.flatnonzero(first).tolist() == [2, 4]
