"""pixel_loss: equal to the formula, per sample, and an autoencoder learns by it."""

from __future__ import annotations

import torch

from gamengen.codecs.autoencoder import decode_arrays, encode_pixels
from gamengen.codecs.pixel_loss import AutoencoderLoss, AutoencoderLossConfig, PixelLossConfig, pixel_loss
from gamengen.codecs.small_vae import VaeConfig, build_vae
from gamengen.frames import to_float
from gamengen.noise import training_noise
from tests.codec_data import block_frames


def test_it_is_the_weighted_sum_that_it_says() -> None:
    config = PixelLossConfig(foreground_weight=5.0, squared_weight=2.0, worst_pixel_weight=0.25)
    pixels, target, weights = torch.randn(3, 3, 6, 7), torch.rand(3, 3, 6, 7), torch.rand(3, 6, 7)
    for n, loss in enumerate(pixel_loss(config, pixels, target, weights)):
        total, worst = 0.0, 0.0
        for c in range(3):
            for y in range(6):
                for x in range(7):
                    error = abs(float(pixels[n, c, y, x] - target[n, c, y, x]))
                    total += (error + 2 * error**2) * (1 + 5 * float(weights[n, y, x]))
                    worst = max(worst, error)
        assert abs(float(loss) - (total / (3 * 6 * 7) + 0.25 * worst)) < 1e-3


def setup(count: int = 6) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    vae = build_vae(VaeConfig(patch_size=4, latent_channels=2, encoder_width=8, decoder_width=8, decoder_blocks=(1,)))
    frames = torch.from_numpy(block_frames(count, height=16, width=16))
    return vae, {"frames": frames, "weights": (frames == 255).all(-1).float()}


def test_samples_do_not_touch_each_other() -> None:
    vae, batch = setup()
    loss_fn = AutoencoderLoss(AutoencoderLossConfig(), 4)
    together = loss_fn({"vae": vae}, batch, training_noise(0, 1, range(6))).per_sample
    for index in range(6):
        part = {name: value[index : index + 1] for name, value in batch.items()}
        alone = loss_fn({"vae": vae}, part, training_noise(0, 1, [index])).per_sample
        assert torch.allclose(alone, together[index], atol=1e-5)


def test_noise_and_penalty_are_on_the_latents() -> None:
    vae, batch = setup()
    config = AutoencoderLossConfig(latent_noise=0.0, latent_penalty=2.0)
    output = AutoencoderLoss(config, 4)({"vae": vae}, batch, training_noise(0, 0, range(6)))
    target = to_float(batch["frames"])
    latents = encode_pixels(vae, target, 4)
    expected = pixel_loss(config, decode_arrays(vae, latents, 4), target, batch["weights"])
    assert torch.allclose(output.per_sample, expected + 2.0 * latents.square().flatten(1).mean(1), atol=1e-5)
    noisy = AutoencoderLoss(AutoencoderLossConfig(latent_noise=1.0, latent_penalty=2.0), 4)
    assert not torch.allclose(noisy({"vae": vae}, batch, training_noise(0, 0, range(6))).per_sample, output.per_sample)


def test_an_autoencoder_learns_by_it() -> None:
    vae, batch = setup()
    loss_fn = AutoencoderLoss(AutoencoderLossConfig(), 4)
    optimizer = torch.optim.AdamW(vae.parameters(), 5e-3)
    first = last = None
    for step in range(150):
        output = loss_fn({"vae": vae}, batch, training_noise(0, step, range(6)))
        optimizer.zero_grad()
        output.per_sample.mean().backward()
        optimizer.step()
        last = {name: float(value) for name, value in output.logs.items()}
        first = first or last
    assert first is not None and last is not None
    assert last["mse_foreground"] < first["mse_foreground"] / 4 and last["mse"] < first["mse"] / 4
