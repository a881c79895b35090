"""gamengen.benchmarks.chain: what is timed is called as often as it says, what is counted is what lies on the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gamengen.benchmarks.chain import (
    REST,
    Timing,
    dataset_bytes,
    encoding_speed,
    machine,
    play_speed,
    times_in_turn,
    timing,
    timing_of,
)
from gamengen.diffusion.latent_world import LatentWorld
from tests.codec_data import LENGTHS, block_dataset, small_codec
from tests.worlds import random_rows, tiny_pipeline, tiny_starts


def test_a_call_is_made_once_a_repeat_and_once_a_warm_up() -> None:
    calls = []
    result = timing(lambda: calls.append(1), repeats=9, warmup=2)
    assert len(calls) == 11
    assert result.count == 9 and 0 < result.least_ms <= result.median_ms <= result.p95_ms <= result.p99_ms


def test_percentiles_are_times_that_occurred() -> None:
    result = timing_of([float(value) for value in np.random.default_rng(0).permutation(np.arange(1, 201))])
    assert result == Timing(median_ms=100.5, p95_ms=190.0, p99_ms=198.0, least_ms=1.0, count=200)
    assert timing_of([3.0]) == Timing(3.0, 3.0, 3.0, 3.0, 1)
    assert timing_of([1.0, 9.0]).p95_ms == 9.0, "the slowest of few is not left out"
    with pytest.raises(ValueError, match="at least one time"):
        timing_of([])


def test_calls_take_turns() -> None:
    order: list[str] = []
    times = times_in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=3, warmup=1)
    assert order == ["a", "b"] * 4 and [len(values) for values in times.values()] == [3, 3]


def test_play_is_timed_at_every_number_of_steps_and_the_network_runs_that_often() -> None:
    world = LatentWorld(tiny_pipeline())
    world.reset(tiny_starts(1), [0])
    calls = []
    world.pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    result = play_speed(world, steps=(1, 4))
    assert set(result) == {"UNet", "decoder", "noise", REST, "frame, 1 step", "frame, 4 steps"}
    # 40 repeats and 5 of warm-up: the network alone and a frame in turn, then 1 and 4 steps.
    assert len(calls) == 45 * (1 + 1 + 1 + 4)
    assert result[REST].median_ms < result["frame, 1 step"].median_ms
    assert result["frame, 4 steps"].least_ms > result["frame, 1 step"].least_ms


def test_a_world_of_another_noise_level_is_timed_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from scripts import benchmark

    pipeline = tiny_pipeline()
    contract = pipeline.world_contract
    settings = {**contract.settings, "max_noise_level": 0.25}
    pipeline.world_contract = replace(contract, settings=settings)
    monkeypatch.setattr(benchmark, "load_pipeline", lambda run, parts: pipeline)
    monkeypatch.setattr(benchmark, "load_table", lambda folder, split: random_rows(contract))
    modules, loss_fn, batch_fn = benchmark.training_parts(benchmark.PRESETS["tiny"], tmp_path)
    assert modules["unet"] is pipeline.unet and loss_fn.config.max_noise_level == 0.25
    assert len(batch_fn(0, [0, 1])["targets"]) == 2


def test_bytes_a_frame_are_those_of_the_data_files(tmp_path: Path) -> None:
    block_dataset(tmp_path)
    size = sum(file.stat().st_size for file in (tmp_path / "data").iterdir())
    assert np.isclose(dataset_bytes(tmp_path), size / sum(length + 1 for length in LENGTHS))


def test_encoding_speed_is_a_rate_and_the_machine_is_named(tmp_path: Path) -> None:
    block_dataset(tmp_path)
    assert encoding_speed(small_codec(), tmp_path, num_frames=4) > 0
    assert "cores" in machine() and "torch" in machine()
