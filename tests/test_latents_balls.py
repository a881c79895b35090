"""gamengen.latents.balls and scripts/mark_turns.py: the turns of a painted ball are marked, once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from gamengen.codecs.codec import IdentityCodec
from gamengen.codecs.opening import open_codec
from gamengen.contract import ContractMismatch, GameContract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.games.emulator import make_game_contract
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import StartStateConfig, finalise
from gamengen.latents.marks import read_marks
from gamengen.latents.shards import load_table
from gamengen.loading import load_contract
from tests.codec_data import block_dataset, block_episode
from tests.test_scripts import load

SCRIPT = load(Path(__file__).parent.parent / "scripts" / "mark_turns.py")
SHIPPED = str(Path(__file__).parent.parent / "worlds" / "pong")
TURNS = (4, 7, 3)
"""Frame of each episode after which the ball comes back."""


GAME = make_game_contract("ALE/Pong-v5", frame_skip=2)


def pong_dataset(folder: Path, game: GameContract = GAME) -> list[np.ndarray]:
    """Three games in which a ball goes right, turns once, and goes left; the frames that are to be marked."""
    writer = EpisodeWriter(folder, game, "main", rows_per_file=16)
    expected = []
    for number, (turn, split) in enumerate(zip(TURNS, ("train", "train", "validation"), strict=True)):
        frames = np.full((11, 210, 160, 3), (144, 72, 17), np.uint8)
        for t, frame in enumerate(frames):
            x = 80 + 4 * (t if t <= turn else 2 * turn - t)
            frame[60 + 2 * t : 64 + 2 * t, x : x + 2] = 236
        writer.write(dataclasses.replace(block_episode(number, 10, split), frames=frames))
        expected.append(np.arange(11) == turn + 1)
    writer.flush()
    return expected[:2]


def encoded(data: Path, latents: Path) -> Path:
    codec = IdentityCodec(GAME)
    encode_dataset(data, codec, latents)
    finalise(
        data, codec, latents, starts=StartStateConfig(num_start_states=2, start_state_frames=1, start_state_horizon=2)
    )
    return latents


def test_the_turns_of_the_training_split_are_marked_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = pong_dataset(tmp_path / "data")
    latents = encoded(tmp_path / "data", tmp_path / "latents")
    config = dataclasses.replace(
        SCRIPT.PRESETS["default"], dataset=str(tmp_path / "data"), latents=str(latents), num_workers=1
    )
    assert SCRIPT.main(config) == (2, 22)
    marks = read_marks(latents, load_table(latents, "train"))
    assert torch.equal(marks, torch.from_numpy(np.concatenate(expected)))
    capsys.readouterr()
    assert SCRIPT.main(config) == (2, 22) and "marked already" in capsys.readouterr().out


def test_only_the_turns_that_a_world_misses_are_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing in Pong turns a ball in the middle of the court: the shipped world does not foresee it. The second ball
    comes to where the first one has turned, and goes on."""
    game = load_contract(SHIPPED).game
    expected = pong_dataset(tmp_path / "data", game)
    latents, codec = tmp_path / "latents", open_codec(SHIPPED, game, "here")
    encode_dataset(tmp_path / "data", codec, latents)
    starts = StartStateConfig(num_start_states=2, start_state_frames=1, start_state_horizon=2)
    finalise(tmp_path / "data", codec, latents, starts=starts)
    config = dataclasses.replace(
        SCRIPT.PRESETS["default"], dataset=str(tmp_path / "data"), latents=str(latents), num_workers=1
    )
    config = dataclasses.replace(config, missed_by=SHIPPED)
    assert SCRIPT.main(config) == (3, 22)
    assert "of 2 turns the world misses 2" in capsys.readouterr().out
    expected[1][TURNS[0] + 1] = True
    assert torch.equal(read_marks(latents, load_table(latents, "train")), torch.from_numpy(np.concatenate(expected)))
    assert SCRIPT.main(config) == (3, 22) and "marked already" in capsys.readouterr().out
    SCRIPT.main(dataclasses.replace(config, missed_by=None))
    assert "marked already" not in capsys.readouterr().out  # these are other marks


def test_a_world_of_other_latents_is_refused(tmp_path: Path) -> None:
    pong_dataset(tmp_path / "data")
    latents = encoded(tmp_path / "data", tmp_path / "latents")
    config = dataclasses.replace(
        SCRIPT.PRESETS["default"], dataset=str(tmp_path / "data"), latents=str(latents), missed_by=SHIPPED
    )
    with pytest.raises(ContractMismatch, match="codec.kind: 'identity'"):
        SCRIPT.main(config)


def test_a_game_without_a_ball_is_refused(tmp_path: Path) -> None:
    block_dataset(tmp_path / "data")
    config = dataclasses.replace(SCRIPT.PRESETS["default"], dataset=str(tmp_path / "data"), latents="none")
    with pytest.raises(ValueError, match="Block-v0"):
        SCRIPT.main(config)
