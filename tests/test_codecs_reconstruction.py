"""reconstruction: PSNR of the mean error over held-out frames, all pixels and moving ones, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gamengen.codecs.codec import IdentityCodec
from gamengen.codecs.reconstruction import reconstruction
from gamengen.metrics import MAX_PSNR
from tests.codec_data import block_dataset, block_game, small_codec


def test_it_equals_an_independent_computation(tmp_path: Path) -> None:
    episodes = [e for e in block_dataset(tmp_path) if e.split == "validation"]
    codec = small_codec()
    found = reconstruction(codec, tmp_path, "validation")
    squared, moving = [], []
    for episode in episodes:
        decoded = codec.decode(codec.encode(torch.from_numpy(episode.frames))).numpy().astype(float)
        squared.append((decoded - episode.frames) ** 2)
        before = np.concatenate([episode.frames[:1], episode.frames[:-1]]).astype(int)
        moving.append((np.abs(before - episode.frames) > 8).any(-1))
    errors, mask = np.concatenate(squared), np.concatenate(moving)
    assert found.frames == len(errors)
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / errors.mean()), abs=1e-3)
    assert found.psnr_moving == pytest.approx(10 * np.log10(255**2 / errors[mask].mean()), abs=1e-3)


def test_a_long_split_is_sampled_and_a_perfect_codec_is_perfect(tmp_path: Path) -> None:
    block_dataset(tmp_path, (40, 30, 50), ("train", "validation", "validation"))
    found = reconstruction(IdentityCodec(block_game()), tmp_path, "validation", max_frames=32)
    assert found.psnr == MAX_PSNR and 16 <= found.frames <= 48
    with pytest.raises(ValueError, match="split 'test'"):
        reconstruction(IdentityCodec(block_game()), tmp_path, "test")
