"""importing/logs.py: CSV, JSONL and npz give the same columns; every fault with its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gamengen.importing.logs import MAX_LOG_BYTES, read_log
from tests.own_clips import make_spec


def test_three_kinds_of_file_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffact,reward,terminated\n1,0.5,0\n\n2,,1\n,-1,true\n", encoding="utf-8")
    rows = [
        {"act": 1, "reward": 0.5, "terminated": False},
        {"act": 2, "terminated": True},
        {"reward": -1, "terminated": 1},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    np.savez(tmp_path / "a.npz", act=[1, 2, np.nan], rewards=[0.5, np.nan, -1], terminated=[False, True, True])
    spec = make_spec(columns=(("action", "act"),))
    for name in ("a.csv", "a.jsonl", "a.npz"):
        log = read_log(tmp_path / name, spec)
        assert len(log) == 3 and set(log.columns) == {"action", "reward", "terminated"}
        assert log.numbers("action") == [1, 2, None] and log.numbers("reward") == [0.5, None, -1]
        assert log.flags("terminated") == [False, True, True]
    assert read_log(tmp_path / "a.csv", spec).at(1) == f"{tmp_path / 'a.csv'}, line 4"
    assert read_log(tmp_path / "a.npz", spec).at(1).endswith("row 1")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "a,b\n1,2\n3\n", "line 3: 1 cells, the header has 2"),
        ("a.csv", "a,a\n1,2\n", r"line 1: expected a header of names, each once"),
        ("a.csv", "", "line 1: expected a header"),
        ("a.csv", "act\n", "no rows"),
        ("a.csv", 'a\n"1\n', "not CSV"),
        ("a.csv", "x\n1\n", "the YAML names a column 'act'; this log has: x"),
        ("a.csv", "act,action\n1,2\n", "two columns would be 'action'"),
        ("a.jsonl", '{"act": 1}\n{"act": \n', "line 2: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: expected an object"),
        ("a.jsonl", "[" * 200_000, "line 1: not JSON|line 1: expected"),
        ("a.jsonl", '{"act": "' + "x" * (1 << 20) + '"}', "characters; expected one row"),
    ],
)
def test_faults_are_named_with_their_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name}.*({message})"):
        read_log(tmp_path / name, make_spec(columns=(("action", "act"),)))


def test_columns_of_two_lengths_and_other_bytes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", action=[1, 2], reward=[1.0])
    with pytest.raises(ValueError, match=r"one length, got \{'action': 2, 'reward': 1\}"):
        read_log(tmp_path / "a.npz", make_spec())
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00a")
    with pytest.raises(ValueError, match="expected UTF-8"):
        read_log(tmp_path / "a.csv", make_spec())
    with open(tmp_path / "b.csv", "wb") as file:
        file.truncate(MAX_LOG_BYTES + 1)
    with pytest.raises(ValueError, match="at most"):
        read_log(tmp_path / "b.csv", make_spec())


def test_cells_that_are_no_numbers_or_flags_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("reward,terminated\n1,0\nmany,maybe\n")
    log = read_log(tmp_path / "a.csv", make_spec())
    with pytest.raises(ValueError, match="line 3, reward: expected a number, got 'many'"):
        log.numbers("reward")
    with pytest.raises(ValueError, match="line 3, terminated: expected true or false"):
        log.flags("terminated")
