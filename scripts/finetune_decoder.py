"""Fine-tune the decoder of an autoencoder on a game's frames; latents, and worlds trained on them, stay valid.

Reads   an episode dataset, and a VAE: a folder of scripts/train_vae.py, or a stock autoencoder on disk or on the Hub.
Writes  <output_dir>/ is a VAE folder of the same encoder fingerprint: `decoder` and `post_quant_conv` changed, nothing
        else. Beside it checkpoint-N/ (resumable), metrics.jsonl, run.json with the reconstruction before and after.
Example
    accelerate launch scripts/finetune_decoder.py --dataset data/breakout --vae runs/breakout/vae \\
        --output_dir runs/breakout/decoder
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
import tyro
from accelerate import PartialState
from diffusers import AutoencoderTiny

from gamengen.codecs.autoencoder import save_codec
from gamengen.codecs.decoder import DecoderLoss, DecoderLossConfig, check_encoder, freeze_encoder
from gamengen.codecs.moving_crops import CropConfig, load_crops
from gamengen.codecs.opening import open_codec
from gamengen.codecs.reconstruction import reconstruction
from gamengen.config import parse
from gamengen.contract import read_game_contract
from gamengen.dataset.episodes import dataset_fingerprint
from gamengen.frames import crop
from gamengen.hub.part_push import push_vae
from gamengen.hub.repository import HubConfig, open_repository, resolve_dataset
from gamengen.latents.array_statistics import channel_statistics
from gamengen.run_folder import RunFolder, print_plan
from gamengen.training.loop import TrainingConfig, train

STATISTICS_FRAMES = 128


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fine-tune the decoder of an autoencoder on a game's frames."""

    preset: str = "small"
    """tiny: seconds, for tests. demo: a minute on 2 CPU cores. small: half an hour on 2 cores. atari: one GPU.
    paper: GameNGen's own."""
    dataset: str = tyro.MISSING
    """Folder of scripts/record_episodes.py, or a Hub id."""
    dataset_revision: str | None = None
    """Branch, tag or commit of a dataset on the Hub."""
    vae: str = tyro.MISSING
    """Folder of scripts/train_vae.py, another stock autoencoder, or a Hub id."""
    revision: str | None = None
    variant: str | None = None
    output_dir: str = tyro.MISSING
    validation_frames: int = 512
    crops: CropConfig = field(default_factory=CropConfig)
    loss: DecoderLossConfig = field(default_factory=DecoderLossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    dry_run: bool = False
    """Print the config and what it will cost, and stop."""
    overwrite: bool = False
    """Start over in an output folder of another config."""


PRESETS = {
    "tiny": Config(
        preset="tiny", validation_frames=32, crops=CropConfig(crop_size=32, max_train_frames=200),
        training=TrainingConfig(
            max_train_steps=10, train_batch_size=4, lr_warmup_steps=2, checkpointing_steps=5, report_to="none",
        ),
    ),
    "demo": Config(
        preset="demo", crops=CropConfig(crop_size=64, max_train_frames=4000),
        training=TrainingConfig(
            max_train_steps=5000, max_train_minutes=0.3, train_batch_size=8, lr_scheduler="linear",
            adam_weight_decay=1e-4, ema_max_decay=0.99, checkpointing_steps=1000,
        ),
    ),
    "small": Config(
        preset="small", crops=CropConfig(crop_size=64),
        training=TrainingConfig(
            max_train_steps=8000, train_batch_size=16, lr_scheduler="linear", adam_weight_decay=1e-4,
            checkpointing_steps=1000,
        ),
    ),
    "atari": Config(
        preset="atari", crops=CropConfig(crop_size=96, max_train_frames=40_000),
        training=TrainingConfig(
            max_train_steps=20_000, train_batch_size=64, learning_rate=3e-4, lr_scheduler="linear",
            adam_weight_decay=1e-4, dataloader_num_workers=8, checkpointing_steps=5000, ema_max_decay=0.9995,
        ),
    ),
    # GameNGen (arXiv 2408.14837), section 4.2: squared error alone, 2048 whole frames a step, the denoiser's optimizer.
    # How many steps it does not say. The flags are those of one device; share the accumulation between several.
    "paper": Config(
        preset="paper", crops=CropConfig(crop_size=0, max_train_frames=100_000),
        loss=DecoderLossConfig(absolute_weight=0.0, squared_weight=1.0, foreground_weight=0.0, latent_noise=0.0),
        training=TrainingConfig(
            max_train_steps=10_000, train_batch_size=16, gradient_accumulation_steps=128, gradient_checkpointing=True,
            optimizer="adafactor", learning_rate=2e-5, lr_scheduler="constant", max_grad_norm=1.0,
            mixed_precision="bf16", use_ema=False, dataloader_num_workers=8, checkpointing_steps=500,
        ),
    ),
}  # fmt: skip


def main(config: Config) -> dict[str, Any]:
    state = PartialState(cpu=not torch.cuda.is_available())
    asked = config
    config = dataclasses.replace(config, dataset=str(resolve_dataset(config.dataset, revision=config.dataset_revision)))
    game = read_game_contract(config.dataset)
    codec = open_codec(config.vae, game, config.dataset, config.revision, config.variant)
    if not isinstance(codec.vae, AutoencoderTiny) and config.crops.crop_size:
        raise ValueError("an AutoencoderKL normalises over all it sees, so it needs whole frames: give --crop_size 0")
    if config.dry_run:
        minutes = config.training.max_train_minutes
        print_plan("finetune_decoder", config, {
            "parameters": f"{sum(p.numel() for p in codec.vae.decoder.parameters()) / 1e6:.2f} M trained",
            "time": f"{minutes:g} minutes at most" if minutes else f"{config.training.max_train_steps} steps",
        })  # fmt: skip
        return {}
    # The main process first: others must not read the run.json that it is about to replace.
    with state.main_process_first():
        run = RunFolder.open(
            config.output_dir, "finetune_decoder", asked, overwrite=config.overwrite,
            data_fingerprint=f"{dataset_fingerprint(config.dataset)} {codec.contract.fingerprint}",
            accelerate_state={"num_processes": state.num_processes}, is_main_process=state.is_main_process,
        )  # fmt: skip
    if state.is_main_process:
        open_repository(config.hub, "model", run.path.resolve().name)  # before the work: whether it may be pushed
    if run.finished:
        print(f"{run.path}: this run is finished; nothing to do")
        if state.is_main_process:
            push_vae(run.path, run.results or {}, config.hub)
        return run.results or {}
    crops = load_crops(config.dataset, codec.contract.padding, config.crops, codec.factor)
    before = reconstruction(codec, config.dataset, "validation", config.validation_frames)
    sample = torch.from_numpy(crops.frames[:: max(1, len(crops) // STATISTICS_FRAMES)])
    latents = codec.encode(crop(sample.movedim(-1, 1), codec.contract.padding).movedim(1, -1))
    _, latent_std = channel_statistics([latents])
    encoder = freeze_encoder(codec.vae)
    training = config.training
    result = train(
        training, {"vae": codec.vae}, DecoderLoss(config.loss, codec.contract.patch_size, latent_std),
        lambda step, indices: crops.batch(training.seed, step, indices), run.path,
        contract=codec.contract, description="finetune_decoder",
    )  # fmt: skip
    check_encoder(codec.vae, encoder)
    figures: dict[str, Any] = dataclasses.asdict(result)
    if state.is_main_process:
        save_codec(codec, run.path, replace=False)
        after = reconstruction(codec, config.dataset, "validation", config.validation_frames)
        figures |= {"before": dataclasses.asdict(before), **dataclasses.asdict(after)}
        run.finish(figures)
        push_vae(run.path, figures, config.hub)
        print(f"decoder: {run.path}   encoder fingerprint unchanged ({encoder[:12]})")
        print(f"reconstruction PSNR on {after.frames} held-out frames, before -> after:")
        print(f"  all pixels    {before.psnr:5.1f} -> {after.psnr:5.1f} dB")
        if before.psnr_moving is not None and after.psnr_moving is not None:
            print(f"  moving pixels {before.psnr_moving:5.1f} -> {after.psnr_moving:5.1f} dB")
    return figures


if __name__ == "__main__":
    main(parse(PRESETS))
