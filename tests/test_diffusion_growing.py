"""gamengen.diffusion.growing: more layers, or more of the past, the same function, and all that is new learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gamengen.contract import WorldContract
from gamengen.diffusion.denoiser import Denoiser, DenoiserConfig, build_unet, in_channels, world_settings
from gamengen.diffusion.growing import deepen, lengthen
from gamengen.diffusion.scene import Scene
from tests.worlds import LENGTH, flat_scene, tiny_codec_contract, tiny_contract

CONTRACT = tiny_contract()
SHAPE = CONTRACT.codec.array_shape
SMALL = DenoiserConfig(
    block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8, attention_head_dim=2, norm_num_groups=4
)


def random_unet(config: DenoiserConfig, contract: WorldContract = CONTRACT) -> UNet2DConditionModel:
    """No weight is zero or one: what is mixed up changes the output."""
    unet = build_unet(config, contract)
    generator = torch.Generator().manual_seed(1)
    for parameter in unet.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return unet


def output(unet: UNet2DConditionModel, contract: WorldContract = CONTRACT, scene: Scene | None = None) -> Tensor:
    """On the same newest frames and actions, whatever came before them."""
    generator = torch.Generator().manual_seed(2)
    noisy, past = torch.randn((2, *SHAPE), generator=generator), torch.randn((2, 9, *SHAPE), generator=generator)
    actions, length = torch.randint(0, 3, (2, 9), generator=generator), contract.context_length
    return Denoiser(unet, contract, scene)(
        noisy, torch.tensor([10, 999]), past[:, -length:], actions[:, -length:], torch.tensor([0, 7])
    )


@pytest.mark.parametrize("planes", [True, False], ids=["with action planes", "without"])
@pytest.mark.parametrize("prior", [True, False], ids=["with the scene", "without"])
def test_a_longer_context_is_ignored_at_first(prior: bool, planes: bool) -> None:
    settings = world_settings(0.7, "v_prediction", prior, planes)
    short, long = (replace(CONTRACT, context_length=length, settings=settings) for length in (LENGTH, 8))
    config, scene = replace(SMALL, attention_levels=0), flat_scene(CONTRACT) if prior else None
    unet = random_unet(config, short)
    grown = lengthen(unet, long)
    assert grown.config["in_channels"] == in_channels(long) and type(grown) is UNet2DConditionModel
    with torch.no_grad():
        was, now = output(unet, short, scene), output(grown, long, scene)
    assert float(was.std()) > 0.1
    torch.testing.assert_close(now, was, atol=1e-5, rtol=1e-5)
    output(grown, long, scene).square().mean().backward()
    gradient = grown.conv_in.weight.grad
    past = slice(SHAPE[0], SHAPE[0] * (1 + long.context_length))
    assert gradient is not None and bool((gradient.abs().sum((0, 2, 3))[past] > 0).all()), "all of it is learnt from"


def test_a_context_that_is_no_longer_stays() -> None:
    unet = random_unet(SMALL)
    for length in (LENGTH, LENGTH - 1):
        assert lengthen(unet, replace(CONTRACT, context_length=length)) is unet
    other = build_unet(SMALL, tiny_contract(tiny_codec_contract(channels=5)))
    assert lengthen(other, replace(CONTRACT, context_length=9)) is other, "of another codec: the caller refuses it"


@pytest.mark.parametrize("levels", [0, 1, 2], ids="attention in {} levels".format)
@pytest.mark.parametrize(("layers", "deeper"), [(1, 2), (1, 3), (2, 3), (2, 4)])
def test_a_deeper_unet_computes_what_it_computed(layers: int, deeper: int, levels: int) -> None:
    unet = random_unet(replace(SMALL, layers_per_block=layers, attention_levels=levels))
    grown = deepen(unet, deeper)
    assert type(grown) is UNet2DConditionModel and grown.config["layers_per_block"] == deeper
    fresh = build_unet(replace(SMALL, layers_per_block=deeper, attention_levels=levels), CONTRACT)
    assert {n: p.shape for n, p in grown.named_parameters()} == {n: p.shape for n, p in fresh.named_parameters()}
    with torch.no_grad():
        was, now = output(unet), output(grown)
    assert float(was.std()) > 0.1
    torch.testing.assert_close(now, was, atol=1e-5, rtol=1e-5)


def test_every_new_layer_learns() -> None:
    """After one step on their ends, all weights of the new layers get a gradient."""
    grown = deepen(random_unet(SMALL), 2)
    optimizer = torch.optim.SGD(grown.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        output(grown).square().mean().backward()
        optimizer.step()
    still = [n for n, p in grown.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert [n for n in still if "to_k.bias" not in n] == []


def test_the_same_seed_grows_the_same_layers_and_the_caller_draws_on() -> None:
    unet = random_unet(SMALL)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = deepen(unet, 2, seed=3)
    assert torch.equal(torch.rand(3), expected)
    other, third = deepen(unet, 2, seed=3), deepen(unet, 2, seed=4)
    name = "down_blocks.0.resnets.1.conv1.weight"
    assert torch.equal(one.state_dict()[name], other.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], third.state_dict()[name])


@pytest.mark.parametrize("layers", [None, 1])
def test_what_is_deep_enough_stays(layers: int | None) -> None:
    unet = random_unet(SMALL)
    assert deepen(unet, layers) is unet


@pytest.mark.parametrize("layers", [0, 1])
def test_layers_are_not_taken_away(layers: int) -> None:
    unet = random_unet(replace(SMALL, layers_per_block=2))
    with pytest.raises(ValueError, match=f"has 2 layers in a block, {layers} are asked for"):
        deepen(unet, layers)


def test_blocks_of_different_depths_are_refused() -> None:
    unet = random_unet(SMALL)
    unet.register_to_config(layers_per_block=[1, 1])
    with pytest.raises(ValueError, match=r"has \[1, 1\] layers"):
        deepen(unet, 2)
