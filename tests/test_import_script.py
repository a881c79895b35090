"""scripts/import_episodes.py: what it prints and refuses; the rest is tested with the library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gamengen.config import parse
from gamengen.dataset.episodes import list_episodes
from gamengen.importing.importer import Imported
from gamengen.importing.offset import OffsetEstimate
from scripts.import_episodes import PRESETS, main
from tests.codec_data import block_frames
from tests.own_clips import write_spec


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    (tmp_path / "clips").mkdir()
    for number in range(2):
        actions = np.random.default_rng(number).integers(0, 4, 50)
        np.savez(tmp_path / f"clips/{number}.npz", frames=block_frames(50, seed=number), actions=actions)
    spec = write_spec(tmp_path)
    return ["--input", f"{tmp_path}/clips", "--spec", str(spec), "--output_dir", f"{tmp_path}/data"]


def run(*flags: str) -> object:
    return main(parse(PRESETS, flags, ""))


def test_it_imports_and_says_what_is_worth_a_look(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported = run(*flags, "--max_episode_frames", "20")
    text = capsys.readouterr().out
    assert isinstance(imported, Imported) and sum(report.steps for report in imported.clips) == 98
    assert "0: 50 frames at 15 a second -> 3 episodes, 49 steps (a row a frame)" in text
    assert "2 clips imported now, 0 before" in text and "never pressed: LEFTJUMP" in text
    assert "action_offset cannot be told" in text and "{'train': 4, 'validation': 1, 'test': 1}" in text
    run(*flags, "--max_episode_frames", "20")
    assert "0 clips imported now, 2 before" in capsys.readouterr().out
    assert len(list_episodes(tmp_path / "data")) == 6


def test_another_description_or_setting_needs_a_new_start(flags: list[str], tmp_path: Path) -> None:
    run(*flags)
    with pytest.raises(ValueError, match="max_episode_frames"):
        run(*flags, "--max_episode_frames", "20")
    write_spec(tmp_path, action_offset=1)
    with pytest.raises(ValueError, match="action_offset"):
        run(*flags)
    imported = run(*flags, "--overwrite", "--max_episode_frames", "20")
    assert isinstance(imported, Imported) and len(imported.new_clips) == 2
    assert run(*flags, "--name", "other") is not None  # beside the first one
    assert {info.stream_id.split("-")[0] for info in list_episodes(tmp_path / "data")} == {"import", "other"}


def test_overwrite_removes_datasets_only(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/thesis.txt").touch()
    with pytest.raises(ValueError, match="is no episode dataset"):
        run(*flags, "--overwrite")
    assert (tmp_path / "data/thesis.txt").exists()


def test_the_estimate_writes_nothing(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estimate = run(*flags, "--estimate_action_offset", "--max_shift", "1")
    assert isinstance(estimate, OffsetEstimate) and estimate.best is None
    assert "cannot be told from these frames" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()
