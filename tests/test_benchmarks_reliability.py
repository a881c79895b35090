"""gamengen.benchmarks.reliability: real steps and checkpoints, and shares that add up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gamengen.benchmarks.reliability import ReliabilityCost, measure_reliability
from gamengen.manifest import verify_manifest
from gamengen.training.checkpoints import list_checkpoints
from tests.test_training_run import CONFIG, Breaking, batch_fn, make_line

COST = ReliabilityCost(
    step_ms=102.0, free_step_ms=100.0, checkpoint_ms=510.0, verify_ms=10.0, checkpoint_bytes=5_000_000, interval=500
)


def test_shares_are_of_training_time() -> None:
    assert COST.checkpoint_share == pytest.approx(0.01) and COST.determinism_share == pytest.approx(0.02)
    assert COST.share == pytest.approx(0.03)
    assert replace(COST, step_ms=99.0).share == replace(COST, step_ms=99.0).checkpoint_share, "noise is no gain"
    assert COST.table()["together"] == "3.00 % of training" and "5.0 MB" in COST.table()["a checkpoint"]


def test_it_trains_and_saves_with_and_without_deterministic_algorithms(tmp_path: Path) -> None:
    seen: list[bool] = []

    def watch(step: int) -> bool:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return False

    line = make_line()
    before = line.linear.weight.detach().clone()
    config = replace(CONFIG, checkpointing_steps=500, checkpoints_total_limit=1)
    cost = measure_reliability({"line": line}, Breaking(watch), batch_fn, config, tmp_path, rounds=2)
    assert seen == [True, True, False, True, False]
    assert not torch.equal(line.linear.weight, before)
    (checkpoint,) = list_checkpoints(tmp_path)
    verify_manifest(checkpoint)
    assert cost.interval == 500 and cost.checkpoint_ms > cost.verify_ms > 0 and cost.step_ms > 0
    assert cost.checkpoint_bytes == sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
    with pytest.raises(ValueError, match="rounds: expected at least 1"):
        measure_reliability({"line": line}, Breaking(watch), batch_fn, config, tmp_path, rounds=0)
