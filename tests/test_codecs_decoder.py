"""decoder: fine-tuning changes the decoder's side and provably nothing that makes latents."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from gamengen.codecs.autoencoder import Vae, encode_pixels, fingerprint
from gamengen.codecs.decoder import DecoderLoss, DecoderLossConfig, check_encoder, freeze_encoder
from gamengen.frames import to_float
from gamengen.noise import training_noise
from gamengen.training.loop import TrainingConfig, train
from tests.codec_data import block_frames


def kl_vae() -> Vae:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4, mid_block_add_attention=False,
    )  # fmt: skip


def tiny_vae() -> Vae:
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )  # fmt: skip


def batch_fn(step: int, indices: object) -> dict[str, torch.Tensor]:
    frames = torch.from_numpy(block_frames(len(list(indices)), seed=step, height=16, width=16))  # type: ignore[call-overload]
    return {"frames": frames, "weights": (frames == 255).all(-1).float()}


@pytest.mark.parametrize("build", [kl_vae, tiny_vae])
def test_training_changes_the_decoders_side_only(build: object, tmp_path: Path) -> None:
    vae: Vae = build()  # type: ignore[operator]
    before = {name: value.clone() for name, value in vae.state_dict().items()}
    pixels = to_float(torch.from_numpy(block_frames(2, height=16, width=16)))
    latents = encode_pixels(vae, pixels, 1).detach()
    encoder = freeze_encoder(vae)
    channels = latents.shape[1]
    config = TrainingConfig(
        max_train_steps=4, train_batch_size=2, learning_rate=1e-2, lr_warmup_steps=0, adam_weight_decay=0.1,
        report_to="none", checkpointing_steps=2, validation_steps=0, ema_max_decay=0.5,
    )  # fmt: skip
    train(config, {"vae": vae}, DecoderLoss(DecoderLossConfig(), 1, torch.ones(channels)), batch_fn, tmp_path)
    check_encoder(vae, encoder)
    changed = {name for name, value in vae.state_dict().items() if not torch.equal(value, before[name])}
    trained = {name for name in before if name.startswith(("decoder.", "post_quant_conv."))}
    assert changed == trained, "weight decay must not touch frozen weights, and no trained weight may stay"
    assert torch.equal(encode_pixels(vae, pixels, 1), latents)


def test_an_encoder_that_changed_is_found_out() -> None:
    vae = kl_vae()
    encoder = freeze_encoder(vae)
    with torch.no_grad():
        vae.quant_conv.weight += 1e-2
    with pytest.raises(RuntimeError, match=f"{encoder} before, {fingerprint(vae)} after"):
        check_encoder(vae, encoder)


def test_half_of_the_samples_are_decoded_from_exact_latents() -> None:
    vae = tiny_vae()
    batch = batch_fn(0, range(40))
    noise = training_noise(0, 0, range(40))
    with torch.no_grad():
        std = torch.ones(4)
        exact = DecoderLoss(DecoderLossConfig(latent_noise=0.0), 1, std)({"vae": vae}, batch, noise).per_sample
        noisy = DecoderLoss(DecoderLossConfig(latent_noise=0.5), 1, std)({"vae": vae}, batch, noise).per_sample
    same = torch.isclose(exact, noisy, rtol=1e-6)
    assert 8 < int(same.sum()) < 32
    assert torch.equal(~same, noise.uniform("noisy") < 0.5)


def test_noise_is_in_standard_deviations_of_each_channel() -> None:
    vae = tiny_vae()
    batch, noise = batch_fn(0, range(8)), training_noise(0, 0, range(8))
    seen: list[torch.Tensor] = []
    vae.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    for std in (torch.zeros(4), torch.tensor([0.0, 1.0, 2.0, 0.0])):
        DecoderLoss(DecoderLossConfig(latent_noise=0.1), 1, std)({"vae": vae}, batch, noise)
    added = (seen[1] - seen[0])[noise.uniform("noisy") < 0.5]
    assert float(added[:, 0].abs().max()) == float(added[:, 3].abs().max()) == 0.0
    assert float(added[:, 1].std()) == pytest.approx(0.1, rel=0.2)
    assert float(added[:, 2].std()) == pytest.approx(0.2, rel=0.2)
