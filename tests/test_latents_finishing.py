"""The finishing touches: done once, done again where something is missing or asked otherwise, never from too little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gamengen.dataset.episodes import list_episodes
from gamengen.dataset.start_states import locate, read_start_states
from gamengen.latents import finishing
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import StartStateConfig, finalise
from tests.codec_data import block_dataset, small_codec

STARTS = StartStateConfig(num_start_states=5, start_state_frames=3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    block_dataset(tmp_path / "data")
    return tmp_path


def test_start_states_are_held_out_and_belong_to_the_folder(root: Path) -> None:
    codec = small_codec()
    encode_dataset(root / "data", codec, root / "latents", progress=False)
    finalise(root / "data", codec, root / "latents", starts=StartStateConfig(num_start_states=5, start_state_frames=3))
    held_out = {info.episode_id for info in list_episodes(root / "data") if info.split != "train"}
    states = read_start_states(root / "latents" / "start_states.parquet")
    assert states and {locate(state.name)[0] for state in states} <= held_out
    assert all(len(state.frames) <= 3 for state in states)


def test_a_finished_folder_is_left_as_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, folder = small_codec(), root / "latents"
    encode_dataset(root / "data", codec, folder, progress=False)
    contract = finalise(root / "data", codec, folder, starts=STARTS)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(finishing, "median_array", lambda arrays: pytest.fail("computed again"))
        assert finalise(root / "data", codec, folder, starts=STARTS) == contract
    # The lock is taken all the same.
    after = {path: path.stat().st_mtime_ns for path in before}
    assert {path.name for path in before if before[path] != after[path]} <= {".lock"}


@pytest.mark.parametrize("broken", ["statistics.pt", "start_states.parquet", "vae/diffusion_pytorch_model.safetensors"])
def test_what_is_damaged_or_missing_is_made_again(root: Path, broken: str) -> None:
    codec, folder = small_codec(), root / "latents"
    encode_dataset(root / "data", codec, folder, progress=False)
    finalise(root / "data", codec, folder, starts=STARTS)
    before = (folder / broken).read_bytes()
    (folder / broken).write_bytes(before[:-3])
    finalise(root / "data", codec, folder, starts=STARTS)
    assert (folder / broken).read_bytes() == before
    (folder / broken).unlink()
    finalise(root / "data", codec, folder, starts=STARTS)
    assert (folder / broken).read_bytes() == before


def test_other_start_states_are_chosen_where_they_are_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, folder, asked = small_codec(), root / "latents", []
    encode_dataset(root / "data", codec, folder, progress=False)
    choose = finishing.start_states

    def seen(episodes: Any, game: Any, frames: int, count: int, horizon: int, seed: int) -> Any:
        asked.append((count, frames, seed))
        return choose(episodes, game, frames, count, horizon, seed)

    monkeypatch.setattr(finishing, "start_states", seen)
    for count, frames, seed in ((5, 3, 0), (5, 2, 0), (5, 2, 1), (5, 2, 1), (5, 3, 0)):
        starts = StartStateConfig(num_start_states=count, start_state_frames=frames)
        finalise(root / "data", codec, folder, starts=starts, seed=seed)
    assert asked == [(5, 3, 0), (5, 2, 0), (5, 2, 1), (5, 3, 0)], "the fourth had nothing to do"
