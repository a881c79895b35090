"""gamengen.benchmarks.play: every combination once, what is slower by a known factor is reported so, rows are JSON."""

from __future__ import annotations

import json
import runpy
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gamengen.benchmarks.play import MIN_FRAMES, REFERENCE, measure_play, play_table
from gamengen.world import Option, WorldStep
from tests.worlds import tiny_contract, tiny_pipeline, tiny_starts


class SleepingWorld:
    """A world whose step takes a known time: milliseconds a denoising step, by backend."""

    contract = tiny_contract()

    def __init__(self, step_ms: float, num_worlds: int) -> None:
        self.step_ms, self.num_worlds, self.frames, self.closed = step_ms, num_worlds, 0, False
        self.options = {"num_inference_steps": Option(4, "")}

    def set_option(self, name: str, value: int) -> None:
        self.options[name] = Option(value, "")

    def reset(self, starts: Any, seeds: Any, slots: Any = None) -> None:
        assert len(starts) == len(seeds) == self.num_worlds

    def step(self, actions: np.ndarray) -> WorldStep:
        assert len(actions) == self.num_worlds and actions.max() < 3
        self.frames += 1
        time.sleep(self.step_ms * self.options["num_inference_steps"].value / 1e3)
        return WorldStep(np.zeros((self.num_worlds, 1, 1, 3), np.uint8))

    def close(self) -> None:
        self.closed = True


def test_every_combination_is_measured_against_the_reference() -> None:
    made: list[tuple[str, int | None, SleepingWorld]] = []

    def load(backend: str, num_threads: int | None, num_worlds: int) -> Any:
        world = SleepingWorld({"torch": 6.0, "onnx": 2.0}[backend], num_worlds)
        made.append((backend, num_threads, world))
        return world

    settings: dict[str, Any] = {"threads": (1, 2), "worlds": (1, 3), "steps": (1, 2), "seconds": 0.0}
    speeds = measure_play(load, tiny_starts(2), backends=("onnx", "torch"), **settings)
    assert len(speeds) == len({speed.way for speed in speeds}) == 16
    assert len(made) == 8 and all(world.closed for *_, world in made)
    for speed in speeds:
        steps = speed.way.num_inference_steps
        assert speed.frame.count == MIN_FRAMES
        least = {"torch": 6.0, "onnx": 2.0}[speed.way.backend] * steps
        assert least <= speed.frame.least_ms <= speed.frame.median_ms <= speed.frame.p95_ms <= speed.frame.p99_ms
        reference = next(other for other in speeds if other.way == replace(speed.way, backend=REFERENCE))
        assert speed.speedup == reference.frame.median_ms / speed.frame.median_ms
        row = json.loads(json.dumps(speed.row()))
        assert row["frames_per_second"] == pytest.approx(row["fps"] * speed.way.num_worlds, rel=0.01)
    lines = play_table(speeds)
    assert len(lines) == 17 and len({len(line) for line in lines}) == 1, "columns are straight"
    assert lines[1].split()[:4] == ["onnx", "1", "1", "1"]


def test_without_the_reference_there_is_no_ratio() -> None:
    speeds = measure_play(
        lambda *_: SleepingWorld(0.1, 1), tiny_starts(1), backends=("onnx",), threads=(None,), worlds=(1,), steps=(1,),
        seconds=0.05,
    )  # fmt: skip
    assert [speed.speedup for speed in speeds] == [None] and speeds[0].row()["speedup"] is None
    assert speeds[0].frame.count > MIN_FRAMES, "it goes on for the time that was given"
    assert "free" in play_table(speeds)[1]


def test_the_script_plays_a_world_folder_and_writes_its_rows(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "world")
    script = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "benchmark.py"))
    config = replace(
        script["PRESETS"]["tiny"], run=str(tmp_path), play=True, play_backends=("torch",), play_threads=(1,),
        play_steps=(1,), device="cpu",
    )  # fmt: skip
    lines = script["main"](config)
    record = json.loads((tmp_path / "benchmark_play.json").read_text())
    assert [row["num_worlds"] for row in record["rows"]] == [1, 2] and len(lines) == 3
    assert all(row["fps"] > 0 and row["speedup"] == 1.0 and row["num_frames"] == MIN_FRAMES for row in record["rows"])
    assert record["machine"] and record["config"]["play_backends"] == ["torch"]
