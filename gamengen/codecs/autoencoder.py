"""The autoencoder codec: frames to latents and back through a stock diffusers AutoencoderKL or AutoencoderTiny.

Raw latents are what the encoder gives: the posterior mode of an AutoencoderKL, the output of an AutoencoderTiny, with
no scaling factor: the shards' mean and standard deviation normalise.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors import SafetensorError
from torch import Tensor

from gamengen.contract import INDEX_FILE, CodecContract, GameContract, check_compatible, codec_from_dict, to_dict
from gamengen.durable import fsync_folder, fsync_tree, publish_folder, read_json, write_json
from gamengen.frames import Padding, check_size, crop, pad, padding_to_multiple, to_float, to_frames
from gamengen.hub.repository import component_files, resolve
from gamengen.manifest import MANIFEST_FILE, verify_if_listed, write_manifest

CODEC_FILE = "codec.json"
_VAE_FOLDER = "vae"
LATENT_MULTIPLE = 4
"""Of both sides of a latent, by padding: a UNet that halves it twice needs no interpolation. 160x210: 160x224."""
BATCH_FRAMES = 32
"""Frames that `encode` and `decode` put through the network at once."""

Vae: TypeAlias = AutoencoderKL | AutoencoderTiny
_ENCODER_PREFIXES = ("encoder.", "quant_conv.")
_ENCODER_FACTS = (
    "in_channels", "latent_channels", "act_fn", "block_out_channels", "down_block_types", "layers_per_block",
    "norm_num_groups", "mid_block_add_attention", "encoder_block_out_channels", "num_encoder_blocks",
)  # fmt: skip
"""Config entries that change what the encoder computes; the rest concerns the decoder or is only advice."""


def load_vae(path_or_id: str | os.PathLike[str], revision: str | None = None, variant: str | None = None) -> Vae:
    """An autoencoder from a folder or a Hub id, float32; looked for at the top and in `vae/`.

    Args:
        revision: branch, tag or commit on the Hub.
        variant: such as `fp16`, for folders that hold `*.fp16.safetensors` only.
    Raises:
        FileNotFoundError: no autoencoder there.
        ValueError: another class of model; weights that are damaged, or missing.
    """
    where = resolve_vae(path_or_id, revision, variant)
    subfolder, config = _find_config(where)
    kinds: dict[str, type[Vae]] = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
    kind = kinds.get(str(config.get("_class_name")))
    if kind is None:
        raise ValueError(f"{where}: expected an AutoencoderKL or AutoencoderTiny, got {config.get('_class_name')!r}")
    try:
        vae = kind.from_pretrained(
            where, subfolder=subfolder, variant=variant, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
    except (SafetensorError, RuntimeError, OSError) as error:
        raise ValueError(f"{where}: the weights are damaged, missing or do not fit config.json: {error}") from error
    align_weights(vae)
    return cast(Vae, vae)


def align_weights(module: torch.nn.Module) -> None:
    """Move weights to memory of PyTorch's own alignment, in place.

    Loading maps safetensors files, whose tensors start anywhere: the kernels that this leads to give other last bits
    (measured: 4e-7), and a world would play differently after a save and load.
    """
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()


def fingerprint(vae: Vae) -> str:
    """sha256 of the encoder path: names, shapes and float16 values of its weights, and the config that it runs by.

    Equal after a float16 save and load; unchanged by anything that happens to the decoder.
    """
    facts = {name: vae.config[name] for name in _ENCODER_FACTS if name in vae.config}
    if isinstance(vae, AutoencoderTiny):
        facts.pop("block_out_channels", None)  # the decoder's, by another name
    digest = hashlib.sha256(json.dumps([type(vae).__name__, facts], sort_keys=True).encode())
    for name, value in sorted(vae.state_dict().items()):
        if name.startswith(_ENCODER_PREFIXES):
            half = value.detach().to("cpu", torch.float16).contiguous()
            digest.update(f"{name}{tuple(half.shape)}".encode())
            digest.update(half.numpy().tobytes())
    return digest.hexdigest()


def encode_pixels(vae: Vae, pixels: Tensor, patch_size: int) -> Tensor:
    """Differentiable: (N, 3, H, W) in [-1, 1], sides that the factor divides -> raw latents (N, C, h, w), the mode."""
    patches = F.pixel_unshuffle(pixels, patch_size) if patch_size > 1 else pixels
    encoded = vae.encode(patches.to(vae.dtype).contiguous(memory_format=torch.channels_last))
    return cast(Tensor, encoded.latents if isinstance(vae, AutoencoderTiny) else encoded.latent_dist.mode())


def decode_arrays(vae: Vae, arrays: Tensor, patch_size: int) -> Tensor:
    """Differentiable: raw latents (N, C, h, w) of any size -> (N, 3, H, W), nominally in [-1, 1], padding included."""
    patches = cast(Tensor, vae.decode(arrays.to(vae.dtype).contiguous(memory_format=torch.channels_last)).sample)
    return F.pixel_shuffle(patches, patch_size) if patch_size > 1 else patches


class AutoencoderCodec:
    """A Codec over a stock autoencoder.

    Args:
        vae: its memory format becomes channels_last, which is faster on CPUs and on tensor cores.
        game: whose frames it takes.
        patch_size: pixels folded into channels (space to depth) before the autoencoder and unfolded after it.
        padding: pixels repeated from the border: top, bottom, left, right. The least that gives latents with sides
            that are multiples of `LATENT_MULTIPLE` when None.
    Raises:
        ValueError: the autoencoder does not take such patches, or frames of this size cannot be handled; the error
            names the legal sizes.
    """

    def __init__(self, vae: Vae, game: GameContract, patch_size: int = 1, padding: Padding | None = None) -> None:
        self.vae = vae.to(memory_format=torch.channels_last)
        channels = 3 * patch_size**2
        if (vae.config["in_channels"], vae.config["out_channels"]) != (channels, channels):
            raise ValueError(
                f"patch_size {patch_size} needs an autoencoder with {channels} channels in and out, this one has "
                f"{vae.config['in_channels']} and {vae.config['out_channels']}; give the patch_size it was trained with"
            )
        factor = patch_size * _downscale(vae)
        height, width = game.frame_height, game.frame_width
        if padding is None:
            if min(height, width) < factor:
                raise ValueError(
                    f"{game.env_id}: frames of {height}x{width} are smaller than one latent cell; this autoencoder "
                    f"takes frames of at least {factor}x{factor}"
                )
            padding = padding_to_multiple(height, width, factor * LATENT_MULTIPLE)
        height, width = height + padding[0] + padding[1], width + padding[2] + padding[3]
        if height % factor or width % factor:
            raise ValueError(
                f"{game.env_id}: frames of {height}x{width} after padding {padding} cannot be divided by {factor}; "
                f"legal are multiples of {factor}, such as {_nearest(height, factor)}x{_nearest(width, factor)}"
            )
        self.contract = CodecContract(
            game=game,
            kind="autoencoder",
            fingerprint=fingerprint(vae),
            patch_size=patch_size,
            padding=padding,
            array_shape=(vae.config["latent_channels"], height // factor, width // factor),
            array_dtype="float16",
        )

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) -> raw latents float16 (N, C, h, w), on the autoencoder's device; no gradient."""
        game = self.contract.game
        check_size(frames.shape[-3], frames.shape[-2], game.frame_height, game.frame_width, "encode")
        return _in_batches(self._encode, frames, (0, *self.contract.array_shape), torch.float16, self.vae)

    def decode(self, arrays: Tensor) -> Tensor:
        """Raw latents (N, C, h, w), any float dtype -> uint8 (N, H, W, 3), on the autoencoder's device; no gradient."""
        size = (0, self.contract.game.frame_height, self.contract.game.frame_width, 3)
        return _in_batches(lambda part: to_frames(self.decode_float(part)), arrays, size, torch.uint8, self.vae)

    def decode_float(self, arrays: Tensor) -> Tensor:
        """Differentiable: raw latents (N, C, h, w) -> (N, 3, H, W), nominally in [-1, 1], cropped to the frame."""
        if tuple(arrays.shape[1:]) != self.contract.array_shape:
            raise ValueError(f"decode: expected latents (N, {self.contract.array_shape}), got {tuple(arrays.shape)}")
        return crop(decode_arrays(self.vae, arrays, self.contract.patch_size), self.contract.padding)

    def _encode(self, frames: Tensor) -> Tensor:
        pixels = pad(to_float(frames), self.contract.padding)
        return encode_pixels(self.vae, pixels, self.contract.patch_size).to(torch.float16)

    @property
    def factor(self) -> int:
        """Pixels of a frame along one side of a latent cell."""
        return self.contract.patch_size * _downscale(self.vae)


def save_codec(codec: AutoencoderCodec, folder: str | os.PathLike[str], *, replace: bool = True) -> None:
    """Write the autoencoder as diffusers does, and `codec.json` beside it, without any path of this machine.

    Args:
        replace: the folder appears as a whole, in place of an older one. Otherwise the files are added to it.
    Raises:
        ValueError: the encoder was trained after the codec was made of it.
    """
    if fingerprint(codec.vae) != codec.contract.fingerprint:
        raise ValueError(
            f"{folder}: the encoder has changed since this codec was made of it; make a new AutoencoderCodec of its vae"
        )
    folder = Path(folder)
    unfinished = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    codec.vae.save_pretrained(unfinished)
    write_json(unfinished / "config.json", portable_config(read_json(unfinished / "config.json")))
    write_json(unfinished / CODEC_FILE, to_dict(codec.contract))
    write_manifest(unfinished)
    if replace:
        publish_folder(unfinished, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    # codec.json last; after a kill in between the manifest refuses what is there until the next save.
    fsync_tree(unfinished)
    for file in sorted(unfinished.iterdir(), key=lambda path: path.name == CODEC_FILE):
        os.replace(file, folder / file.name)
    fsync_folder(folder)
    unfinished.rmdir()


def portable_config(config: dict[str, Any]) -> dict[str, Any]:
    """A diffusers config without this machine's paths, and without what AutoencoderTiny writes but warns of reading."""
    dropped = ("_name_or_path", "block_out_channels" if config.get("_class_name") == "AutoencoderTiny" else "")
    return {k: v for k, v in config.items() if k not in dropped}


def load_autoencoder_codec(folder: str | os.PathLike[str]) -> AutoencoderCodec:
    """The codec that `save_codec` wrote.

    Raises:
        FileNotFoundError: no codec there. DamagedFile: its files are not those that were written.
        ContractMismatch: the weights are not those that `codec.json` was written for.
    """
    file = Path(folder) / CODEC_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: expected a folder that scripts/train_vae.py wrote")
    verify_if_listed(file.parent)
    contract = codec_from_dict(read_json(file))
    codec = AutoencoderCodec(load_vae(folder), contract.game, contract.patch_size, contract.padding)
    check_compatible(contract, codec.contract, file, f"the weights in {folder}")
    return codec


def resolve_vae(path_or_id: str | os.PathLike[str], revision: str | None, variant: str | None) -> Path:
    """The folder of an autoencoder that a user names, with what is needed of it."""
    wanted = [CODEC_FILE, INDEX_FILE, MANIFEST_FILE, *component_files(("", _VAE_FOLDER), variant)]
    return resolve(path_or_id, revision=revision, files=wanted)


def _find_config(where: Path) -> tuple[str | None, dict[str, Any]]:
    """The subfolder of an autoencoder's config.json, and what it says."""
    for subfolder in (None, _VAE_FOLDER):
        file = where / (subfolder or "") / "config.json"
        if file.is_file():
            return subfolder, read_json(file)
    raise FileNotFoundError(
        f"{where} holds no autoencoder: neither config.json nor vae/config.json is there; expected a folder of "
        "scripts/train_vae.py, one that diffusers wrote, or a Hub id"
    )


def _downscale(vae: Vae) -> int:
    """Pixels of the autoencoder's own input along one side of a latent cell."""
    tiny = isinstance(vae, AutoencoderTiny)
    levels = len(vae.config["encoder_block_out_channels" if tiny else "block_out_channels"])
    if tiny and (
        vae.config["upsampling_scaling_factor"] != 2 or len(vae.config["decoder_block_out_channels"]) != levels
    ):
        raise ValueError("the decoder of this AutoencoderTiny does not give back the size that its encoder took")
    return int(2 ** (levels - 1))


def _nearest(size: int, factor: int) -> int:
    return max(factor, round(size / factor) * factor)


def _in_batches(
    function: Callable[[Tensor], Tensor], values: Tensor, empty: tuple[int, ...], dtype: torch.dtype, vae: Vae
) -> Tensor:
    with torch.inference_mode():
        parts = [function(part.to(vae.device)) for part in values.split(BATCH_FRAMES)] if len(values) else []
    # Outside inference mode: the result is an ordinary tensor that a differentiable function may take.
    return torch.cat(parts) if parts else torch.empty(empty, dtype=dtype, device=vae.device)
