"""What the tests of codec, shards and decoder share: a dataset of a few short episodes, and a small codec for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gamengen.codecs.autoencoder import AutoencoderCodec
from gamengen.codecs.small_vae import VaeConfig, build_vae
from gamengen.contract import Action, GameContract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import Episode

LENGTHS = (5, 9, 1, 7, 12, 3, 6, 8)
"""Actions of the episodes of a dataset."""
SPLITS = ("train", "train", "train", "validation", "train", "train", "test", "train")


def block_game(env_id: str = "Block-v0", height: int = 20, width: int = 28) -> GameContract:
    """A game of a block that moves over a gradient."""
    actions = tuple(Action(meaning=meaning) for meaning in ("NOOP", "LEFT", "RIGHT"))
    return GameContract(env_id=env_id, frame_height=height, frame_width=width, fps=15.0, actions=actions)


def block_frames(count: int, seed: int = 0, height: int = 20, width: int = 28) -> np.ndarray:
    """uint8 (count, H, W, 3): a white block of 2x2 that jumps about."""
    random = np.random.default_rng(seed)
    background = np.add.outer(np.arange(height) * 4, np.arange(width) * 3).astype(np.uint8)
    frames = np.repeat(np.repeat(background[None, :, :, None], 3, axis=3), count, axis=0)
    frames[..., 0] += 20
    for frame in frames:
        y, x = random.integers(height - 2), random.integers(width - 2)
        frame[y : y + 2, x : x + 2] = 255
    return frames


def block_episode(number: int, length: int, split: str, stream: str = "main") -> Episode:
    """Frames and actions that no other episode of the number has."""
    random = np.random.default_rng(number)
    return Episode(
        frames=block_frames(length + 1, seed=number), actions=random.integers(0, 3, length),
        rewards=random.normal(size=length).astype(np.float32), terminated=number % 2 == 0, truncated=number % 2 == 1,
        episode_id=f"{stream}-{number:06d}", stream_id=stream, index_in_stream=number, seed=number, noop_starts=0,
        split=split, agent="test",
    )  # fmt: skip


def block_dataset(folder: Path, lengths: Sequence[int] = LENGTHS, splits: Sequence[str] = SPLITS) -> list[Episode]:
    """Write a dataset of one stream; its episodes."""
    writer = EpisodeWriter(folder, block_game(), "main", rows_per_file=16)
    episodes = [block_episode(n, length, split) for n, (length, split) in enumerate(zip(lengths, splits, strict=True))]
    for episode in episodes:
        writer.write(episode)
    writer.flush()
    return episodes


def small_codec(seed: int = 0, game: GameContract | None = None) -> AutoencoderCodec:
    """Untrained; factor 4, two latent channels."""
    torch.manual_seed(seed)
    config = VaeConfig(
        patch_size=4, latent_channels=2, encoder_width=8, decoder_width=8, encoder_blocks=(1,), decoder_blocks=(1,)
    )
    return AutoencoderCodec(build_vae(config).eval(), game or block_game(), 4)
