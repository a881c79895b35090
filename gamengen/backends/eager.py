"""The reference backend, PyTorch op by op, and what every backend is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from gamengen.diffusion.pipeline import GameNGenPipeline


class Backend(Protocol):
    """A way to run the two networks of a world; the arithmetic around them is the same for all."""

    @property
    def name(self) -> str: ...

    @property
    def num_threads(self) -> int:
        """CPU threads of one call."""
        ...

    def network(
        self, noisy: Tensor, timesteps: Tensor, context: Tensor, actions: Tensor, noise_bucket: Tensor
    ) -> Tensor:
        """The UNet's own output, as `Denoiser.network` gives it; a tensor of its own."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (N, C, h, w) -> uint8 frames (N, H, W, 3)."""
        ...


@contextmanager
def torch_threads(num_threads: int) -> Iterator[None]:
    """PyTorch's number of CPU threads inside, and what it was before outside. Costs microseconds."""
    before = torch.get_num_threads()
    if num_threads == before:
        yield
        return
    torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class EagerBackend:
    """PyTorch, op by op.

    Args:
        num_threads: None leaves PyTorch's number as whoever calls has set it.
    """

    name = "torch"

    def __init__(self, pipeline: GameNGenPipeline, num_threads: int | None = None) -> None:
        self.pipeline = pipeline
        self._num_threads = num_threads

    @property
    def num_threads(self) -> int:
        return self._num_threads or torch.get_num_threads()

    def network(
        self, noisy: Tensor, timesteps: Tensor, context: Tensor, actions: Tensor, noise_bucket: Tensor
    ) -> Tensor:
        """`Denoiser.network` itself."""
        with torch_threads(self.num_threads):
            return self.pipeline.denoiser.network(noisy, timesteps, context, actions, noise_bucket)

    def decode(self, latents: Tensor) -> Tensor:
        """`GameNGenPipeline.decode_latents` itself."""
        with torch_threads(self.num_threads):
            return self.pipeline.decode_latents(latents)
