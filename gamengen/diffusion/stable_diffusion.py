"""A world's UNet from one that was trained on something else: Stable Diffusion 1.4, 1.5 and 2.1, or another world.

Stable Diffusion's own input is the noisy latent alone, its tokens are a text's. What a world adds (context frames in
channels, action tokens, the noise bucket) begins at zero or apart from it, so that the untouched network answers as
Stable Diffusion does, bit for bit, and every new weight gets a gradient in the first step. (diffusers' own way,
`from_pretrained(..., in_channels=..., ignore_mismatched_sizes=True)`, leaves the new weights uninitialised memory.)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError

from gamengen.contract import WorldContract
from gamengen.diffusion.denoiser import POSITION_CHANNELS, check_unet, in_channels
from gamengen.diffusion.growing import lengthen
from gamengen.durable import read_json
from gamengen.hub.repository import component_files, resolve

FOLDERS = ("", "unet")
"""Where a UNet lies: alone, or as a component of a pipeline or world."""
NEW_PARTS = ("conv_in", "encoder_hid_proj", "time_embedding.cond_proj")
"""Modules with weights that Stable Diffusion does not have, or not of this shape."""
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Fine-tune small matrices beside the attention's, and the new parts, instead of everything."""

    lora_rank: int | None = None
    """Rank of the matrices; None trains everything. Needs the extra `lora`."""
    lora_alpha: int | None = None
    """Their scale times the rank; the rank itself when not given."""


def load_unet(
    path_or_id: str | Path,
    contract: WorldContract,
    *,
    revision: str | None = None,
    variant: str | None = None,
    cache_dir: str | None = None,
    seed: int = 0,
) -> UNet2DConditionModel:
    """The UNet of a folder or Hub id, float32, for a world of this contract.

    Args:
        path_or_id: a UNet, a world, or Stable Diffusion. One of a shorter context gets zeros for what is older.
        seed: of the projection of the action tokens, the one new part that does not begin at zero.
    Raises:
        FileNotFoundError: no UNet there. ValueError: one that is neither of this contract nor Stable Diffusion's.
    """
    folder = resolve(path_or_id, revision=revision, files=component_files(FOLDERS, variant), cache_dir=cache_dir)
    found = next((name for name in FOLDERS if _is_unet(folder / name / "config.json")), None)
    if found is None:
        raise FileNotFoundError(
            f"{path_or_id} holds no UNet2DConditionModel: neither config.json nor unet/config.json is there and of one"
        )
    try:
        unet = UNet2DConditionModel.from_pretrained(
            folder / found, variant=variant, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(
            f"{path_or_id}: the weights are damaged, missing or do not fit config.json: {error}"
        ) from error
    if is_text_to_image(unet.config):
        return from_stable_diffusion(unet, contract, seed)
    unet = lengthen(unet, contract)
    check_unet(unet, contract)
    return unet


def is_text_to_image(config: Any) -> bool:
    """Whether a UNet's config is one of Stable Diffusion's: a latent in, a latent out, tokens of a text encoder."""
    same = config["in_channels"] == config["out_channels"]
    return bool(same and config["encoder_hid_dim"] is None and config["time_cond_proj_dim"] is None)


def from_stable_diffusion(source: UNet2DConditionModel, contract: WorldContract, seed: int = 0) -> UNet2DConditionModel:
    """A world's UNet with Stable Diffusion's weights; on the same tokens its first output is Stable Diffusion's.

    Source: GameNGen (arXiv 2408.14837), section 3.2: Stable Diffusion 1.4 without its text, all weights trained.
        Departure: latents are normalised by the shards' figures, not by 0.18215; both give about unit variance.

    Raises:
        ValueError: the latents have another number of channels.
    """
    channels, height, width = contract.codec.array_shape
    if source.config["in_channels"] != channels:
        raise ValueError(
            f"this UNet takes latents of {source.config['in_channels']} channels, the world's have {channels}: encode "
            "the episodes with the autoencoder that belongs to it, such as stabilityai/sd-vae-ft-mse"
        )
    torch.manual_seed(seed)
    unet = UNet2DConditionModel.from_config(source.config, **stable_diffusion_changes(contract))
    kept = {name: value for name, value in source.state_dict().items() if name != "conv_in.weight"}
    absent, unknown = unet.load_state_dict(kept, strict=False)
    assert not unknown and all(name.startswith(NEW_PARTS) for name in absent), (absent, unknown)
    with torch.no_grad():
        unet.conv_in.weight.zero_()
        unet.conv_in.weight[:, :channels] = source.conv_in.weight
        unet.time_embedding.cond_proj.weight.zero_()
    return unet


def stable_diffusion_changes(contract: WorldContract) -> dict[str, Any]:
    """What of Stable Diffusion's config is another one in a world's UNet."""
    num_actions = contract.game.num_actions
    return {
        "sample_size": contract.codec.array_shape[1:],
        "in_channels": in_channels(contract),
        "encoder_hid_dim": num_actions + POSITION_CHANNELS,
        "encoder_hid_dim_type": "text_proj",
        "time_cond_proj_dim": int(contract.settings["num_noise_buckets"]) + num_actions,
    }


def add_lora(unet: UNet2DConditionModel, config: LoraConfig) -> UNet2DConditionModel:
    """Freeze all but the new parts and put trainable matrices beside the attention's, in place. They begin at zero.

    Source: LoRA (arXiv 2106.09685).

    Raises:
        ImportError: peft is not installed. ValueError: a rank below 1.
    """
    if config.lora_rank is None:
        return unet
    if config.lora_rank < 1:
        raise ValueError(f"lora_rank: expected at least 1, got {config.lora_rank}")
    try:
        import peft
    except ImportError as error:
        raise ImportError('--lora_rank needs peft: pip install "gamengen[lora]"') from error
    unet.requires_grad_(False)
    alpha = config.lora_alpha if config.lora_alpha is not None else config.lora_rank
    unet.add_adapter(peft.LoraConfig(r=config.lora_rank, lora_alpha=alpha, target_modules=list(ATTENTION)))
    for name in NEW_PARTS:
        part = unet.get_submodule(name) if name != "encoder_hid_proj" else unet.encoder_hid_proj
        part.requires_grad_(True)
    return unet


def without_lora(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A stock UNet: a copy whose LoRA matrices are added into its weights, or the same one where it has none."""
    if not getattr(unet, "peft_config", None):
        return unet
    merged = copy.deepcopy(unet)
    merged.fuse_lora()
    merged.unload_lora()
    return merged


def _is_unet(file: Path) -> bool:
    return file.is_file() and read_json(file).get("_class_name") == "UNet2DConditionModel"
