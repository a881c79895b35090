"""From Stable Diffusion: the untouched network answers as it did, every new part learns, LoRA leaves the rest alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor

from gamengen.codecs.autoencoder import load_vae
from gamengen.codecs.opening import open_codec
from gamengen.diffusion.denoiser import Denoiser, DenoiserConfig, build_unet, check_unet, world_settings
from gamengen.diffusion.stable_diffusion import (
    NEW_PARTS,
    LoraConfig,
    add_lora,
    from_stable_diffusion,
    is_text_to_image,
    load_unet,
    without_lora,
)
from tests.codec_data import block_frames, block_game
from tests.worlds import tiny_codec_contract, tiny_contract, tiny_unet

BLOCKS = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
V1: dict[str, Any] = {**BLOCKS, "attention_head_dim": 8, "cross_attention_dim": 768, "sample_size": 64}
"""Of Stable Diffusion 1.4 and 1.5: 859.5 M parameters."""
V2: dict[str, Any] = {
    **BLOCKS, "attention_head_dim": (5, 10, 20, 20), "cross_attention_dim": 1024, "use_linear_projection": True,
    "sample_size": 96, "upcast_attention": True,
}  # fmt: skip
"""Of Stable Diffusion 2.1: 865.9 M parameters."""
SMALL = {"block_out_channels": (16, 32, 32, 32), "layers_per_block": 1, "norm_num_groups": 8}
SIZES = {
    "1.4": {**V1, **SMALL, "cross_attention_dim": 24},
    "2.1": {**V2, **SMALL, "cross_attention_dim": 40, "attention_head_dim": (2, 4, 4, 4)},
}


def contract(size: int = 8, length: int = 2, planes: bool = False) -> Any:
    made = tiny_contract(tiny_codec_contract(channels=4, size=size), length=length)
    return replace(made, settings=world_settings(0.7, "v_prediction", scene_prior=False, action_planes=planes))


def stable_diffusion(name: str = "1.4") -> UNet2DConditionModel:
    torch.manual_seed(3)
    return UNet2DConditionModel(**SIZES[name]).eval()


def arguments(world: Any, batch: int = 2) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    shape, length = world.codec.array_shape, world.context_length
    return (
        torch.randn((batch, *shape), generator=generator), torch.tensor([999, 250])[:batch],
        torch.randn((batch, length, *shape), generator=generator),
        torch.randint(0, 3, (batch, length), generator=generator), torch.tensor([4, 0])[:batch],
    )  # fmt: skip


def check_first_output(source: UNet2DConditionModel, unet: UNet2DConditionModel, world: Any, batch: int = 2) -> None:
    denoiser = Denoiser(unet, world)
    given = arguments(world, batch)
    with torch.no_grad():
        tokens, _ = denoiser.condition(given[3], given[4])
        noisy = given[0].contiguous(memory_format=torch.channels_last)
        expected = source(noisy, given[1], encoder_hidden_states=unet.encoder_hid_proj(tokens)).sample
        assert torch.equal(denoiser(*given), expected)
    assert torch.isfinite(expected).all() and expected.std() > 0


def check_gradients(unet: UNet2DConditionModel, world: Any, batch: int = 2) -> None:
    unet.train().zero_grad()
    Denoiser(unet, world)(*arguments(world, batch)).square().mean().backward()
    for name, parameter in unet.named_parameters():
        if name.startswith(NEW_PARTS):
            assert parameter.grad is not None and parameter.grad.abs().amax() > 0, name
    channels = world.codec.array_shape[0]
    context = unet.conv_in.weight.grad.abs().amax((0, 2, 3))[channels : channels * (world.context_length + 1)]
    assert (context > 0).all(), "a frame of the context without one"
    _, _, _, actions, buckets = arguments(world, batch)
    told = {*buckets.tolist(), *(int(world.settings["num_noise_buckets"]) + actions[:, -1]).tolist()}
    reached = unet.time_embedding.cond_proj.weight.grad.abs().amax(0).nonzero().flatten().tolist()
    assert set(reached) == told, "each sample's noise bucket and newest action, and no other"


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("planes", [False, True])
def test_the_untouched_network_is_stable_diffusion_and_every_new_part_learns(name: str, planes: bool) -> None:
    source, world = stable_diffusion(name), contract(planes=planes)
    before = {key: value.clone() for key, value in source.state_dict().items()}
    unet = from_stable_diffusion(source, world).eval()
    assert unet.config["in_channels"] == 4 * 3 + 3 * 2 * planes
    check_first_output(source, unet, world)
    check_gradients(unet, world)
    assert all(torch.equal(value, before[key]) for key, value in source.state_dict().items())


def test_the_new_parts_are_the_same_in_every_process() -> None:
    one, two = (from_stable_diffusion(stable_diffusion(), contract(), seed=5) for _ in range(2))
    other = from_stable_diffusion(stable_diffusion(), contract(), seed=6)
    assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())
    different = {k for k, v in one.state_dict().items() if not torch.equal(v, other.state_dict()[k])}
    assert different and all(name.startswith("encoder_hid_proj") for name in different)


def test_it_is_loaded_from_a_pipeline_s_folder_and_saved_as_a_stock_model(tmp_path: Path) -> None:
    source, world = stable_diffusion(), contract()
    source.save_pretrained(tmp_path / "sd/unet")
    unet = load_unet(tmp_path / "sd", world).eval()
    check_first_output(source, unet, world)
    unet.save_pretrained(tmp_path / "again")
    again = load_unet(tmp_path / "again", world)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in unet.state_dict().items())
    source.half().save_pretrained(tmp_path / "half", variant="fp16")
    half = load_unet(tmp_path / "half", world, variant="fp16")
    assert half.dtype == torch.float32
    with pytest.raises(ValueError, match="missing"):
        load_unet(tmp_path / "half", world)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no UNet2DConditionModel"):
        load_unet(tmp_path, contract())
    two = tiny_contract()
    with pytest.raises(ValueError, match="latents of 4 channels, the world's have 2"):
        from_stable_diffusion(stable_diffusion(), two)
    tiny_unet(two).save_pretrained(tmp_path / "world/unet")
    assert not is_text_to_image(load_unet(tmp_path / "world", two).config)
    with pytest.raises(ValueError, match="in_channels is"):
        load_unet(tmp_path / "world", tiny_contract(length=2))
    longer = tiny_contract(length=5)
    check_unet(load_unet(tmp_path / "world", longer), longer)


@pytest.mark.parametrize("kind", ["sd-vae-ft-mse", "taesd"])
def test_its_autoencoders_are_codecs(tmp_path: Path, kind: str) -> None:
    """stabilityai/sd-vae-ft-mse and madebyollin/taesd, as they lie on the Hub, with fewer channels."""
    torch.manual_seed(0)
    if kind == "taesd":
        vae: Any = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    else:
        types = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
        vae = AutoencoderKL(**types, block_out_channels=(8, 8, 16, 16), layers_per_block=2, norm_num_groups=8)
    vae.save_pretrained(tmp_path)
    codec = open_codec(tmp_path, block_game(height=240, width=320), "here")
    assert codec.contract.array_shape == (4, 32, 40) and codec.contract.padding == (8, 8, 0, 0)
    frames = torch.from_numpy(block_frames(1, height=240, width=320))
    latents = codec.encode(frames)
    assert latents.shape == (1, 4, 32, 40) and codec.decode(latents).shape == frames.shape
    assert (
        codec.contract.fingerprint == open_codec(tmp_path, block_game(height=240, width=320), "").contract.fingerprint
    )
    assert type(load_vae(tmp_path)) is type(vae)


class TestLora:
    """peft is an extra."""

    def setup_method(self) -> None:
        pytest.importorskip("peft")

    def test_it_changes_nothing_at_first_and_trains_little(self) -> None:
        source, world = stable_diffusion(), contract()
        unet = add_lora(from_stable_diffusion(source, world), LoraConfig(lora_rank=2)).eval()
        check_first_output(source, unet, world)
        trained = {name for name, parameter in unet.named_parameters() if parameter.requires_grad}
        assert all("lora_" in name or name.startswith(NEW_PARTS) for name in trained)
        assert {name.split(".")[-4] for name in trained if "lora_A" in name} == {"to_q", "to_k", "to_v", "0"}
        assert all(any(name.startswith(part) for name in trained) for part in NEW_PARTS)
        check_gradients(unet, world)

    def test_merged_it_is_a_stock_network_with_the_same_answers(self, tmp_path: Path) -> None:
        world = contract()
        unet = add_lora(from_stable_diffusion(stable_diffusion(), world), LoraConfig(lora_rank=2, lora_alpha=4))
        torch.manual_seed(0)
        for name, parameter in unet.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        unet.eval()
        merged = without_lora(unet)
        plain = from_stable_diffusion(stable_diffusion(), world)
        assert set(merged.state_dict()) == set(plain.state_dict()) and set(unet.state_dict()) > set()
        assert any("lora_" in name for name in unet.state_dict()), "the trained network was changed"
        with torch.no_grad():
            given = arguments(world)
            expected, got = (Denoiser(network, world)(*given) for network in (unet, merged))
        assert torch.allclose(expected, got, atol=1e-4) and not torch.allclose(
            expected, Denoiser(plain.eval(), world)(*given), atol=1e-2
        )
        merged.save_pretrained(tmp_path)
        assert torch.equal(load_unet(tmp_path, world).conv_in.weight, merged.conv_in.weight)
        assert without_lora(plain) is plain

    def test_a_rank_of_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="lora_rank: expected at least 1"):
            add_lora(stable_diffusion(), LoraConfig(lora_rank=0))


def test_a_unet_from_scratch_is_not_taken_for_stable_diffusion() -> None:
    made = build_unet(DenoiserConfig(block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=2), contract())
    assert not is_text_to_image(made.config) and is_text_to_image(stable_diffusion().config)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("shape", "millions"), [(V1, 859.5), (V2, 865.9)], ids=["1.4", "2.1"])
def test_the_true_size(tmp_path: Path, shape: dict[str, Any], millions: float) -> None:
    """GameNGen's 64 frames of 320x256, random weights on disk: 3.4 GB there and about 11 GB in memory."""
    torch.manual_seed(0)
    source = UNet2DConditionModel(**shape).eval()
    assert sum(p.numel() for p in source.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)
    source.save_pretrained(tmp_path / "unet")
    del source  # one more in memory than needed is 3.4 GB
    world = replace(contract(length=64), codec=replace(contract().codec, array_shape=(4, 32, 40)))
    unet = load_unet(tmp_path, world).eval()
    assert unet.config["in_channels"] == 260
    source = UNet2DConditionModel.from_pretrained(tmp_path / "unet", low_cpu_mem_usage=False).eval()
    for parameter in source.parameters():  # in a file's memory, at any alignment, linear layers give other last bits
        parameter.data = parameter.data.clone()
    check_first_output(source, unet, world, batch=1)
    del source
    unet.enable_gradient_checkpointing()
    check_gradients(unet, world, batch=1)
