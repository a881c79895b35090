"""Train the action-conditioned UNet on encoded latents.

Reads   a latents folder of scripts/encode_latents.py (shards, codec, start states).
Writes  <output_dir>/checkpoint-N/ (resumable), <output_dir>/world/ (playable: `--world <output_dir>/world`),
        metrics.jsonl, TensorBoard logs, run.json. The same command again continues where it stopped.
Example
    accelerate launch scripts/train_unet.py --latents data/breakout-latents --output_dir runs/breakout/unet
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from accelerate import PartialState
from diffusers import UNet2DConditionModel

from gamengen.codecs.palette import measure_palette
from gamengen.config import parse
from gamengen.contract import CodecContract, WorldContract
from gamengen.dataset.start_states import check_filled, read_start_states
from gamengen.diffusion.denoiser import DenoiserConfig, build_unet, world_settings
from gamengen.diffusion.drawing import DrawingConfig, prefer
from gamengen.diffusion.growing import deepen
from gamengen.diffusion.loss import LatentDiffusionLoss, LossConfig
from gamengen.diffusion.pipeline import KIND, build_pipeline
from gamengen.diffusion.scene import foreground_share, measure_scene
from gamengen.diffusion.schedule import PredictionType, build_scheduler, read_schedule
from gamengen.diffusion.stable_diffusion import LoraConfig, add_lora, load_unet, without_lora
from gamengen.diffusion.validation import Validation
from gamengen.durable import sha256_file
from gamengen.hub.repository import HubConfig, open_repository
from gamengen.hub.run_push import push_run, training_facts
from gamengen.hub.world_card import WorldFacts
from gamengen.latents.marks import MARKS_FILE
from gamengen.latents.shards import latents_fingerprint, load_codec, load_table, read_contract, read_statistics
from gamengen.latents.windows import Windows
from gamengen.manifest import MANIFEST_FILE
from gamengen.run_folder import RunFolder, print_plan
from gamengen.training.cost import training_cost
from gamengen.training.loop import TrainingConfig, train
from gamengen.world import StartState


@dataclass(frozen=True, kw_only=True)
class Config:
    """Train the action-conditioned UNet on encoded latents."""

    preset: str = "small"
    """tiny: seconds, for tests. demo: minutes on 2 CPU cores. small: hours on 2 cores or minutes on a GPU.
    atari: one GPU. paper: GameNGen's own, from Stable Diffusion 1.4."""
    latents: Annotated[str, tyro.conf.arg(aliases=("--train_data_dir",))] = tyro.MISSING
    """Folder of scripts/encode_latents.py."""
    output_dir: str = tyro.MISSING
    pretrained_model_name_or_path: str | None = None
    """Start from a UNet, a world or Stable Diffusion, a folder (such as <run>/checkpoint-500/unet_ema) or Hub id,
    instead of from scratch."""
    deepen_to: int | None = None
    """Layers that each block of the pretrained UNet shall have: new ones change nothing until they are trained."""
    revision: str | None = None
    """Of the pretrained model on the Hub: branch, tag or commit; variant: form of its weights, such as `fp16`."""
    variant: str | None = None
    cache_dir: str | None = None
    resolution: tuple[int, int] | None = None
    """Frame height and width to expect; other latents are refused."""
    context_length: Annotated[int, tyro.conf.arg(aliases=("--num_context_frames",))] = 4
    """Past frames and actions that the next frame is predicted from (L)."""
    prediction_type: PredictionType = "v_prediction"
    scene_prior: bool = True
    """Let the UNet predict only what the training split's median picture does not tell."""
    rests: bool = True
    """Expect that what rests stays, such as gaps in a wall and digits."""
    action_planes: bool = True
    """Show the actions to every cell, as planes beside the frames, too."""
    num_inference_steps: int = 4
    """Denoising steps that the world is played with unless told otherwise."""
    palette: bool = True
    """Show the game's own colours, if the start states have few, in the place of those that are near them."""
    cross_resets: bool = False
    """Let windows run over the reset after a game that was over, so that a dream can begin a new one."""
    padded_contexts: bool = True
    """Train on the first frames of an episode, too, with copies of the first one before it: a world may then start from
    a single picture. Without them, nothing that has stood still for long looks like the beginning of a game."""
    max_train_samples: int | None = None
    num_train_epochs: int | None = None
    """Instead of max_train_steps."""
    num_validation_windows: int = 32
    keep_on_device: bool = True
    """Hold all latents in the training device's memory when they fit: half of what is free there is theirs."""
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    """Of a UNet from scratch."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    drawing: DrawingConfig = field(default_factory=DrawingConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    """The world is pushed, with the newest checkpoint in a folder beside it."""
    dry_run: bool = False
    """Print the config and what it will cost, and stop."""
    overwrite: bool = False
    """Start over in an output folder of another config."""

    @property
    def with_rests(self) -> bool:
        """Without the scene nothing is expected."""
        return self.rests and self.scene_prior


PRESETS = {
    # 20 steps of a UNet of a few thousand parameters: seconds.
    "tiny": Config(
        preset="tiny", num_validation_windows=4,
        denoiser=DenoiserConfig(
            block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8, norm_num_groups=4
        ),
        training=TrainingConfig(
            max_train_steps=20, train_batch_size=4, lr_warmup_steps=2, checkpointing_steps=10, validation_steps=10,
            report_to="none",
        ),
    ),
    # Two processes of make_world: 16 samples a step. Steps and figures: docs/experiments.md.
    "demo": Config(
        preset="demo",
        num_inference_steps=1, denoiser=DenoiserConfig(block_out_channels=(32, 64, 96), layers_per_block=1),
        # Minutes are for what 1-step play needs: no guidance, few other noise levels (docs/experiments.md).
        loss=LossConfig(rarity_limit=2.5, terminal_share=0.75, context_dropout=0.0),
        training=TrainingConfig(
            max_train_steps=20_000, max_train_minutes=5.25, train_batch_size=8, learning_rate=2e-3,
            checkpointing_steps=250, validation_steps=0, ema_max_decay=0.99,
        ),
    ),
    "small": Config(
        preset="small",
        denoiser=DenoiserConfig(block_out_channels=(40, 80, 120), layers_per_block=1),  # plays 15 frames/s at 4 steps
        training=TrainingConfig(max_train_steps=20_000, checkpointing_steps=500, validation_steps=1000),
    ),
    "atari": Config(
        preset="atari", context_length=8, cross_resets=True,
        denoiser=DenoiserConfig(block_out_channels=(128, 256, 384), attention_levels=2),
        training=TrainingConfig(
            max_train_steps=100_000, train_batch_size=128, learning_rate=3e-4, mixed_precision="bf16", compile=True,
            ema_max_decay=0.9995, checkpointing_steps=2000, validation_steps=5000, lr_warmup_steps=500,
        ),
    ),
    # GameNGen (arXiv 2408.14837), sections 4.2 and 4.3: 128 samples a step, plain loss, noise drawn evenly up to 0.7.
    # The flags are those of one device; --dry_run says which fit which GPUs, and what they take.
    "paper": Config(
        preset="paper", pretrained_model_name_or_path="CompVis/stable-diffusion-v1-4", context_length=64,
        scene_prior=False, action_planes=False,
        loss=LossConfig(
            max_noise_level=0.7, clean_context_share=0.0, context_dropout=0.1, terminal_share=0.0, play_steps=(),
            moving_weight=0.0, self_rollout_steps=0, self_rollout_share=0.0,
        ),
        training=TrainingConfig(
            max_train_steps=700_000, train_batch_size=16, gradient_accumulation_steps=8, gradient_checkpointing=True,
            optimizer="adafactor", learning_rate=2e-5, lr_scheduler="constant", mixed_precision="bf16", use_ema=False,
            max_grad_norm=1.0, checkpointing_steps=5000, validation_steps=10_000,
        ),
    ),
}  # fmt: skip


def main(config: Config) -> dict[str, Any]:
    state = PartialState(cpu=not torch.cuda.is_available())
    starts = read_start_states(f"{config.latents}/start_states.parquet")
    contract = make_contract(config, read_contract(config.latents), starts)
    unet = make_unet(config, contract)
    if config.dry_run:
        print_plan("train_unet", config, training_cost(unet, contract, config.training))
        return {}
    # The main process first: others must not read the run.json that it is about to replace.
    with state.main_process_first():
        run = RunFolder.open(
            config.output_dir, "train_unet", config, overwrite=config.overwrite,
            data_fingerprint=input_fingerprint(config),
            accelerate_state={"num_processes": state.num_processes}, is_main_process=state.is_main_process,
        )  # fmt: skip
    if state.is_main_process:
        open_repository(config.hub, "model", run.path.resolve().name)  # before the work: whether it may be pushed
    if run.finished:
        print(f"{run.path}: this run is finished; nothing to do")
        if state.is_main_process:
            push_run(run.path, config.hub)
        return run.results or {}
    check_filled(starts, config.context_length, config.latents)
    codec, statistics = load_codec(config.latents), read_statistics(config.latents)
    scheduler = build_scheduler(config.prediction_type)
    windows = open_windows(config, contract, state.device)
    scene = measure_scene(windows["train"].rows, contract.codec, statistics.median, config.with_rests)
    share = foreground_share(windows["train"].rows, contract.codec, scene, config.loss.moving_threshold)
    loss_fn = LatentDiffusionLoss(config.loss, contract, read_schedule(scheduler), scene, share)
    windows["train"].limit(config.max_train_samples)
    training = config.training.for_epochs(config.num_train_epochs, len(windows["train"]), state.num_processes)
    global_batch = training.train_batch_size * training.gradient_accumulation_steps * state.num_processes
    windows["train"].check_batch(global_batch)
    prefer(config.drawing, windows["train"], unet, loss_fn, run.path, config.latents, training.seed)

    def batch_fn(step: int, indices: Any) -> dict[str, torch.Tensor]:
        batch = windows["train"].shuffled(training.seed, [step * global_batch + i for i in indices])
        return batch.tensors()

    pipeline = build_pipeline(unet, codec.vae, scheduler, contract, starts, scene)
    pipeline.facts = WorldFacts(training=training_facts(training, global_batch, len(windows["train"])))
    pipeline.vae.to(state.device)
    validation = Validation(pipeline, windows["validation"], loss_fn, config.num_validation_windows, training.seed)

    def validate(modules: Any, step: int) -> Any:
        results = validation(modules, step)
        pipeline.with_parts(without_lora(pipeline.unet), pipeline.vae).save_pretrained(run.path / "world")
        return results

    result = train(
        training, {"unet": unet}, loss_fn, batch_fn, run.path, validate=validate, contract=contract.codec,
        description="train_unet",
    )  # fmt: skip
    figures = {**dataclasses.asdict(result), "last_validation": validation.scalars}
    if state.is_main_process:
        run.finish(figures)
        if (address := push_run(run.path, config.hub)) is not None:
            print(f"pushed: {address}")
        print(f"world: {run.path / 'world'}   {validation.summary()}")
    return figures


def open_windows(config: Config, contract: WorldContract, device: torch.device) -> dict[str, Windows]:
    """The windows of the training and of the validation split."""
    return {
        split: Windows(
            load_table(config.latents, split, device=device if config.keep_on_device else "cpu"),
            contract.game, config.context_length, extra=config.loss.self_rollout_steps,
            cross_resets=config.cross_resets, padded=config.padded_contexts,
        )
        for split in ("train", "validation")
    }  # fmt: skip


def make_contract(config: Config, codec: CodecContract, starts: Sequence[StartState]) -> WorldContract:
    """The contract of the world that this run makes; the game's colours are those of its start states."""
    if config.resolution is not None and config.resolution != (codec.game.frame_height, codec.game.frame_width):
        raise ValueError(
            f"{config.latents}: frames are {codec.game.frame_height}x{codec.game.frame_width}, --resolution asks for "
            f"{config.resolution[0]}x{config.resolution[1]}"
        )
    return WorldContract(
        codec=codec,
        kind=KIND,
        context_length=config.context_length,
        settings=world_settings(
            config.loss.max_noise_level, config.prediction_type, config.scene_prior, config.action_planes,
            noise_planes=config.loss.loss_type == "energy",
            palette=measure_palette([start.frames for start in starts]) if config.palette else None,
            num_inference_steps=config.num_inference_steps,
        ),
    )  # fmt: skip


def input_fingerprint(config: Config) -> str:
    """Of the latents, their marks if they are used, and the world on this machine that the training begins with."""
    files = [Path(config.latents) / MARKS_FILE] if config.drawing.turn_share else []
    if config.pretrained_model_name_or_path:
        files.append(Path(config.pretrained_model_name_or_path) / MANIFEST_FILE)
    return " ".join([latents_fingerprint(config.latents), *(sha256_file(file) for file in files if file.is_file())])


def make_unet(config: Config, contract: WorldContract) -> UNet2DConditionModel:
    """From scratch, or from one that was trained."""
    if config.pretrained_model_name_or_path is None:
        if config.deepen_to is not None:
            raise ValueError(
                "--deepen_to adds layers to a trained UNet: name one by --pretrained_model_name_or_path, or "
                f"build a new one with --layers_per_block {config.deepen_to}"
            )
        torch.manual_seed(config.training.seed)
        unet = build_unet(config.denoiser, contract)
    else:
        unet = load_unet(
            config.pretrained_model_name_or_path, contract, revision=config.revision, variant=config.variant,
            cache_dir=config.cache_dir, seed=config.training.seed,
        )  # fmt: skip
        unet = deepen(unet, config.deepen_to, config.training.seed)
    return add_lora(unet, config.lora).to(memory_format=torch.channels_last)


if __name__ == "__main__":
    main(parse(PRESETS))
