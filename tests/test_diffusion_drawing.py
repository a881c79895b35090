"""gamengen.diffusion.drawing: what is hard is found by the loss, kept with the run, and the same on every rank."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save

from gamengen.diffusion.drawing import HARD_FILE, DrawingConfig, prefer_turns
from gamengen.durable import write_bytes
from gamengen.latents.marks import MARKS_FILE
from gamengen.latents.windows import Windows
from gamengen.noise import key_of
from tests.draw_hard import CONFIG, FAR, draw
from tests.ranks import run_on_ranks
from tests.worlds import counted_rows, tiny_game


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
    run_on_ranks(2, "tests.draw_hard", str(tmp_path))
    (tmp_path / "one").mkdir()
    one = draw(tmp_path / "one")
    assert [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)] == [one, one]
    assert torch.equal(load_file(tmp_path / HARD_FILE)["targets"], load_file(tmp_path / "one" / HARD_FILE)["targets"])


def test_marked_frames_and_their_wake_make_up_their_share(tmp_path: Path) -> None:
    rows = counted_rows([50])
    marks = torch.zeros(50, dtype=torch.bool)
    marks[[10, 30]] = True
    write_bytes(tmp_path / MARKS_FILE, save({"rows": marks}))
    windows = Windows(rows, tiny_game(), 4)
    prefer_turns(DrawingConfig(), windows, "nothing is looked for", after=1)
    prefer_turns(DrawingConfig(turn_share=0.5), windows, str(tmp_path), after=1)
    drawn = windows.shuffled(0, range(32)).targets.flatten().tolist()
    assert sorted(drawn[1::2]) == sorted([10, 11, 30, 31] * 4) and len(set(drawn[::2])) == 16
    with pytest.raises(FileNotFoundError, match=r"mark_turns\.py writes it"):
        prefer_turns(DrawingConfig(turn_share=0.5), windows, str(tmp_path / "other"), after=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("turn_share", 1.0),
        ("event_share", 1.0),
        ("hard_share", -0.1),
        ("late_event_share", 1.5),
        ("late_event_share", 0.5),
        ("hard_candidates", 3),
    ],
)
def test_shares_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected .* got {value}"):
        DrawingConfig(**{name: value})  # type: ignore[arg-type]
