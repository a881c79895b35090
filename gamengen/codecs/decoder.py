"""Fine-tuning of the decoder alone: `decoder` and `post_quant_conv`, nothing that makes latents.

Latents that were stored, and worlds that were trained on them, stay valid only while the encoder path does; that is
checked by its fingerprint, not hoped for. Leaving `quant_conv` trainable, as public reproductions do, moves the latent
space under them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from gamengen.codecs.autoencoder import Vae, decode_arrays, encode_pixels, fingerprint
from gamengen.codecs.pixel_loss import PixelLossConfig, crop_logs, pixel_loss
from gamengen.frames import to_float
from gamengen.noise import Noise
from gamengen.training.loop import Batch, LossOutput, Modules

TRAINED_PARTS = ("decoder", "post_quant_conv")


@dataclass(frozen=True, kw_only=True)
class DecoderLossConfig(PixelLossConfig):
    """The fine-tuning loss.

    Source: GameNGen (arXiv 2408.14837), section 3.2.2: mean squared error on the pixels. Departure: an absolute term
    and weights on what moves.
    """

    latent_noise: float = 0.1
    """Noise on the latents in standard deviations of each channel: what a world predicts is never exact."""


class DecoderLoss:
    """`loss_fn` of decoder fine-tuning, over batches of `MovingCrops`, encoded by the frozen encoder.

    Args:
        latent_std: float (C,), standard deviation of the raw latents.
    """

    def __init__(self, config: DecoderLossConfig, patch_size: int, latent_std: Tensor) -> None:
        self.config, self.patch_size, self.latent_std = config, patch_size, latent_std

    def __call__(self, modules: Modules, batch: Batch, noise: Noise) -> LossOutput:
        vae = cast(Vae, modules["vae"])
        target = to_float(batch["frames"])
        with torch.no_grad():
            latents = encode_pixels(vae, target, self.patch_size)
            std = self.latent_std.to(latents).view(-1, 1, 1)
            # Half of the samples stay exact, so that exact latents are decoded as sharply as before.
            amount = (noise.uniform("noisy") < 0.5).float().view(-1, 1, 1, 1) * self.config.latent_noise
            latents = latents + amount * std * noise.normal("latent", latents.shape[1:])
        pixels = decode_arrays(vae, latents, self.patch_size)
        error = pixel_loss(self.config, pixels, target, batch["weights"])
        return LossOutput(error, crop_logs(pixels, target, batch["weights"]))


def freeze_encoder(vae: Vae) -> str:
    """Let only the decoder's side be trained.

    Returns:
        The fingerprint that `check_encoder` wants to find again.
    """
    for parameter in vae.parameters():
        parameter.requires_grad_(False)
    for name in TRAINED_PARTS:
        part = getattr(vae, name, None)
        if part is not None:
            for parameter in part.parameters():
                parameter.requires_grad_(True)
    return fingerprint(vae)


def check_encoder(vae: Vae, before: str) -> None:
    """Raise RuntimeError when the encoder path is not the one that `freeze_encoder` saw."""
    after = fingerprint(vae)
    if after != before:
        raise RuntimeError(f"the encoder changed while the decoder was fine-tuned: {before} before, {after} after")
