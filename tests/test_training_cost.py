"""Costs are counted, not guessed: against published figures, a real forward pass, and the rules of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel

from gamengen.diffusion.denoiser import POSITION_CHANNELS, in_channels
from gamengen.diffusion.stable_diffusion import stable_diffusion_changes
from gamengen.training.cost import (
    DEVICES,
    NetworkCost,
    fixed_bytes,
    kept_values,
    network_cost,
    plan,
    plans,
    sample_bytes,
)
from gamengen.training.loop import TrainingConfig
from tests.test_diffusion_stable_diffusion import V1, contract
from tests.worlds import tiny_contract, tiny_unet

PAPER = TrainingConfig(
    max_train_steps=700_000, train_batch_size=16, gradient_accumulation_steps=8, optimizer="adafactor", use_ema=False,
    mixed_precision="bf16",
)  # fmt: skip
SMALL = NetworkCost(10, 10, 1e9, 100, 50)


@pytest.fixture(scope="module")
def paper() -> NetworkCost:
    world = replace(contract(length=64), codec=replace(contract().codec, array_shape=(4, 32, 40)))
    with torch.device("meta"):
        config = UNet2DConditionModel(**V1).config
        unet = UNet2DConditionModel.from_config(config, **stable_diffusion_changes(world))
    return network_cost(unet.config, world)


def test_the_paper_s_network_costs_what_others_counted(paper: NetworkCost) -> None:
    """228 GFLOP at 40x32 with 64 frames, counted elsewhere with PyTorch's counter on real tensors."""
    assert paper.parameters / 1e6 == pytest.approx(860.3, abs=1.0)
    assert paper.forward_flops == pytest.approx(228e9, rel=0.02)


def test_shapes_without_values_keep_as_much_as_a_real_forward_pass() -> None:
    world = tiny_contract()
    unet = tiny_unet(world).train()
    cost = network_cost(unet.config, world)
    channels, height, width = world.codec.array_shape
    inputs = (torch.randn(1, in_channels(world), height, width), torch.zeros(1))
    keywords = {
        "encoder_hidden_states": torch.randn(1, world.context_length, 3 + POSITION_CHANNELS),
        "timestep_cond": torch.randn(1, 13),
    }
    real = kept_values(unet, inputs, keywords, checkpointing=False)
    assert cost.kept_values == pytest.approx(real, rel=0.05)
    assert 0 < cost.kept_checkpointed < cost.kept_values and cost.forward_flops > 0
    assert not any(getattr(m, "gradient_checkpointing", False) for m in unet.modules())


def test_every_part_of_the_memory_is_counted() -> None:
    adam = TrainingConfig()
    assert fixed_bytes(SMALL, adam) == 10 * (4 + 4 + 8 + 4)
    assert fixed_bytes(SMALL, replace(adam, use_ema=False)) == 10 * (4 + 4 + 8)
    assert fixed_bytes(SMALL, replace(adam, mixed_precision="bf16")) == 10 * (4 + 2 + 4 + 8 + 4)
    assert fixed_bytes(SMALL, replace(adam, optimizer="adafactor")) < 10 * 12.5
    assert fixed_bytes(replace(SMALL, trained=1), adam) == 10 * 4 + (4 + 8 + 4)
    assert sample_bytes(SMALL, adam, False) == 400 and sample_bytes(SMALL, adam, True) == 200
    assert sample_bytes(SMALL, replace(adam, mixed_precision="fp16"), False) < 400


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
@pytest.mark.parametrize("count", [1, 8])
def test_the_paper_s_batch_fits_every_device(paper: NetworkCost, device, count: int) -> None:
    words = plan(paper, PAPER, device, count).replace(":", "").split()
    size, accumulation = int(words[1]), int(words[3])
    assert size * accumulation * count == 128
    assert float(words[words.index("GB,") - 1]) <= 0.9 * device.memory_gb
    passes = 4 if "--gradient_checkpointing" in words else 3
    days = passes * 228e9 * 128 * 700_000 / (count * device.peak * 0.4) / 86400
    assert float(words[-2]) == pytest.approx(days, rel=0.03)


def test_what_does_not_fit_says_what_would_help(paper: NetworkCost) -> None:
    adam = replace(PAPER, optimizer="adamw", use_ema=True)
    assert "does not fit" in plan(paper, adam, replace(DEVICES[0], memory_gb=12), 1)
    assert "--lora_rank" in plan(paper, adam, replace(DEVICES[0], memory_gb=12), 1)


def test_a_batch_that_cannot_be_shared_is_left_out() -> None:
    lines = plans(SMALL, TrainingConfig(train_batch_size=4))
    assert any(name.startswith("1 x 24 GB") for name in lines) and not any(name.startswith("8 x") for name in lines)
