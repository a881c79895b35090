"""All randomness of training and play, as pure functions of counters.

A sample's noise depends on (seed, optimizer step, index in the global batch) and the name of the draw,
never on rank, worker, micro-batch or what was drawn before. So two ranks equal one, a resumed run equals
an uninterrupted one, and a batched world equals a single one.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import torch
from torch import Tensor

NUM_NOISE_BUCKETS = 10
MAX_NOISE_LEVEL = 0.7
"""Source: GameNGen (arXiv 2408.14837), section 3.2.1: levels up to 0.7 in 10 buckets."""


def key_of(*counters: int | str) -> int:
    """A 63-bit key from integers and names. Stable across processes, platforms and versions."""
    digest = hashlib.blake2b(digest_size=8)
    for counter in counters:
        if isinstance(counter, str):
            data = counter.encode()
            digest.update(b"s" + struct.pack("<q", len(data)) + data)
        else:
            digest.update(b"i" + struct.pack("<q", counter))
    return int.from_bytes(digest.digest(), "little") >> 1


class Noise:
    """Draws for one batch: one key a sample, one stream a name.

    Args:
        keys: B keys, from `key_of`.
        device: where the draws are made. Each device type has its own stream; play always draws on the CPU.
    """

    def __init__(self, keys: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.keys = tuple(keys)
        self.device = torch.device(device)
        self._generator = torch.Generator(device=self.device)

    def normal(self, name: str, shape: Sequence[int]) -> Tensor:
        """Standard normal float32 (B, *shape)."""
        values = torch.empty((len(self.keys), *shape), device=self.device)
        for row, key in enumerate(self.keys):
            values[row].normal_(generator=self._generator.manual_seed(key_of(key, name)))
        return values

    def uniform(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Uniform float32 in [0, 1), (B, *shape)."""
        values = torch.empty((len(self.keys), *shape), device=self.device)
        for row, key in enumerate(self.keys):
            # torch.rand into a fresh tensor: a 0-d view takes no generator-filled slice on every backend.
            self._generator.manual_seed(key_of(key, name))
            values[row] = torch.rand(tuple(shape), generator=self._generator, device=self.device)
        return values

    def __getitem__(self, rows: slice) -> Noise:
        """The draws of some of the samples, as when a batch is split into micro-batches."""
        return Noise(self.keys[rows], self.device)


def training_noise(seed: int, step: int, indices: Sequence[int], device: torch.device | str = "cpu") -> Noise:
    """Noise of optimizer step `step` for samples at `indices` of the global batch."""
    return Noise([key_of("training", seed, step, index) for index in indices], device)


def play_noise(seeds: Sequence[int], frame_numbers: Sequence[int]) -> Noise:
    """Noise for frame n of each world b, from f(seed_b, n); always on the CPU."""
    return Noise([key_of("play", seed, n) for seed, n in zip(seeds, frame_numbers, strict=True)])


def noise_bucket(
    noise_level: Tensor, num_buckets: int = NUM_NOISE_BUCKETS, max_level: float = MAX_NOISE_LEVEL
) -> Tensor:
    """(B,) levels in [0, max_level] -> (B,) int64 bucket ids; all buckets are equally wide."""
    bucket = (noise_level / max_level * num_buckets).floor().long()
    return bucket.clamp(0, num_buckets - 1)


def add_context_noise(context: Tensor, noise_level: Tensor, noise: Tensor) -> Tensor:
    """Corrupt past latents so that the denoiser learns to repair its own mistakes.

    Args:
        context: (B, L, C, h, w) normalised latents, about unit variance.
        noise_level: (B,) standard deviation in latent units, in [0, max_noise_level].
        noise: (B, L, C, h, w) standard normal.
    Returns:
        (B, L, C, h, w), same dtype and device as `context`.
    Source: GameNGen (arXiv 2408.14837), section 3.2.1. Departure: the noise is an argument, so play is reproducible.
    """
    return context + noise_level.to(context.dtype).view(-1, 1, 1, 1, 1) * noise.to(context.dtype)


def drop_context(context: Tensor, dropped: Tensor) -> Tensor:
    """Replace the whole context of chosen samples by the guidance null: zeros in normalised space.

    Args:
        context: (B, L, C, h, w).
        dropped: bool (B,). Actions are never dropped.
    """
    return torch.where(dropped.view(-1, 1, 1, 1, 1), torch.zeros_like(context), context)
