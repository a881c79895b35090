"""A kill at any file event of a checkpoint, shards, episodes, a world or a codec costs nothing (see tests/crash.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def killed(programs: str, ranks: int, points: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.crash", programs, str(ranks), points]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, Any] = json.loads(done.stdout)
    return results


def test_kills_at_three_events_of_a_checkpoint_a_shard_and_an_episode_cost_nothing() -> None:
    """The first, the middle and the last, each before, torn where it can be, and after."""
    for name, result in killed("checkpoint,shards,episodes", 1, "3").items():
        assert not result["failures"], (name, result["failures"])
        assert result["points"] >= 6 and result["events"] > 20, name


def test_a_kill_of_two_ranks_costs_nothing() -> None:
    result = killed("checkpoint", 2, "1")["checkpoint"]
    assert not result["failures"] and result["points"] >= 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("trainer", ["train_vae", "finetune_decoder", "train_unet"])
def test_a_killed_trainer_started_again_makes_the_same_files(trainer: str, ranks: int) -> None:
    """The scripts themselves: weights, averages, optimizer, and the folder that the stage is for, bit for bit."""
    result = killed(trainer, ranks, "5")[trainer]
    print(trainer, ranks, {name: result[name] for name in ("events", "different", "points")})
    assert not result["failures"], result["failures"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("program", "ranks"), [
    ("checkpoint", 1), ("checkpoint", 2), ("shards", 1), ("episodes", 1), ("world", 1), ("codec", 1),
])  # fmt: skip
def test_kills_at_every_event_cost_nothing(program: str, ranks: int) -> None:
    result = killed(program, ranks, "all")[program]
    print(program, ranks, {name: result[name] for name in ("events", "different", "points")})
    assert not result["failures"], result["failures"]
