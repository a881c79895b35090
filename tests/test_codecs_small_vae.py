"""small_vae: configs give stock models of the promised shape, and a linear start computes principal components."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny

from gamengen.codecs.autoencoder import AutoencoderCodec, decode_arrays, encode_pixels
from gamengen.codecs.small_vae import VaeConfig, build_vae, start_linear
from tests.codec_data import block_frames, block_game

LINEAR = VaeConfig(patch_size=4, latent_channels=3, encoder_width=16, decoder_width=6, decoder_blocks=(2,))


@pytest.mark.parametrize(
    ("config", "kind", "shape"),
    [
        (VaeConfig(), AutoencoderTiny, (8, 28, 20)),
        (VaeConfig(patch_size=2, encoder_blocks=(0, 1, 1), decoder_blocks=(1, 1, 0), linear_start=False),
         AutoencoderTiny, (8, 28, 20)),
        (VaeConfig(autoencoder="kl", patch_size=2, block_out_channels=(8, 12), latent_channels=4), AutoencoderKL,
         (4, 56, 40)),
    ],
)  # fmt: skip
def test_a_config_gives_a_stock_autoencoder_at_native_size(config: VaeConfig, kind: type, shape: object) -> None:
    vae = build_vae(config)
    assert type(vae) is kind
    codec = AutoencoderCodec(vae, block_game(height=210, width=160), config.patch_size)
    assert codec.contract.array_shape == shape
    frames = torch.from_numpy(block_frames(1, height=210, width=160))
    assert codec.decode(codec.encode(frames)).shape == frames.shape


def patches_of(pixels: torch.Tensor, size: int) -> torch.Tensor:
    return F.pixel_unshuffle(pixels, size).movedim(1, -1).flatten(0, 2)


def test_a_linear_start_is_the_best_linear_codec() -> None:
    torch.manual_seed(0)
    vae = build_vae(LINEAR)
    pixels = torch.from_numpy(block_frames(40, height=24, width=32)).movedim(-1, 1).float() / 255
    patches = patches_of(pixels, 4)
    start_linear(vae, patches, torch.ones(len(patches)))
    for layer in (vae.encoder.layers[0], vae.encoder.layers[-1], vae.decoder.layers[-1]):
        centre = torch.zeros_like(layer.weight)
        centre[..., 1, 1] = 1  # the fresh weights around stand for breaking symmetry only
        layer.weight.data *= centre
    with torch.no_grad():
        latents = encode_pixels(vae, pixels * 2 - 1, 4)
        decoded = (decode_arrays(vae, latents * 1e-3, 4) + 1) / 2  # small: the decoder squashes latents by tanh
    mean = patches.mean(0)
    _, _, directions = torch.linalg.svd(patches - mean, full_matrices=False)
    projected = (patches - mean) @ directions[:3].T
    ours = latents.movedim(1, -1).flatten(0, 2)
    for channel in range(3):
        correlation = torch.corrcoef(torch.stack([projected[:, channel], ours[:, channel]]))[0, 1].abs()
        assert float(correlation) > 0.99
    assert torch.allclose(ours.std(0), torch.ones(3), atol=0.05), "in standard deviations"
    expected = projected @ directions[:3] * 1e-3
    found = patches_of(decoded, 4) - mean
    error = (found - expected).norm() / expected.norm()
    assert float(error) < 0.05


def test_weights_choose_what_the_components_spend_themselves_on() -> None:
    patches = torch.zeros(200, 48)
    patches[:100, 0] = torch.linspace(-1, 1, 100) * 3
    patches[100:, 1] = torch.linspace(-1, 1, 100)
    for weight, pixel in ((1.0, 0), (100.0, 1)):
        vae = build_vae(VaeConfig(patch_size=4, latent_channels=1, encoder_width=2, decoder_width=2))
        start_linear(vae, patches, torch.cat([torch.ones(100), torch.full((100,), weight)]))
        assert int(vae.decoder.layers[-1].weight[:, 0, 1, 1].abs().argmax()) == pixel


def test_every_weight_learns_after_a_linear_start() -> None:
    torch.manual_seed(0)
    vae = build_vae(LINEAR)
    pixels = torch.from_numpy(block_frames(8, height=24, width=32)).movedim(-1, 1).float() / 255
    patches = patches_of(pixels, 4)
    start_linear(vae, patches, torch.ones(len(patches)))
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3)
    before = {name: value.clone() for name, value in vae.named_parameters()}
    for _ in range(3):  # a branch that ends in zeros passes no gradient on in the first step
        loss = (decode_arrays(vae, encode_pixels(vae, pixels * 2 - 1, 4), 4) - (pixels * 2 - 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    still = [name for name, value in vae.named_parameters() if torch.equal(value, before[name])]
    assert not still


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        VaeConfig(encoder_blocks=(1, 1), decoder_blocks=(1,))
    with pytest.raises(ValueError, match="one resolution.*--no_linear_start"):
        VaeConfig(encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    with pytest.raises(ValueError, match="must be positive"):
        VaeConfig(patch_size=0)
    narrow = build_vae(VaeConfig(patch_size=4, latent_channels=8, encoder_width=8, decoder_width=16))
    with pytest.raises(ValueError, match="at least 16"):
        start_linear(narrow, torch.rand(10, 48), torch.ones(10))
