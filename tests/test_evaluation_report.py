"""evaluation.report: JSON that reads back, a page, plots, and what was left out is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from gamengen.evaluation.card import card_figures
from gamengen.evaluation.report import read_report, write_report
from gamengen.evaluation.run import Measured, evaluate
from gamengen.evaluation.study import Study, step_settings
from gamengen.evaluation.suite import Networks, Scale, suite
from gamengen.hub.figures import facts_of
from tests.evaluated_worlds import SquareWorld, recordings

pytest.importorskip("matplotlib", reason="the extra `eval` is not installed")


def test_everything_is_written_and_reads_back(tmp_path: Path) -> None:
    world = SquareWorld(2, noise=60, with_steps=True)
    study = Study(world=world, held_out=recordings())
    scale = Scale(num_starts=4, num_rollouts=2, horizon=6, steps=(1, 4), rollout_steps=(1,))
    metrics = [m for m in suite(world, scale, Networks()) if m.name in ("next_frame", "rollouts", "speed")]
    measured = evaluate(study, metrics)
    report = write_report(tmp_path, study, metrics, measured, {"world": "square"}, {"seed": 0})
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.html", "plots"}
    read, figures = read_report(tmp_path)
    assert read == report and figures["next_frame"] == dict(measured["next_frame"].figures)
    assert report["metrics"]["speed"]["missing"] == "no world with one slot was given"
    text = (tmp_path / "report.html").read_text()
    assert "Not measured: no world with one slot" in text and text.count("data:image/webp") >= 4
    assert (tmp_path / "plots" / "rollout_psnr.png").is_file()
    # What goes into a model card: single figures with their intervals.
    facts = {fact.name: fact for fact in facts_of(card_figures(report))}
    found = measured["next_frame"].figures["4 steps/psnr"]
    assert (
        facts["next_frame / 4 steps / psnr"].value == found.value and facts["next_frame / 4 steps / psnr"].samples == 4
    )
    assert not any("curve" in name for name in facts)


def test_what_the_time_did_not_suffice_for_is_said(tmp_path: Path) -> None:
    world = SquareWorld(2, with_steps=True)
    study = Study(world=world, held_out=recordings())
    metrics = [m for m in suite(world, Scale(num_starts=4), Networks()) if m.name == "next_frame"]
    done = evaluate(study, metrics)["next_frame"]
    bounded = {"next_frame": Measured(done.figures, done.samples, 2, 9, seconds_over=12.4)}
    write_report(tmp_path, study, metrics, bounded, {}, {}, clip_minutes=0)
    text = (tmp_path / "report.html").read_text()
    assert "after 2 of 9 parts, so it stands on 4 starts" in text and "data:image/webp" not in text
    assert "Next frame: ended 12 s after its share of the time" in text
    assert step_settings(world, (1,))[0].label == "1 step"


def test_a_folder_without_a_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"report.json does not exist"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text('{"format_version": 0}')
    with pytest.raises(ValueError, match="format version 1"):
        read_report(tmp_path)
