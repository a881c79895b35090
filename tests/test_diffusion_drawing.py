"""gamengen.diffusion.drawing: what is hard is found by the loss, kept with the run, and the same on every rank."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gamengen.diffusion.drawing import HARD_FILE, DrawingConfig
from gamengen.noise import key_of
from tests.draw_hard import CONFIG, FAR, draw

ROOT = Path(__file__).resolve().parent.parent


def candidates(seed: int) -> set[int]:
    """Target rows that CONFIG measures: windows have the rows of two episodes but their first ones."""
    targets = torch.cat([torch.arange(1, 50), torch.arange(51, 100)])
    chosen = torch.randperm(98, generator=torch.Generator().manual_seed(key_of("hard", seed)))
    return set(targets[chosen[: CONFIG.hard_candidates]].tolist())


def test_the_hardest_tenth_of_the_candidates_makes_up_its_share(tmp_path: Path) -> None:
    drawn = draw(tmp_path, seed=1)
    hard = load_file(tmp_path / HARD_FILE)["targets"].tolist()
    measured = candidates(1)
    assert len(hard) == 6 and set(hard) <= measured
    assert set(FAR) & measured <= set(hard), "far from the scene is hard for a UNet that predicts the scene"
    wake = {row + step for row in hard for step in (0, 1)} & {*range(1, 50), *range(51, 100)}
    assert set(drawn[3::4]) <= wake and len(set(drawn[3::4])) == 10, "a quarter of the windows, or the frame after"
    everything = replace(CONFIG, hard_candidates=1000)
    (tmp_path / "all").mkdir()
    draw(tmp_path / "all", everything)
    assert set(FAR) <= set(load_file(tmp_path / "all" / HARD_FILE)["targets"].tolist())


def test_a_run_that_continues_draws_what_it_drew(tmp_path: Path) -> None:
    before = draw(tmp_path)
    file = tmp_path / HARD_FILE
    written = file.stat().st_mtime_ns
    assert draw(tmp_path) == before and file.stat().st_mtime_ns == written, "nothing is measured again"
    assert draw(tmp_path, replace(CONFIG, hard_share=0.0)) != before


def test_two_ranks_find_what_one_finds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", "tests.draw_hard", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    (tmp_path / "one").mkdir()
    one = draw(tmp_path / "one")
    assert [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)] == [one, one]
    assert torch.equal(load_file(tmp_path / HARD_FILE)["targets"], load_file(tmp_path / "one" / HARD_FILE)["targets"])


@pytest.mark.parametrize(
    ("name", "value"), [("event_share", 1.0), ("hard_share", -0.1), ("late_event_share", 1.5), ("hard_candidates", 3)]
)
def test_shares_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected .* got {value}"):
        DrawingConfig(**{name: value})  # type: ignore[arg-type]
