"""Inputs of the right shapes and of no meaning, to compile, export, warm up, time and compare networks with."""

from __future__ import annotations

import torch
from torch import Tensor

from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.noise import Noise, key_of


def example_inputs(pipeline: GameNGenPipeline, num_worlds: int) -> tuple[Tensor, ...]:
    """What `Backend.network` takes, for B worlds, on the pipeline's device and in its dtype.

    Returns:
        noisy (B, C, h, w), which also serves as a latent; timesteps (B,); context (B, L, C, h, w); actions (B, L);
        noise_bucket (B,). The same at every call.
    """
    contract = pipeline.world_contract
    device, dtype = pipeline.unet.device, pipeline.unet.dtype
    noise = Noise([key_of("example", world) for world in range(num_worlds)])
    shape, length = contract.codec.array_shape, contract.context_length
    actions = torch.arange(num_worlds * length, device=device).view(num_worlds, length) % contract.game.num_actions
    last = torch.full((num_worlds,), pipeline.schedule.num_timesteps - 1, device=device)
    return (
        noise.normal("noisy", shape).to(device, dtype),
        last,
        noise.normal("context", (length, *shape)).to(device, dtype),
        actions,
        torch.zeros_like(last),
    )
