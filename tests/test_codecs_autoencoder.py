"""autoencoder: latents are the mode, padding and patches are undone, the fingerprint follows the encoder alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DModel

from gamengen.codecs.autoencoder import (
    BATCH_FRAMES,
    AutoencoderCodec,
    Vae,
    fingerprint,
    load_autoencoder_codec,
    load_vae,
    save_codec,
)
from gamengen.codecs.codec import Codec
from gamengen.contract import ContractMismatch
from gamengen.durable import DamagedFile, read_json
from gamengen.frames import pad, to_float
from gamengen.manifest import write_manifest
from tests.codec_data import block_frames, block_game, small_codec


def kl_vae(**changes: object) -> AutoencoderKL:
    torch.manual_seed(0)
    settings = {
        "block_out_channels": (8, 8, 16), "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3, "norm_num_groups": 4, "latent_channels": 3,
        "mid_block_add_attention": False,
    }  # fmt: skip
    return AutoencoderKL(**(settings | changes)).eval()


def tiny_vae() -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()  # fmt: skip


VAES = {"kl": kl_vae, "tiny": tiny_vae}


@pytest.fixture(params=VAES)
def vae(request: pytest.FixtureRequest) -> Vae:
    return VAES[request.param]()


def frames(count: int) -> torch.Tensor:
    return torch.from_numpy(block_frames(count))


def test_latents_are_the_mode_without_a_scaling_factor() -> None:
    vae = kl_vae(scaling_factor=0.18215, shift_factor=0.3)
    codec = AutoencoderCodec(vae, block_game())
    assert isinstance(codec, Codec)
    pixels = pad(to_float(frames(3)), codec.contract.padding)
    with torch.no_grad():
        moments = vae.quant_conv(vae.encoder(pixels))
    latents = codec.encode(frames(3))
    assert latents.dtype == torch.float16 and tuple(latents.shape[1:]) == codec.contract.array_shape
    assert torch.allclose(latents.float(), moments[:, :3], atol=2e-3, rtol=2e-3)
    assert torch.equal(codec.encode(frames(3)), latents), "a sample of the posterior would differ"


def test_tiny_latents_are_the_encoders_output() -> None:
    vae = tiny_vae()
    codec = AutoencoderCodec(vae, block_game())
    with torch.no_grad():
        expected = vae.encoder(pad(to_float(frames(2)), codec.contract.padding))
    assert torch.allclose(codec.encode(frames(2)).float(), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(("height", "width"), [(210, 160), (20, 28), (33, 9), (64, 64)])
def test_any_size_is_padded_to_whole_cells_and_cropped_back(height: int, width: int) -> None:
    codec = small_codec(game=block_game(height=height, width=width))
    channels, h, w = codec.contract.array_shape
    assert h % 4 == w % 4 == 0 and h * 4 >= height and w * 4 >= width
    there = torch.from_numpy(block_frames(2, height=height, width=width))
    latents = codec.encode(there)
    assert tuple(latents.shape) == (2, channels, h, w)
    decoded = codec.decode(latents)
    assert decoded.shape == there.shape and decoded.dtype == torch.uint8
    assert codec.decode_float(latents).shape == (2, 3, height, width)


class Copying(torch.nn.Module):
    """Stands where an encoder or decoder does and passes its input on."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))  # says what dtype the module has

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values


def test_patches_and_padding_are_exactly_undone() -> None:
    codec = small_codec()
    codec.vae.encoder, codec.vae.decoder = Copying(), Copying()
    object.__setattr__(codec.contract, "array_shape", (48, 8, 8))
    assert torch.equal(codec.decode(codec.encode(frames(3)).float()), frames(3))
    assert codec.encode(frames(1)).shape == (1, 48, 8, 8)
    expected = F.pixel_unshuffle(pad(to_float(frames(1)), codec.contract.padding), 4)
    assert torch.equal(codec.encode(frames(1)), expected.half())


def test_an_all_black_batch_is_scaled_like_any_other(vae: Vae) -> None:
    codec = AutoencoderCodec(vae, block_game())
    black = torch.zeros_like(frames(2))
    with torch.no_grad():
        pixels = torch.full((2, 3, *_padded_size(codec)), -1.0)
        encoded = vae.encode(pixels)
        expected = encoded.latents if isinstance(vae, AutoencoderTiny) else encoded.latent_dist.mode()
    assert torch.allclose(codec.encode(black).float(), expected, atol=2e-3, rtol=2e-3)
    together = codec.encode(torch.cat([black, frames(2)]))
    assert torch.allclose(together[:2].float(), codec.encode(black).float(), atol=2e-3)


def _padded_size(codec: AutoencoderCodec) -> tuple[int, int]:
    _, h, w = codec.contract.array_shape
    return h * codec.factor, w * codec.factor


def test_results_do_not_depend_on_the_batch(vae: Vae) -> None:
    codec = AutoencoderCodec(vae, block_game())
    many = frames(BATCH_FRAMES + 3)
    together = codec.encode(many)
    singly = torch.cat([codec.encode(frame.unsqueeze(0)) for frame in many])
    # float16 rounds what differs by less than 1e-5 to neighbours at most.
    assert torch.allclose(together.float(), singly.float(), atol=1e-5, rtol=1e-3)
    decoded = codec.decode_float(together).detach()
    one = torch.cat([codec.decode_float(array.unsqueeze(0)).detach() for array in together])
    assert torch.allclose(decoded, one, atol=1e-5)
    assert codec.encode(many[:0]).shape == (0, *codec.contract.array_shape)
    assert codec.decode(together[:0]).shape == (0, 20, 28, 3)


def test_decode_float_is_differentiable_and_encode_is_not(vae: Vae) -> None:
    codec = AutoencoderCodec(vae, block_game())
    latents = codec.encode(frames(2)).float()
    assert not latents.requires_grad
    latents.requires_grad_(True)
    codec.decode_float(latents).square().mean().backward()
    assert latents.grad is not None and float(latents.grad.abs().sum()) > 0
    assert next(vae.decoder.parameters()).grad is not None


def test_the_fingerprint_survives_a_float16_file(vae: Vae, tmp_path: Path) -> None:
    before = fingerprint(vae)
    vae.save_pretrained(tmp_path / "float32")
    assert fingerprint(load_vae(tmp_path / "float32")) == before
    vae.half().save_pretrained(tmp_path / "half")
    vae.save_pretrained(tmp_path / "variant", variant="fp16")
    assert fingerprint(load_vae(tmp_path / "half")) == before
    assert fingerprint(load_vae(tmp_path / "variant", variant="fp16")) == before
    assert load_vae(tmp_path / "half").dtype == torch.float32


def test_the_fingerprint_follows_the_encoder_path_alone() -> None:
    vae = kl_vae()
    before = fingerprint(vae)
    with torch.no_grad():
        for part in (vae.decoder, vae.post_quant_conv):
            for parameter in part.parameters():
                parameter.add_(1.0)
    assert fingerprint(vae) == before
    vae.to(memory_format=torch.channels_last)
    assert fingerprint(vae) == before
    with torch.no_grad():
        vae.quant_conv.bias[0] += 0.01
    assert fingerprint(vae) != before, "quant_conv makes latents"
    assert fingerprint(kl_vae(act_fn="relu")) != before, "equal weights under another activation encode differently"
    assert fingerprint(kl_vae()) == before
    tiny = tiny_vae()
    before = fingerprint(tiny)
    with torch.no_grad():
        tiny.decoder.layers[0].weight.add_(1.0)
    assert fingerprint(tiny) == before
    with torch.no_grad():
        tiny.encoder.layers[0].weight[0, 0, 0, 0] += 0.01
    assert fingerprint(tiny) != before


def test_no_file_of_a_codec_takes_its_name_before_its_bytes_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[tuple[int, int]] = set()  # device and inode
    fsync, move = os.fsync, os.replace

    def watched(source: Path, target: Path) -> None:
        if Path(source).parent.name == "vae.tmp":
            status = os.stat(source)
            assert (status.st_dev, status.st_ino) in flushed, f"{source} was not flushed"
            moved.append(Path(target).name)
        move(source, target)

    def seen(descriptor: int) -> None:
        status = os.fstat(descriptor)
        flushed.add((status.st_dev, status.st_ino))
        fsync(descriptor)

    moved: list[str] = []
    monkeypatch.setattr(os, "fsync", seen)
    monkeypatch.setattr(os, "replace", watched)
    (tmp_path / "vae").mkdir()
    save_codec(small_codec(), tmp_path / "vae", replace=False)
    weights = "diffusion_pytorch_model.safetensors"
    assert weights in moved and moved[-1] == "codec.json"
    status = (tmp_path / "vae").stat()
    assert (status.st_dev, status.st_ino) in flushed, "the list of names"


@pytest.mark.parametrize("replace", [True, False])
def test_a_saved_codec_comes_back(tmp_path: Path, replace: bool) -> None:
    codec = small_codec()
    save_codec(codec, tmp_path / "vae", replace=replace)
    save_codec(codec, tmp_path / "vae", replace=replace)
    back = load_autoencoder_codec(tmp_path / "vae")
    assert back.contract == codec.contract
    assert torch.equal(back.encode(frames(3)), codec.encode(frames(3)))
    assert torch.equal(back.decode(codec.encode(frames(3))), codec.decode(codec.encode(frames(3))))
    save_codec(back, tmp_path / "again")
    config = read_json(tmp_path / "again" / "config.json")
    assert "_name_or_path" not in config and str(tmp_path) not in str(config)
    assert {path.name for path in tmp_path.iterdir()} == {"vae", "again"}, "nothing unfinished is left"


def test_another_codecs_weights_are_refused(tmp_path: Path) -> None:
    save_codec(small_codec(0), tmp_path / "vae")
    small_codec(1).vae.save_pretrained(tmp_path / "vae")
    with pytest.raises(DamagedFile, match="is damaged"):
        load_autoencoder_codec(tmp_path / "vae")
    write_manifest(tmp_path / "vae")  # someone who means it
    with pytest.raises(ContractMismatch, match="fingerprint") as error:
        load_autoencoder_codec(tmp_path / "vae")
    assert small_codec(0).contract.fingerprint in str(error.value)
    assert small_codec(1).contract.fingerprint in str(error.value)


def test_a_stale_codec_is_not_saved(tmp_path: Path) -> None:
    codec = small_codec()
    with torch.no_grad():
        next(codec.vae.encoder.parameters()).add_(1.0)
    with pytest.raises(ValueError, match="make a new AutoencoderCodec"):
        save_codec(codec, tmp_path / "vae")
    assert not (tmp_path / "vae").exists()


def test_frames_that_do_not_fit_are_refused_with_the_legal_sizes() -> None:
    with pytest.raises(ValueError, match="at least 4x4"):
        small_codec(game=block_game(height=3))
    vae = small_codec().vae
    with pytest.raises(ValueError, match="legal are multiples of 4, such as 20x32"):
        AutoencoderCodec(vae, block_game(height=20, width=30), 4, padding=(0, 0, 0, 0))
    with pytest.raises(ValueError, match="48 channels"):
        AutoencoderCodec(tiny_vae(), block_game(), 4)
    codec = small_codec()
    with pytest.raises(ValueError, match="28x20.*expected 20x28"):
        codec.encode(frames(1).transpose(1, 2))
    with pytest.raises(ValueError, match="expected latents"):
        codec.decode_float(torch.zeros(1, 2, 4, 4))


def test_what_is_no_autoencoder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither config.json nor vae/config.json"):
        load_vae(tmp_path)
    with pytest.raises(FileNotFoundError, match="nobody/nothing"):
        load_vae("nobody/nothing")
    with pytest.raises(FileNotFoundError, match="train_vae"):
        load_autoencoder_codec(tmp_path)
    UNet2DModel(
        sample_size=8, block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
        norm_num_groups=4, layers_per_block=1,
    ).save_pretrained(tmp_path / "unet")  # fmt: skip
    with pytest.raises(ValueError, match="expected an AutoencoderKL or AutoencoderTiny, got 'UNet2DModel'"):
        load_vae(tmp_path / "unet")
    tiny_vae().save_pretrained(tmp_path / "cut")
    weights = tmp_path / "cut" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut: the weights are damaged"):
        load_vae(tmp_path / "cut")
