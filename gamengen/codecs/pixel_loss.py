"""The pixel loss of autoencoders: pre-training of the whole, and what the decoder's fine-tuning shares with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from gamengen.codecs.autoencoder import Vae, decode_arrays, encode_pixels
from gamengen.frames import to_float
from gamengen.noise import Noise
from gamengen.training.loop import Batch, LossOutput, Modules


@dataclass(frozen=True, kw_only=True)
class PixelLossConfig:
    """How far a reconstruction is from its frame."""

    foreground_weight: float = 10.0
    """Added to the weight 1 of a pixel: this times its rarity, where it is foreground (see `moving_crops`)."""
    absolute_weight: float = 1.0
    """Of the absolute error; 0 leaves the squared one, as published."""
    squared_weight: float = 3.0
    """Of the squared error beside the absolute one. The absolute error alone leaves a small ball out for long: until
    its place is known exactly, the background is the best guess."""
    worst_pixel_weight: float = 0.0
    """Of the largest error of each sample. Source: delta-IRIS (arXiv 2406.19320)."""


def pixel_loss(config: PixelLossConfig, pixels: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted error of each sample, float (B,).

    Args:
        pixels, target: (B, 3, H, W), nominally in [-1, 1].
        weights: float (B, H, W), rarity of foreground pixels, 0 elsewhere.
    """
    error = (pixels.float() - target).abs()
    each = config.absolute_weight * error + config.squared_weight * error.square()
    loss = (each * (1 + config.foreground_weight * weights.unsqueeze(1))).flatten(1).mean(1)
    if config.worst_pixel_weight > 0:
        loss = loss + config.worst_pixel_weight * error.flatten(1).amax(1)
    return loss


@dataclass(frozen=True, kw_only=True)
class AutoencoderLossConfig(PixelLossConfig):
    """The pre-training loss. There is no KL term: a little noise on the latents keeps them smooth."""

    latent_noise: float = 0.05
    """Standard deviation of noise on the latents before the decoder, in raw units."""
    latent_penalty: float = 1e-3
    """Of the mean square of the latents, against growing out of reach of that noise."""


class AutoencoderLoss:
    """`loss_fn` of pre-training, over batches of `MovingCrops`."""

    def __init__(self, config: AutoencoderLossConfig, patch_size: int) -> None:
        self.config, self.patch_size = config, patch_size

    def __call__(self, modules: Modules, batch: Batch, noise: Noise) -> LossOutput:
        vae = cast(Vae, modules["vae"])
        target = to_float(batch["frames"])
        latents = encode_pixels(vae, target, self.patch_size)
        noisy = latents + self.config.latent_noise * noise.normal("latent", latents.shape[1:])
        pixels = decode_arrays(vae, noisy, self.patch_size)
        error = pixel_loss(self.config, pixels, target, batch["weights"])
        penalty = latents.float().square().flatten(1).mean(1)
        logs = crop_logs(pixels, target, batch["weights"])
        logs["latent_std"] = latents.detach().float().std()
        return LossOutput(error + self.config.latent_penalty * penalty, logs)


@torch.no_grad()
def crop_logs(pixels: Tensor, target: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Mean squared error of all pixels and of foreground pixels of a batch, in units of [0, 1]."""
    squared = ((pixels.float() - target) / 2).square().mean(1)
    foreground = (weights > 0).float()
    return {"mse": squared.mean(), "mse_foreground": (squared * foreground).sum() / foreground.sum().clamp_min(1)}
