"""evaluation.compare: one table and one plot of several evaluations, if they may be compared at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gamengen.evaluation.compare import compare
from gamengen.evaluation.report import write_report
from gamengen.evaluation.rollouts import Rollouts
from gamengen.evaluation.run import evaluate
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
    (line,) = [line for line in lines if line.startswith("rollouts: world/psnr ")]
    values = [float(word) for word in line.replace("[", " ").replace("]", " ").replace(",", " ").split()[2:]]
    assert values[0] == 100.0 and values[3] < 30, "the last mark of each"
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
