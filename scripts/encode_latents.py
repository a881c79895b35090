"""Encode recorded episodes into latent shards with checksums, statistics, the codec and start states beside them.

Reads   an episode dataset, and a VAE: a folder of scripts/train_vae.py, a world, a stock autoencoder on disk or on
        the Hub, or `identity` for pixel-space worlds.
Writes  <output_dir>/{<split>-<k>.pt, index.json, statistics.pt, start_states.parquet, vae/}. Killed or repeated, it
        keeps the shards that are intact. Several processes share the work: `accelerate launch`, or one command for each
        `--shard_id` of `--num_shards`; the last to end finishes the folder.
Example
    python scripts/encode_latents.py --dataset data/breakout --vae runs/breakout/vae --output_dir data/breakout-latents
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from accelerate import PartialState

from gamengen.codecs.autoencoder import AutoencoderCodec
from gamengen.codecs.codec import Codec, IdentityCodec
from gamengen.codecs.opening import open_codec
from gamengen.config import parse
from gamengen.contract import read_game_contract
from gamengen.dataset.episodes import dataset_fingerprint, list_episodes
from gamengen.durable import read_json
from gamengen.hub.repository import resolve_dataset
from gamengen.latents.encoding import array_bytes, encode_dataset
from gamengen.latents.finishing import StartStateConfig, finalise
from gamengen.latents.shards import INDEX_FILE
from gamengen.run_folder import RunFolder, print_plan
from gamengen.training.ranks import check_ranks

TIMED_FRAMES = 64


@dataclass(frozen=True, kw_only=True)
class Config:
    """Encode recorded episodes into latent shards."""

    preset: str = "small"
    dataset: str = tyro.MISSING
    """Folder of scripts/record_episodes.py, or a Hub id."""
    dataset_revision: str | None = None
    """Branch, tag or commit of a dataset on the Hub."""
    streaming: bool = False
    """Fetch a dataset on the Hub file by file while encoding, instead of downloading it first; no frame is kept."""
    vae: str = tyro.MISSING
    """Folder of scripts/train_vae.py, a world, another stock autoencoder, a Hub id, or `identity`."""
    revision: str | None = None
    variant: str | None = None
    output_dir: str = tyro.MISSING
    shard_rows: int | None = None
    """Frames of a shard file, in whole episodes; as many as 128 MB hold when not given."""
    shard_id: int | None = None
    """Which of num_shards processes this is; from the launcher when not given."""
    num_shards: int | None = None
    seed: int = 0
    """Of the choice of start states."""
    starts: StartStateConfig = field(default_factory=StartStateConfig)
    dry_run: bool = False
    """Print the config and what it will cost, and stop."""
    overwrite: bool = False
    """Start over in an output folder of another config."""


PRESETS = {
    "tiny": Config(
        preset="tiny", starts=StartStateConfig(num_start_states=4, start_state_frames=4, start_state_horizon=16)
    ),
    "demo": Config(preset="demo", shard_rows=2048),  # small shards: two processes share 16 k frames evenly
    "small": Config(preset="small"),
    "atari": Config(preset="atari", starts=StartStateConfig(num_start_states=64, start_state_frames=64)),
    # GameNGen's codec: Stable Diffusion's autoencoder, its decoder fine-tuned later.
    "paper": Config(
        preset="paper", vae="stabilityai/sd-vae-ft-mse",
        starts=StartStateConfig(num_start_states=64, start_state_frames=64),
    ),
}  # fmt: skip


def main(config: Config) -> dict[str, Any]:
    state = PartialState(cpu=not torch.cuda.is_available())
    if config.num_shards is None:
        check_ranks(state.num_processes, device=state.device.type)
    shard_id = state.process_index if config.shard_id is None else config.shard_id
    num_shards = state.num_processes if config.num_shards is None else config.num_shards
    asked = config
    dataset = resolve_dataset(config.dataset, revision=config.dataset_revision, streaming=config.streaming)
    config = dataclasses.replace(config, dataset=str(dataset))
    codec = make_codec(config, state.device)
    if config.dry_run:
        print_plan("encode_latents", config, cost_of(config, codec, num_shards))
        return {}
    run = RunFolder.open(
        config.output_dir, "encode_latents", asked, overwrite=config.overwrite,
        ignore=("shard_id", "num_shards", "vae", "dataset", "dataset_revision", "streaming"),
        data_fingerprint=f"{dataset_fingerprint(config.dataset)} {codec.contract.fingerprint}",
        file_name="run.json" if num_shards == 1 else f"run-{shard_id}-of-{num_shards}.json",
    )  # fmt: skip
    result = encode_dataset(
        config.dataset, codec, run.path, shard_id=shard_id, num_shards=num_shards, shard_rows=config.shard_rows,
        codec_from=config.vae,
    )  # fmt: skip
    figures: dict[str, Any] = dataclasses.asdict(result)
    figures["frames_per_second"] = result.frames / result.seconds if result.frames else None
    if result.complete:
        finalise(config.dataset, codec, run.path, shard_rows=config.shard_rows, starts=config.starts, seed=config.seed)
        shards = read_json(Path(run.path) / INDEX_FILE)["shards"]
        rows = sum(shard["rows"] for shard in shards)
        figures["bytes_per_frame"] = sum(shard["bytes"] for shard in shards) / rows
        figures["latent_shape"] = list(codec.contract.array_shape)
        print(f"latents: {run.path}   {rows} frames of {codec.contract.array_shape}, "
              f"{figures['bytes_per_frame']:.0f} bytes a frame")  # fmt: skip
    else:
        print(f"{run.path}: process {shard_id} of {num_shards} is done; the last one finishes the folder")
    if result.frames:
        print(f"encoded {result.frames} frames, {figures['frames_per_second']:.0f} frames/s")
    run.finish(figures)
    return figures


def make_codec(config: Config, device: torch.device) -> Codec:
    """The codec that the flags name, on the device."""
    game = read_game_contract(config.dataset)
    if config.vae == "identity":
        return IdentityCodec(game)
    codec: AutoencoderCodec = open_codec(config.vae, game, config.dataset, config.revision, config.variant)
    codec.vae.to(device).eval()
    return codec


def cost_of(config: Config, codec: Codec, num_shards: int) -> dict[str, str]:
    """Disk from the sizes, time from encoding a few frames."""
    frames = sum(info.num_frames for info in list_episodes(config.dataset))
    game = codec.contract.game
    blank = torch.zeros((TIMED_FRAMES, game.frame_height, game.frame_width, 3), dtype=torch.uint8)
    codec.encode(blank)
    started = time.perf_counter()
    codec.encode(blank)
    rate = TIMED_FRAMES / (time.perf_counter() - started)
    return {
        "frames": f"{frames}",
        "disk": f"{frames * (array_bytes(codec.contract) + 14) / 1e6:.1f} MB",
        "time": f"{frames / rate / num_shards / 60:.1f} minutes to encode ({rate:.0f} frames/s a process), and reading",
    }


if __name__ == "__main__":
    main(parse(PRESETS))
