"""Pixels to train an autoencoder on: crops of recorded frames, centred on what moves and on what is rare.

A frame of a game is mostly background that never changes; what is played is a few pixels, and a ball of eight pixels
is nothing to a mean over a frame. So crops are drawn around pixels of the foreground (they differ from the median
frame or from the previous frame), and both the draw and the loss weigh a foreground pixel by how rarely anything of its
colour is there. Of its colour: a ball beside a paddle is where something is often, but no ball.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gamengen.dataset.episodes import EpisodeInfo, list_episodes, read_frames
from gamengen.frames import Padding
from gamengen.metrics import moving_pixels
from gamengen.noise import key_of

MEDIAN_FRAMES = 256
"""Frames, evenly spaced, that the median frame is taken over."""
USUAL_SHARE, LEAST_SHARE = 0.1, 0.01
"""A foreground pixel where its colour is in a tenth of all frames has rarity 1; rarer than 1 % counts as 1 %."""
TONES = 4
"""Of each channel: colours are told apart by their shade among 4 x 4 x 4."""


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Which pixels an autoencoder sees in training."""

    crop_size: int = 32
    """Pixels on a side, a multiple of the autoencoder's factor; 0: whole frames, which AutoencoderKL needs."""
    foreground_share: float = 0.75
    """Share of crops around a foreground pixel; the others are anywhere."""
    max_train_frames: int = 8000
    """Frames kept in memory, evenly spaced over the training split."""


class MovingCrops:
    """A sample of frames in memory, and training batches of them as a pure function of (seed, step, index).

    Args:
        frames: uint8 (N, H, W, 3), padded as the codec pads.
        moving: bool (N, H, W): the pixel differs from the same one in the previous frame.
        align: crops begin at multiples of this, so that the patches of a crop are patches of the frame.
    Raises:
        ValueError: the crop is not a multiple of `align` or larger than a frame; the error names what fits.
    """

    def __init__(self, frames: np.ndarray, moving: np.ndarray, config: CropConfig, align: int) -> None:
        height, width = frames.shape[1:3]
        size = config.crop_size
        if size % align or size > min(height, width) or size < 0:
            largest = min(height, width) // align * align
            raise ValueError(
                f"crop_size {size}: expected a multiple of {align} from {align} to {largest}, or 0 for whole frames"
            )
        self.frames, self.config, self.align = frames, config, align
        step = max(1, len(frames) // MEDIAN_FRAMES)
        self.median = np.median(frames[::step], axis=0).astype(np.uint8)
        """uint8 (H, W, 3): what a still game would show."""
        foreground = np.stack([moving_pixels(self.median, frame) for frame in frames]) | moving
        share = np.zeros((height * width, TONES**3), np.float32)
        for frame, there in zip(frames, foreground.reshape(len(frames), -1), strict=True):
            places = np.flatnonzero(there)
            share[places, _shades(frame, places)] += 1 / len(frames)
        self.rarity: np.ndarray = np.sqrt(USUAL_SHARE / np.maximum(share, LEAST_SHARE))
        """float32 (H * W, 64): weight of a foreground pixel of each shade at each place."""
        self._bits = np.packbits(foreground.reshape(len(frames), -1), axis=1)

    def __len__(self) -> int:
        return len(self.frames)

    def batch(self, seed: int, step: int, indices: Sequence[int]) -> dict[str, Tensor]:
        """`frames` uint8 (B, c, c, 3), or whole, and `weights` float32 (B, c, c): rarity of foreground, else 0."""
        samples = [self._sample(np.random.default_rng(key_of("crop", seed, step, index))) for index in indices]
        return {"frames": torch.stack([s[0] for s in samples]), "weights": torch.stack([s[1] for s in samples])}

    def patches(self, patch_size: int, count: int, foreground_weight: float) -> tuple[Tensor, Tensor]:
        """Patches of evenly spaced frames for `small_vae.start_linear`.

        Returns:
            float (N, 3 * patch_size**2) in [0, 1], in the order of `pixel_unshuffle`; weights float (N,).
        """
        rows = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int))
        pixels = torch.from_numpy(self.frames[rows]).movedim(-1, 1).float() / 255
        weights = torch.from_numpy(np.stack([self._foreground(row) for row in rows])).unsqueeze(1)
        flat = [
            torch.nn.functional.pixel_unshuffle(values, patch_size).movedim(1, -1).flatten(0, 2)
            for values in (pixels, weights)
        ]
        return flat[0], 1 + foreground_weight * flat[1].mean(1)

    def _foreground(self, row: int) -> np.ndarray:
        """float32 (H, W): rarity where there is foreground, 0 elsewhere."""
        height, width = self.frames.shape[1:3]
        places = np.flatnonzero(np.unpackbits(self._bits[row], count=height * width))
        weights = np.zeros(height * width, np.float32)
        weights[places] = self.rarity[places, _shades(self.frames[row], places)]
        return weights.reshape(height, width)

    def _sample(self, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        row = int(random.integers(len(self)))
        weights = self._foreground(row)
        size, (height, width) = self.config.crop_size, weights.shape
        if size == 0:
            return torch.from_numpy(self.frames[row]), torch.from_numpy(weights)
        y, x = int(random.integers(height)), int(random.integers(width))
        points = np.flatnonzero(weights)
        if len(points) and random.random() < self.config.foreground_share:
            cumulative = np.cumsum(weights.reshape(-1)[points])
            chosen = np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")
            y, x = divmod(int(points[min(chosen, len(points) - 1)]), width)
        jitter = random.integers(-size // 4, size // 4 + 1, 2)
        top = self._corner(y + int(jitter[0]), height)
        left = self._corner(x + int(jitter[1]), width)
        area = (slice(top, top + size), slice(left, left + size))
        return torch.from_numpy(self.frames[row][area]), torch.from_numpy(weights[area])

    def _corner(self, centre: int, side: int) -> int:
        corner = round((centre - self.config.crop_size / 2) / self.align) * self.align
        return int(min(max(corner, 0), (side - self.config.crop_size) // self.align * self.align))


def _shades(frame: np.ndarray, places: np.ndarray) -> np.ndarray:
    """int64 (n,): which of the `TONES ** 3` shades a uint8 frame has at flat places, int64 (n,)."""
    tones = frame.reshape(-1, 3)[places].astype(np.int64) * TONES // 256
    shades: np.ndarray = (tones[:, 0] * TONES + tones[:, 1]) * TONES + tones[:, 2]
    return shades


def load_crops(dataset: str | Path, padding: Padding, config: CropConfig, align: int) -> MovingCrops:
    """Read evenly spaced frames of the training split; only these and the ones before them are decoded.

    Raises:
        ValueError: the split is empty.
    """
    infos = list_episodes(dataset, "train")
    total = sum(info.num_frames for info in infos)
    if total == 0:
        raise ValueError(f"{dataset} has no complete episode in its training split: record more")
    step = max(1.0, total / config.max_train_frames)
    wanted: dict[EpisodeInfo, list[int]] = {}
    seen = 0
    for info in infos:
        first, last = int(np.ceil(seen / step)), int(np.ceil((seen + info.num_frames) / step))
        rows = (np.arange(first, last) * step - seen).astype(int).clip(0, info.num_frames - 1)
        if len(rows):  # each frame beside the one before it
            wanted[info] = np.concatenate([np.maximum(rows - 1, 0), rows]).tolist()
        seen += info.num_frames
    kept, moving = [], []
    for pairs in read_frames(dataset, wanted):
        before, frames = np.split(pairs, 2)
        kept.append(_padded(frames, padding))
        moving.append(_padded(moving_pixels(before, frames)[..., None], padding)[..., 0])
    return MovingCrops(np.concatenate(kept), np.concatenate(moving), config, align)


def _padded(values: np.ndarray, padding: Padding) -> np.ndarray:
    top, bottom, left, right = padding
    return np.pad(values, ((0, 0), (top, bottom), (left, right), (0, 0)), mode="edge")
