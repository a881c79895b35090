"""gamengen.training.tracking: an append-only metrics.jsonl, and the same in TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gamengen.training import tracking
from gamengen.training.config import TrainingConfig
from gamengen.training.tracking import METRICS_FILE, MetricsLog, sum_and_count

QUIET = TrainingConfig(report_to="none")


def lines(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text().splitlines()]


def test_one_line_a_step_and_nothing_is_overwritten(tmp_path: Path) -> None:
    for session in range(2):
        log = MetricsLog(QUIET, tmp_path / "run", enabled=True)
        log.log({"loss": 0.5, "lr": 1e-3}, step=session)
        log.close()
    read = lines(tmp_path / "run")
    assert [line["step"] for line in read] == [0, 1]
    assert all(line["loss"] == 0.5 and line["lr"] == 1e-3 and line["time"] > 1e9 for line in read)


def test_a_line_is_on_the_disk_at_once(tmp_path: Path) -> None:
    log = MetricsLog(QUIET, tmp_path, enabled=True)
    log.log({"loss": 1.0}, step=3)
    assert lines(tmp_path)[0]["step"] == 3


def test_a_line_that_a_kill_has_torn_is_cut_off(tmp_path: Path) -> None:
    for torn in ("", '{"step": 1, "lo'):
        log = MetricsLog(QUIET, tmp_path, enabled=True)
        log.log({"loss": 1.0}, step=0)
        with open(tmp_path / METRICS_FILE, "a") as file:
            file.write(torn)
    log = MetricsLog(QUIET, tmp_path, enabled=True)
    log.log({"loss": 2.0}, step=1)
    assert [line["loss"] for line in lines(tmp_path)] == [1.0, 1.0, 2.0]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    log = MetricsLog(QUIET, tmp_path, enabled=True)
    log.path = Path("/dev/full")
    with pytest.raises(OSError, match="could not write /dev/full: .*No space left"):
        log.log({"loss": 1.0}, step=0)


def test_figures_gone_wrong_leave_lines_that_any_reader_takes(tmp_path: Path) -> None:
    log = MetricsLog(QUIET, tmp_path, enabled=True)
    log.log({"loss": float("nan"), "grad_norm": float("inf"), "lr": 0.1}, step=0)
    assert "NaN" not in (tmp_path / METRICS_FILE).read_text()
    (line,) = lines(tmp_path)
    assert line["loss"] is None and line["grad_norm"] is None and line["lr"] == 0.1


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    log = MetricsLog(QUIET, tmp_path / "run", enabled=False)
    log.log({"loss": 1.0}, step=0)
    log.log_validation({"psnr": 1.0, "rollout": np.zeros((1, 2, 2, 3), np.uint8)}, step=0)
    log.close()
    assert not (tmp_path / "run").exists()


def test_validation_figures_stand_apart_and_images_are_not_written_as_text(tmp_path: Path) -> None:
    log = MetricsLog(QUIET, tmp_path, enabled=True)
    log.log_validation({"psnr": np.float32(20.5), "rollout": np.zeros((1, 2, 2, 3), np.uint8)}, step=4)
    (line,) = lines(tmp_path)
    assert line["val/psnr"] == 20.5 and set(line) == {"step", "time", "val/psnr"}


def test_tensorboard_gets_the_figures_and_the_images(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = MetricsLog(TrainingConfig(tracker_project_name="project"), tmp_path, enabled=True)
    log.log({"loss": 0.25}, step=7)
    frames = np.zeros((1, 4, 6, 3), np.uint8)
    frames[..., 0] = 255
    log.log_validation({"psnr": 21.0, "rollout": frames}, step=7)
    log.close()
    log.close()  # twice is once
    assert len(lines(tmp_path)) == 2
    (folder,) = {path.parent for path in (tmp_path / "logs").rglob("events.out.tfevents.*")}
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    (loss,) = events.Scalars("loss")
    assert (loss.step, loss.value) == (7, 0.25)
    assert events.Scalars("val/psnr")[0].value == 21.0
    (image,) = events.Images("val/rollout")
    assert (image.height, image.width) == (4, 6)


def test_all_trackers_are_those_that_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, object]] = []

    class Fake:
        def __init__(self, name: str, *place: object) -> None:
            told.append(("made", name))

        def start(self) -> None:
            told.append(("start", None))

        def log(self, values: dict[str, float], step: int) -> None:
            told.append(("log", step))

        def finish(self) -> None:
            told.append(("finish", None))

    for tracker in ("TensorBoardTracker", "WandBTracker", "TrackioTracker"):
        monkeypatch.setattr(tracking, tracker, Fake)
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None if name == "wandb" else name)
    log = MetricsLog(TrainingConfig(report_to="all", tracker_project_name="p"), tmp_path, enabled=True)
    log.log({"loss": 1.0}, step=3)
    log.close()
    assert told == [("made", "p"), ("start", None)] * 2 + [("log", 3)] * 2 + [("finish", None)] * 2


def test_what_a_sample_does_not_have_counts_for_nothing() -> None:
    assert sum_and_count(torch.tensor([1.0, torch.nan, 3.0])).tolist() == [4.0, 2.0]
    assert sum_and_count(torch.tensor(2.5)).tolist() == [2.5, 1.0]
