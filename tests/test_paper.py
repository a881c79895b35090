"""The preset `paper` at its full width, on whatever is at hand: 64 frames, 860 M weights, a few real steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from gamengen.codecs.autoencoder import AutoencoderCodec
from gamengen.codecs.pixel_loss import pixel_loss
from gamengen.config import parse
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import StartStateConfig, finalise
from gamengen.loading import load_pipeline
from tests.codec_data import block_frames, block_game
from tests.test_diffusion_stable_diffusion import SIZES, V1
from tests.test_scripts import SCRIPTS, load

SCRIPT = {path.stem: path for path in SCRIPTS}
TRAIN_UNET, FINETUNE_DECODER = load(SCRIPT["train_unet"]), load(SCRIPT["finetune_decoder"])


def make_latents(folder: Path) -> Path:
    """Frames of 240x320 through an AutoencoderKL with Stable Diffusion's factor and channels, few of its own."""
    torch.manual_seed(0)
    types = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(**types, block_out_channels=(8, 8, 8, 8), norm_num_groups=4)
    game = block_game(height=240, width=320)
    codec = AutoencoderCodec(vae.eval(), game)
    writer = EpisodeWriter(folder / "data", game, "main")
    for number, split in enumerate(("train", "validation", "test")):
        frames = block_frames(3, seed=number, height=240, width=320)
        writer.begin(frames[0], seed=number, split=split)
        for frame in frames[1:]:
            writer.append(1, 0.0, frame)
        writer.end(True, False)
    writer.flush()
    encode_dataset(folder / "data", codec, folder / "latents", progress=False)
    starts = StartStateConfig(num_start_states=1, start_state_frames=2, start_state_horizon=1)
    finalise(folder / "data", codec, folder / "latents", starts=starts)
    return folder / "latents"


def run(latents: Path, source: Path, output_dir: Path, *flags: str) -> dict[str, Any]:
    given = ("--preset", "paper", "--latents", latents, "--pretrained_model_name_or_path", source, "--output_dir",
             output_dir, "--num_validation_windows", "1", "--validation_steps", "0", "--report_to", "none",
             "--gradient_accumulation_steps", "1", "--train_batch_size", "1", *flags)  # fmt: skip
    result: dict[str, Any] = TRAIN_UNET.main(parse(TRAIN_UNET.PRESETS, [str(word) for word in given], ""))
    return result


def small_stable_diffusion(folder: Path) -> Path:
    torch.manual_seed(0)
    UNet2DConditionModel(**SIZES["1.4"]).save_pretrained(folder / "unet")
    return folder


def test_the_settings_are_the_paper_s() -> None:
    """GameNGen (arXiv 2408.14837), sections 3.2 and 4.2."""
    paper = TRAIN_UNET.PRESETS["paper"]
    training, loss = paper.training, paper.loss
    assert training.train_batch_size * training.gradient_accumulation_steps == 128 and paper.context_length == 64
    assert (training.optimizer, training.learning_rate, training.lr_scheduler) == ("adafactor", 2e-5, "constant")
    assert (training.max_grad_norm, training.max_train_steps) == (1.0, 700_000)
    assert (loss.max_noise_level, loss.context_dropout, loss.moving_weight, loss.self_rollout_steps) == (0.7, 0.1, 0, 0)
    decoder = FINETUNE_DECODER.PRESETS["paper"]
    assert decoder.training.train_batch_size * decoder.training.gradient_accumulation_steps == 2048
    pixels, target = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    plain = (pixels - target).square().flatten(1).mean(1)
    assert torch.equal(pixel_loss(decoder.loss, pixels, target, torch.rand(2, 4, 4)), plain)
    assert paper.prediction_type == "v_prediction" and not paper.scene_prior and not paper.action_planes


def test_a_dry_run_says_what_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(make_latents(tmp_path), small_stable_diffusion(tmp_path / "sd"), tmp_path / "run", "--dry_run",
        "--gradient_accumulation_steps", "128")  # fmt: skip
    text = capsys.readouterr().out
    for words in (
        "global batch 128",
        "1 x 24 GB",
        "8 x 80 GB",
        "--gradient_accumulation_steps",
        " days",
        "not measured",
    ):
        assert words in text
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_lora_from_training_to_a_stock_world(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    latents, source = make_latents(tmp_path), small_stable_diffusion(tmp_path / "sd")
    flags = ("--lora_rank", "2", "--max_train_steps", "3", "--checkpointing_steps", "2", "--mixed_precision", "no")
    run(latents, source, tmp_path / "run", *flags)
    world = load_pipeline(tmp_path / "run/world")
    assert not any("lora" in name for name in world.unet.state_dict())
    assert world.unet.config["in_channels"] == 260
    context = world.unet.conv_in.weight[:, 4:]
    assert context.abs().amax() > 0, "the new part was not trained"
    again = run(latents, source, tmp_path / "run", *flags[:3], "5", *flags[4:], "--overwrite")
    assert again["steps"] == 5


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_few_steps_at_full_width(tmp_path: Path) -> None:
    """Random weights of Stable Diffusion 1.4's shape. About 10 GB of memory, 11 GB of disk and 5 CPU minutes."""
    with torch.device("meta"):
        shapes = UNet2DConditionModel(**V1)
    torch.manual_seed(0)
    shapes.to_empty(device="cpu").apply(_reset).save_pretrained(tmp_path / "sd/unet")
    del shapes
    flags = ("--max_train_steps", "2", "--mixed_precision", "no", "--checkpoints_total_limit", "1")
    result = run(make_latents(tmp_path), tmp_path / "sd", tmp_path / "run", *flags)
    assert result["steps"] == 2 and result["skipped_steps"] == 0 and 0 < result["logs"]["loss"] < 10
    world = load_pipeline(tmp_path / "run/world")
    assert world.unet.config["in_channels"] == 260 and world.unet.conv_in.weight[:, 4:].abs().amax() > 0


def _reset(module: torch.nn.Module) -> None:
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()
