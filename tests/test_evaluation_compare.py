"""evaluation.compare: one table and one plot of several evaluations, if they may be compared at all."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gamengen.evaluation.compare import compare
from gamengen.evaluation.figures import Figure
from gamengen.evaluation.horizons import marks_within
from gamengen.evaluation.report import FORMAT_VERSION, REPORT_FILE, to_json, write_report
from gamengen.evaluation.rollouts import Rollouts
from gamengen.evaluation.run import Measured, evaluate
from gamengen.evaluation.speed import Speed
from gamengen.evaluation.study import Study
from tests.evaluated_worlds import SquareWorld, recordings

pytest.importorskip("matplotlib", reason="the extra `eval` is not installed")


@pytest.fixture
def evaluations(tmp_path: Path) -> list[Path]:
    folders = []
    for name, world in (("true", SquareWorld(2)), ("wrong", SquareWorld(2, wrong=True))):
        study = Study(world=world, held_out=recordings())
        metric = Rollouts(num_starts=2, horizon=4)
        record = {"config": {"split": "test"}, "fingerprints": {"dataset": "abc"}}
        folders.append(tmp_path / name / "eval")
        write_report(folders[-1], study, [metric], evaluate(study, [metric]), {}, record, clip_minutes=0)
    return folders


def test_both_stand_in_one_table_and_one_plot(evaluations: list[Path], tmp_path: Path) -> None:
    text = compare(evaluations, tmp_path / "both")
    lines = text.split("\n")
    assert lines[0].split() == ["figure", "true", "wrong"]
    (line,) = [line for line in lines if line.startswith("rollouts: world/psnr, frame 4 ")]
    values = [float(word) for word in line.replace("[", " ").replace("]", " ").replace(",", " ").split()[4:]]
    assert values[0] == 100.0 and values[3] < 30, "the last mark"
    assert not any("codec" in line or "copy" in line for line in lines)
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"compare.html", "compare.png"}


def test_what_was_measured_on_other_episodes_is_refused(evaluations: list[Path]) -> None:
    file = evaluations[1] / "report.json"
    report = json.loads(file.read_text())
    report["fingerprints"]["dataset"] = "def"
    file.write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r"true and wrong were measured on another dataset"):
        compare(evaluations)
    with pytest.raises(ValueError, match="at least two"):
        compare(evaluations[:1])


def evaluated(folder: Path, horizon: int, *, objects: bool = False, **fingerprints: str) -> Path:
    """A report over rollouts of `horizon` frames; with figures of objects as Pong would have them."""
    study = Study(world=SquareWorld(2), held_out=recordings(), play_world=SquareWorld(1))
    metrics = [Rollouts(num_starts=2, horizon=horizon), Speed(num_starts=1, timed_steps=2)]
    measured = evaluate(study, metrics)
    if objects:
        marks = marks_within(horizon)
        by_mark = Figure([1.0 + mark for mark in marks], [None] * len(marks), [None] * len(marks), 2, 2)
        figures = {
            "world/first_lost": Figure(float(horizon), None, None, 2, 2), "world/lpips": by_mark,
            "world/recall/ball": by_mark, "world/error_to/ball": by_mark,
            "world/fvd16": Figure(3.0, 2.0, 4.0, 2, 2),
        }  # fmt: skip
        measured["rollouts"] = replace(measured["rollouts"], figures={**measured["rollouts"].figures, **figures})
        table = {"world/confusion/LEFT": Figure([0.5, 0.5], [None] * 2, [None] * 2, 2, 2)}
        measured["action_reading"] = Measured(table, [], 1, 1)
    record = {"config": {"split": "test"}, "fingerprints": {"dataset": "abc", **fingerprints}}
    folder.mkdir(parents=True)
    report = {"format_version": FORMAT_VERSION, **record, "metrics": to_json(measured)}
    (folder / REPORT_FILE).write_text(json.dumps(report))
    return folder


def rows(text: str) -> dict[str, list[str]]:
    """Row -> its cells."""
    lines = (re.split(r" {2,}", line) for line in text.split("\n")[1:])
    return {name: cells for name, *cells in lines}


def test_other_lengths_are_compared_where_both_go(tmp_path: Path) -> None:
    both = [evaluated(tmp_path / "a", 20, objects=True), evaluated(tmp_path / "b", 24, objects=True)]
    found = rows(compare(both))
    assert found["rollouts: world/psnr, frame 16"][0].startswith("100.000")
    assert found["rollouts: world/recall/ball, frames 5-16"] == ["17.000", "17.000"]
    assert found["rollouts: world/error_to/ball, frames 1-16"] == ["17.000", "17.000"]
    assert found["rollouts: world/first_lost, over 20 and 24 frames"] == ["-", "-"]
    assert found["rollouts: world/fvd16"] == ["3.000 [2.000, 4.000]"] * 2, "of the first 16 frames of either"
    assert not any("confusion" in name for name in found)
    alike = rows(compare([both[0], evaluated(tmp_path / "c", 20, objects=True)]))
    assert alike["rollouts: world/first_lost"] == ["20.000", "20.000"]
    assert alike["rollouts: world/recall/ball, frames 17-20"] == ["21.000", "21.000"]


def test_figures_of_other_machines_and_networks_do_not_stand_side_by_side(tmp_path: Path) -> None:
    one = evaluated(tmp_path / "a", 4, objects=True, machine="fast", lpips="alex 1", fvd="2")
    same = evaluated(tmp_path / "b", 4, objects=True, machine="fast", lpips="alex 1", fvd="2")
    other = evaluated(tmp_path / "c", 4, objects=True, machine="slow", lpips="vgg 1", fvd="3")
    found = rows(compare([one, same]))
    assert all("-" not in found[f"{name}"] for name in ("speed: world/fps", "rollouts: world/lpips, frame 4"))
    found = rows(compare([one, other]))
    for name in ("speed: world/fps", "speed: world/step_ms"):
        assert found[f"{name}, measured with another machine"] == ["-", "-"]
    for name in ("lpips", "fvd16"):
        assert found[f"rollouts: world/{name}, measured with another network"] == ["-", "-"]
    assert "rollouts: world/psnr, frame 4" in found
