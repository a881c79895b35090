"""What training a UNet takes, before anything runs: arithmetic, memory and time, for GPUs of several sizes.

The network is run on PyTorch's meta device: shapes without values. The floating point operations and the values that
the backward pass needs are counted there, not estimated from a table. Time then rests on an assumption, `UTILISATION`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gamengen.contract import WorldContract
from gamengen.diffusion.denoiser import POSITION_CHANNELS, in_channels
from gamengen.training.config import TrainingConfig

UTILISATION = 0.4
"""Share of a GPU's peak that training reaches. Assumed: 0.4 is what well-run training of such networks reports."""
USABLE_MEMORY = 0.9
"""The rest goes to the driver, the allocator's gaps and convolution workspaces."""
AUTOCAST_BYTES = 3.0
"""Bytes of a kept value under bf16 or fp16 autocast, on average: convolutions and attention keep 2, norms keep 4."""
BACKWARD, RECOMPUTED_BACKWARD = 3, 4
"""Forward passes that a training step costs: itself, twice as much backward, and with checkpointing itself again."""


@dataclass(frozen=True)
class Device:
    """A GPU."""

    name: str
    memory_gb: float
    peak: float
    """Floating point operations a second, dense bf16 with float32 sums."""


DEVICES = (
    Device("24 GB (RTX 4090)", 24, 165e12),
    Device("48 GB (L40S)", 48, 362e12),
    Device("80 GB (H100)", 80, 989e12),
)
"""Source: the makers' data sheets, without sparsity."""
NUM_DEVICES = (1, 8)


@dataclass(frozen=True)
class NetworkCost:
    """Of one sample, and of the weights."""

    parameters: int
    trained: int
    forward_flops: float
    """A multiplication and an addition count as two."""
    kept_values: int
    """Values that the forward pass keeps for the backward pass, weights not counted."""
    kept_checkpointed: int
    """The same with gradient checkpointing: what is kept, and the largest block that is computed again."""


def training_cost(unet: UNet2DConditionModel, contract: WorldContract, training: TrainingConfig) -> dict[str, str]:
    """What a run will take, as lines to print: parameters, disk, and memory and time on GPUs of several sizes."""
    trained = sum(p.numel() for p in unet.parameters() if p.requires_grad)
    parameters = sum(p.numel() for p in unet.parameters())
    moments = 0 if training.optimizer == "adafactor" else 2
    stored = parameters * (1 + training.use_ema) + moments * trained
    kept = training.checkpoints_total_limit or 1
    minutes = training.max_train_minutes
    return {
        "parameters": f"{parameters / 1e6:.2f} M, {trained / 1e6:.2f} M of them trained",
        "disk": f"{4 * (stored * (kept + 1) + parameters) / 1e6:.0f} MB for {kept} checkpoints and the world",
        "time": f"{minutes:g} minutes at most" if minutes else f"{training.max_train_steps} steps",
        **plans(network_cost(unet.config, contract, trained), training),
    }


def network_cost(config: Any, contract: WorldContract, trained: int | None = None) -> NetworkCost:
    """Count a UNet's cost from its config alone.

    Args:
        config: of the UNet as it will be trained.
        trained: weights that get a gradient; all when None.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config).train()
        channels, height, width = contract.codec.array_shape
        num_actions, length = contract.game.num_actions, contract.context_length
        inputs: tuple[Tensor, ...] = (torch.empty(1, in_channels(contract), height, width), torch.zeros(1))
        tokens = torch.empty(1, length, num_actions + POSITION_CHANNELS)
        condition = torch.empty(1, int(contract.settings["num_noise_buckets"]) + num_actions)
    keywords = {"encoder_hidden_states": tokens, "timestep_cond": condition}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        unet(*inputs, **keywords)
    whole = kept_values(unet, inputs, keywords, checkpointing=False)
    checkpointed = kept_values(unet, inputs, keywords, checkpointing=True)
    parameters = sum(p.numel() for p in unet.parameters())
    forward = float(counter.get_total_flops())
    return NetworkCost(parameters, trained or parameters, forward, whole, checkpointed)


def kept_values(
    unet: UNet2DConditionModel, inputs: tuple[Tensor, ...], keywords: Mapping[str, Tensor], *, checkpointing: bool
) -> int:
    """Values that a forward pass keeps for the backward pass, on any device; the weights are not counted."""
    weights = {p.untyped_storage()._cdata for p in unet.parameters()}
    largest_block = 0

    def run_block(function: Any, *arguments: Any) -> Any:
        nonlocal largest_block
        kept.extend(value for value in arguments if isinstance(value, Tensor))
        with _kept() as inside:
            output = function(*arguments)
        largest_block = max(largest_block, _count(inside, weights))
        return output

    if checkpointing:
        unet.enable_gradient_checkpointing(gradient_checkpointing_func=run_block)
    try:
        with _kept() as kept:
            output = unet(*inputs, **keywords)
        del output
    finally:
        if checkpointing:
            unet.disable_gradient_checkpointing()
    return _count(kept, weights) + largest_block


def fixed_bytes(cost: NetworkCost, training: TrainingConfig) -> float:
    """Memory that no batch size changes: weights, gradients, optimizer, EMA, the weights' copies under autocast."""
    adam = 2 if training.use_8bit_adam else 8
    optimizer = 0.05 if training.optimizer == "adafactor" else adam  # a row and a column for each matrix
    a_trained_weight = 4 + optimizer + 4 * training.use_ema
    return cost.parameters * (4 + 2 * (training.mixed_precision != "no")) + cost.trained * a_trained_weight


def sample_bytes(cost: NetworkCost, training: TrainingConfig, checkpointing: bool) -> float:
    """Memory of one more sample in a micro-batch."""
    a_value = 4.0 if training.mixed_precision == "no" else AUTOCAST_BYTES
    return a_value * (cost.kept_checkpointed if checkpointing else cost.kept_values)


def plan(cost: NetworkCost, training: TrainingConfig, device: Device, count: int) -> str:
    """The flags with which a run's global batch fits, its memory and its time; or why it does not fit."""
    total = training.train_batch_size * training.gradient_accumulation_steps
    share, memory = total // count, device.memory_gb * 1e9 * USABLE_MEMORY
    sizes = [size for size in range(share, 0, -1) if share % size == 0]
    for checkpointing in (False, True):
        a_sample, fixed = sample_bytes(cost, training, checkpointing), fixed_bytes(cost, training)
        # Fewer than four samples at once leave a GPU idle: computing blocks again costs less.
        fitting = [size for size in sizes if fixed + size * a_sample <= memory and (checkpointing or size >= 4)]
        if not fitting:
            continue
        passes = RECOMPUTED_BACKWARD if checkpointing else BACKWARD
        flops = passes * cost.forward_flops * total * training.max_train_steps
        days = flops / (count * device.peak * UTILISATION) / 86400
        flags = f"--train_batch_size {fitting[0]} --gradient_accumulation_steps {share // fitting[0]}"
        flags += " --gradient_checkpointing" if checkpointing else " --no_gradient_checkpointing"
        return f"{flags}: {(fixed + fitting[0] * a_sample) / 1e9:.1f} GB, {days:.3g} days"
    needed = (fixed_bytes(cost, training) + sample_bytes(cost, training, True)) / 1e9
    return f"does not fit: {needed:.1f} GB at batch 1; try --lora_rank 16, --optimizer adafactor or --no_use_ema"


def plans(cost: NetworkCost, training: TrainingConfig) -> dict[str, str]:
    """A line for every device of `DEVICES`, alone and eight of them."""
    total = training.train_batch_size * training.gradient_accumulation_steps
    lines = {
        "arithmetic": f"{cost.forward_flops / 1e9:.1f} GFLOP forward a sample, global batch {total}",
        "assumed": f"{UTILISATION:.0%} of a GPU's bf16 peak; not measured",
    }
    for device in DEVICES:
        for count in NUM_DEVICES:
            if total % count == 0:
                lines[f"{count} x {device.name}"] = plan(cost, training, device, count)
    return lines


@contextlib.contextmanager
def _kept() -> Iterator[list[Tensor]]:
    """What autograd saves inside the block; held, so that no storage is counted twice under one address."""
    found: list[Tensor] = []

    def pack(value: Tensor) -> Tensor:
        found.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        yield found


def _count(kept: list[Tensor], weights: set[int]) -> int:
    """Values in distinct storages that are no weights."""
    storages = {}
    for value in kept:
        storage = value.untyped_storage()
        if storage._cdata not in weights:
            storages[storage._cdata] = storage.nbytes() // value.element_size()
    return sum(storages.values())
