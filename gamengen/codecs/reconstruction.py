"""How well a codec gives frames back: the ceiling of every world that is built on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from gamengen.codecs.codec import Codec
from gamengen.dataset.episodes import list_episodes, read_episodes
from gamengen.metrics import SquaredError, moving_pixels

SPAN = 16
"""Frames of one run of neighbours: movement needs neighbours, variety needs many runs."""


@dataclass(frozen=True)
class Reconstruction:
    """Peak signal to noise ratio in dB of the mean squared error over all frames."""

    psnr: float
    psnr_moving: float | None
    """Over pixels that differ from the previous frame; None where nothing moves."""
    frames: int


def reconstruction(codec: Codec, dataset: str | Path, split: str, max_frames: int = 512) -> Reconstruction:
    """Encode and decode evenly spaced runs of frames of a split, as stored latents would be.

    Raises:
        ValueError: the split has no episodes.
    """
    total = sum(info.num_frames for info in list_episodes(dataset, split))
    if total == 0:
        raise ValueError(f"{dataset} has no complete episode in split {split!r}: record more")
    every = max(SPAN, total * SPAN // max_frames)
    whole, moving, count = SquaredError(), SquaredError(), 0
    seen = 0
    for episode in read_episodes(dataset, split):
        for start in range(-seen % every, len(episode.frames), every):
            frames = episode.frames[start : start + SPAN]
            decoded = codec.decode(codec.encode(torch.from_numpy(frames))).cpu().numpy()
            before = episode.frames[np.maximum(np.arange(start, start + len(frames)) - 1, 0)]
            whole.add(frames, decoded)
            moving.add(frames, decoded, moving_pixels(before, frames))
            count += len(frames)
        seen += len(episode.frames)
    assert whole.psnr is not None, "at least one frame was read"
    return Reconstruction(whole.psnr, moving.psnr, count)
