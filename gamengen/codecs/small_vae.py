"""Small autoencoders to train from scratch: stock diffusers classes, sized for play on a CPU, begun as a linear codec.

The cheap shape is an AutoencoderTiny of one resolution over large patches (`patch_size` 8): all of its work is done at
the size of the latent, where wide layers cost little, and nothing at the size of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor

from gamengen.codecs.autoencoder import Vae

DETAIL_SCALE = 0.5
"""Of components beyond the latent's, in the encoder's hidden channels, in their standard deviations."""
FRESH_SCALE = 0.02
"""Of the fresh weights that stay in the outer layers beside the linear codec: enough to break symmetry."""
SMALLEST_STD = 0.02
"""Components that vary less, in pixel units of [0, 1] summed over a patch, are not scaled up further."""


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """A small autoencoder to train from scratch."""

    autoencoder: Literal["tiny", "kl"] = "tiny"
    """tiny: no normalisation, so it trains on crops; cheap to decode. kl: normalises, so it trains on whole frames."""
    patch_size: int = 8
    """Pixels folded into channels before the network: its work is done at 1 / patch_size of the frame's size."""
    latent_channels: int = 8
    encoder_width: int = 64
    """tiny: channels of the encoder."""
    decoder_width: int = 64
    """tiny: channels of the decoder, which is what play waits for."""
    encoder_blocks: tuple[int, ...] = (1,)
    """tiny: residual blocks at each resolution, full size first; each further entry halves the resolution."""
    decoder_blocks: tuple[int, ...] = (3,)
    """tiny: as encoder_blocks, smallest resolution first."""
    block_out_channels: tuple[int, ...] = (16, 32, 64)
    """kl: channels at each resolution, full size first."""
    layers_per_block: int = 1
    """kl: residual layers at each resolution."""

    linear_start: bool = True
    """tiny of one resolution: begin as the best linear codec of the data (principal components of the patches)."""

    def __post_init__(self) -> None:
        if len(self.encoder_blocks) != len(self.decoder_blocks):
            raise ValueError(
                f"encoder_blocks {self.encoder_blocks} and decoder_blocks {self.decoder_blocks} differ in length: "
                "the decoder undoes each halving of the encoder"
            )
        if self.linear_start and self.autoencoder == "tiny" and len(self.encoder_blocks) != 1:
            raise ValueError(
                f"linear_start needs a tiny autoencoder of one resolution, got encoder_blocks {self.encoder_blocks}; "
                "give one entry and a larger patch_size, or --no_linear_start"
            )
        if self.patch_size < 1 or self.latent_channels < 1:
            raise ValueError(
                f"patch_size and latent_channels must be positive, got {self.patch_size} and {self.latent_channels}"
            )


def build_vae(config: VaeConfig) -> Vae:
    """A stock autoencoder with fresh weights; make an `AutoencoderCodec` of it with the same patch_size."""
    channels = 3 * config.patch_size**2
    if config.autoencoder == "tiny":
        return AutoencoderTiny(
            in_channels=channels,
            out_channels=channels,
            latent_channels=config.latent_channels,
            encoder_block_out_channels=(config.encoder_width,) * len(config.encoder_blocks),
            decoder_block_out_channels=(config.decoder_width,) * len(config.decoder_blocks),
            num_encoder_blocks=config.encoder_blocks,
            num_decoder_blocks=config.decoder_blocks,
        )
    levels = len(config.block_out_channels)
    groups = max(n for n in range(1, 33) if all(c % n == 0 for c in config.block_out_channels))
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        latent_channels=config.latent_channels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=groups,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        force_upcast=False,
    )


@torch.no_grad()
def start_linear(vae: AutoencoderTiny, patches: Tensor, weights: Tensor) -> None:
    """Make a fresh AutoencoderTiny of one resolution compute the best linear codec of its data.

    Each latent channel is a principal component of the patches, in standard deviations. Hidden channels carry a
    component as a pair of its positive and negative part, which a ReLU lets through; residual branches begin at zero.
    The rest of the width begins on the next components. So training starts from a sharp picture and spends its minutes
    on what linear maps cannot do, instead of on the background.

    Args:
        patches: float (N, 3 * patch_size**2) in [0, 1], in the order of `pixel_unshuffle`.
        weights: float (N,), how much each patch counts.
    Raises:
        ValueError: the autoencoder has several resolutions, or is narrower than two channels a latent channel.
    """
    latent, encoder, decoder = vae.config["latent_channels"], vae.encoder.layers, vae.decoder.layers
    width_in, width_out = encoder[0].out_channels, decoder[-1].in_channels
    if len(vae.config["encoder_block_out_channels"]) != 1 or min(width_in, width_out) < 2 * latent:
        raise ValueError(
            f"a linear start needs one resolution and widths of at least {2 * latent}, two a latent channel; got "
            f"{len(vae.config['encoder_block_out_channels'])} resolutions and widths {width_in} and {width_out}"
        )
    mean, basis, std = _components(patches, weights)
    for block in [*encoder, *decoder]:
        if hasattr(block, "conv") and hasattr(block, "fuse"):
            torch.nn.init.zeros_(block.conv[-1].weight)
            torch.nn.init.zeros_(block.conv[-1].bias)
    for layer in (encoder[0], encoder[-1], decoder[-1]):
        layer.weight.mul_(FRESH_SCALE)
        torch.nn.init.zeros_(layer.bias)
    decoder[0].weight[: 2 * latent] = 0.0
    torch.nn.init.zeros_(decoder[0].bias)
    for component in range(min(width_in // 2, len(basis))):
        scale = 1.0 if component < latent else DETAIL_SCALE
        direction = basis[component] * scale / std[component].clamp_min(SMALLEST_STD)
        for sign, channel in ((1, 2 * component), (-1, 2 * component + 1)):
            encoder[0].weight[channel, :, 1, 1] += sign * direction
            encoder[0].bias[channel] = -sign * (mean @ direction)
    for component in range(latent):
        for sign, channel in ((1, 2 * component), (-1, 2 * component + 1)):
            encoder[-1].weight[component, channel, 1, 1] += sign
            decoder[0].weight[channel, component, 1, 1] += sign
            decoder[-1].weight[:, channel, 1, 1] += sign * basis[component] * std[component].clamp_min(SMALLEST_STD)
    for channel in range(2 * latent, min(width_out, 2 * len(basis))):
        component = latent + (channel - 2 * latent) // 2
        if component < len(basis):
            sign = 1 if channel % 2 == 0 else -1
            decoder[-1].weight[:, channel, 1, 1] += sign * basis[component] * std[component]
    decoder[-1].bias.copy_(mean)


def _components(patches: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted mean (K,), principal directions (K, K) as rows from strongest to weakest, standard deviations (K,)."""
    patches, share = patches.double(), (weights / weights.sum()).double().unsqueeze(1)
    mean = (patches * share).sum(0)
    centred = patches - mean
    _, vectors = torch.linalg.eigh((centred * share).T @ centred)
    basis = vectors.flip(1).T
    std = (centred @ basis.T).square().mean(0).sqrt()
    return mean.float(), basis.float().contiguous(), std.float()
