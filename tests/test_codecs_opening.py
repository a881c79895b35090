"""opening: the folder of a codec, a world or any stock autoencoder, each taken for what it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from gamengen.codecs.autoencoder import load_vae, save_codec
from gamengen.codecs.opening import open_codec
from gamengen.contract import ContractMismatch
from gamengen.diffusion.pipeline import GameNGenPipeline
from tests.codec_data import block_game, small_codec
from tests.test_codecs_autoencoder import kl_vae
from tests.worlds import tiny_pipeline

PONG = Path(__file__).parent.parent / "worlds" / "pong"


def test_another_games_codec_is_refused_naming_both(tmp_path: Path) -> None:
    save_codec(small_codec(), tmp_path / "vae")
    with pytest.raises(ContractMismatch, match="Pong") as error:
        open_codec(tmp_path / "vae", block_game("Pong-v5"), "data/pong")
    assert "Block-v0" in str(error.value) and "data/pong" in str(error.value)
    assert open_codec(tmp_path / "vae", block_game(), "data").contract == small_codec().contract


def test_a_stock_autoencoder_is_opened_for_any_game(tmp_path: Path) -> None:
    kl_vae().save_pretrained(tmp_path / "pipeline" / "vae")
    codec = open_codec(tmp_path / "pipeline", block_game(), "data")
    assert codec.contract.patch_size == 1 and codec.contract.array_shape == (3, 8, 8)


def test_more_can_be_recorded_for_a_shipped_world(tmp_path: Path) -> None:
    """Only the world's contract says how many pixels are folded into channels, and what is padded."""
    contract = GameNGenPipeline.from_pretrained(PONG).world_contract.codec
    codec = open_codec(PONG, contract.game, "data/pong")
    assert codec.contract == dataclasses.replace(contract, mean=None, std=None)
    assert codec.contract.patch_size == 8
    frames = torch.randint(0, 256, (1, 210, 160, 3), dtype=torch.uint8)
    assert codec.encode(frames).shape == (1, *contract.array_shape)
    with pytest.raises(ContractMismatch, match="Block-v0") as error:
        open_codec(PONG, block_game(), "data/block")
    assert "ALE/Pong-v5" in str(error.value) and "data/block" in str(error.value)


def test_a_world_with_another_autoencoder_than_it_says_is_refused(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path)
    game = pipeline.world_contract.codec.game
    assert open_codec(tmp_path, game, "data").contract.fingerprint == pipeline.world_contract.codec.fingerprint
    other = load_vae(tmp_path)
    with torch.no_grad():
        next(other.encoder.parameters()).add_(1.0)
    other.save_pretrained(tmp_path / "vae")
    with pytest.raises(ContractMismatch, match="fingerprint"):
        open_codec(tmp_path, game, "data")
