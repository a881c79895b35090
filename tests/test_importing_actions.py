"""importing/actions.py: values, names, lists of keys and key columns become the same ids; unknown keys do not pass."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.importing.actions import NO_ACTION, KeyTable, kind_of, row_actions
from gamengen.importing.logs import Log
from gamengen.importing.spec import SourceAction
from tests.own_clips import make_spec

IDS = [0, 1, 2, 3, 4, 0]
KEYS = ["", "a", "d", "space", "a+space", ""]


@pytest.mark.parametrize(
    "columns",
    [
        {"action": IDS},
        {"action": ["0", "LEFT", "2", "JUMP", 4.0, "NOOP"]},
        {"keys": KEYS},
        {"keys": [key.split("+") if key else [] for key in KEYS]},
        {"keys": [f'["{key}"]'.replace("+", '", "') if key else "[]" for key in KEYS]},
        {name: [int(name in key.split("+")) for key in KEYS] for name in ("a", "d", "space")},
        {name: [str(name in key.split("+")) for key in KEYS] for name in ("a", "d", "space")},
    ],
)
def test_every_way_of_writing_gives_the_ids(columns: dict[str, list[object]]) -> None:
    spec = make_spec()
    assert row_actions(Log(columns, "log"), KeyTable(spec), spec).tolist() == IDS


def test_values_of_the_log_stand_for_actions_and_empty_cells_for_none() -> None:
    actions = (SourceAction(name="NOOP", value="-1"), SourceAction(name="GO", value="forward"))
    spec = make_spec(actions=actions)
    found = row_actions(Log({"action": [-1, "forward", None, -1.0]}, "log"), KeyTable(spec), spec)
    assert found.tolist() == [0, 1, NO_ACTION, 0]
    for wrong in ("0", "GO", 1, float("inf")):
        with pytest.raises(ValueError, match=r"row 1: action .* expected one of: -1 NOOP, forward GO"):
            row_actions(Log({"action": [-1, wrong]}, "log"), KeyTable(spec), spec)


def test_unknown_keys_are_errors_ignored_ones_are_counted_aliases_count_as_the_key() -> None:
    spec = make_spec(ignored_keys=("esc",), aliases=(("A", "a"),))
    keys = KeyTable(spec)
    log = Log({"keys": ["A", "esc", "esc+d"]}, "log", lines=[2, 3, 4])
    assert row_actions(log, keys, spec).tolist() == [1, 0, 2]
    assert keys.counts.ignored_keys == {"esc": 2}
    with pytest.raises(ValueError, match=r"log, line 3: unknown key 'spice'; did you mean 'space'\?.*ignored_keys"):
        row_actions(Log({"keys": ["a", "spice"]}, "log", lines=[2, 3]), keys, spec)


def test_combinations_without_an_action_are_errors_or_the_largest_part() -> None:
    log = Log({"keys": ["a+d", "a+d+space", "d+space"]}, "log")
    spec = make_spec()
    with pytest.raises(ValueError, match=r"row 0: no action is a \+ d; add one with `pressed: \[a, d\]`"):
        row_actions(log, KeyTable(spec), spec)
    spec = make_spec(other_combinations="largest")
    keys = KeyTable(spec)
    assert row_actions(log, keys, spec).tolist() == [1, 4, 2]  # of two equal parts the first of the table
    assert keys.counts.other_combinations == {"a + d": 1, "a + d + space": 1, "d + space": 1}


def test_a_log_must_say_what_was_done_in_one_way() -> None:
    spec = make_spec()
    for columns in ({"reward": [1.0]}, {"action": [0], "keys": [""]}, {"action": [0], "a": [0]}):
        with pytest.raises(ValueError, match="expected one of a column `action`, a column `keys`, a column a key"):
            row_actions(Log(columns, "log"), KeyTable(spec), spec)
    with pytest.raises(ValueError, match="a column a key, but none for 'space'"):
        row_actions(Log({"a": [0], "d": [0]}, "log"), KeyTable(spec), spec)
    with pytest.raises(ValueError, match="row 0, keys: expected keys such as"):
        row_actions(Log({"keys": [3]}, "log"), KeyTable(spec), spec)
    assert kind_of(Log({"time": [0], "key": ["a"], "event": ["down"]}, "log")) == "key events"
    assert kind_of(Log({"time": [0], "action": [0]}, "log")) == "timed rows"
    assert np.all(row_actions(Log({"keys": [None]}, "log.jsonl"), KeyTable(spec), spec) == NO_ACTION)
