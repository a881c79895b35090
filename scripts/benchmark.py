"""What every stage costs on this machine, in one run: recording, encoding, loading, training, playing, disk.

Reads   a run folder of scripts/make_world.py (data/, latents/, world/, and agent/ppo.zip where there is one).
Writes  <run>/benchmark.json; prints a table. With --play: only how fast the world plays, by backend, threads, worlds
        and steps, into <run>/benchmark_play.json; the run folder may then be a world folder. With --reliability: only
        what checkpoints, checksums and deterministic algorithms cost, into <run>/benchmark_reliability.json.
Example
    python scripts/benchmark.py --run runs/demo
    python scripts/benchmark.py --run runs/demo --play --play_backends torch onnx --play_threads 1 2
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import torch

from agents.mix import make_players
from agents.recorder import Recorder, RecorderSettings
from agents.sb3_policy import load_policy
from gamengen.benchmarks.chain import dataset_bytes, encoding_speed, machine, play_speed
from gamengen.benchmarks.play import measure_play, play_table
from gamengen.benchmarks.reliability import measure_reliability
from gamengen.config import parse
from gamengen.contract import read_game_contract
from gamengen.diffusion.latent_world import LatentWorld
from gamengen.diffusion.loss import LatentDiffusionLoss, LossConfig
from gamengen.diffusion.scene import Scene
from gamengen.diffusion.schedule import read_schedule
from gamengen.durable import read_json, write_json
from gamengen.latents.shards import load_codec, load_table
from gamengen.latents.windows import Windows
from gamengen.loading import load_pipeline, load_start_states, load_world
from gamengen.run_folder import print_plan
from gamengen.training.loop import BatchFunction, Modules, TrainingConfig, train


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every stage costs on this machine."""

    preset: str = "default"
    run: str = "runs/demo"
    record_frames: int = 3000
    encode_frames: int = 512
    train_steps: int = 15
    train_batch_size: int = 32
    num_worlds: int = 1
    """Games stepped together while playing."""
    play: bool = False
    """Only measure playing, in every way that the following flags name."""
    play_backends: tuple[str, ...] = ()
    """torch, onnx, compile, auto; by default torch and onnx on a CPU, torch and compile on a GPU."""
    play_threads: tuple[int, ...] = (1, 2)
    """CPU threads of a world."""
    play_worlds: tuple[int, ...] = (1, 4, 16)
    """Games stepped together."""
    play_steps: tuple[int, ...] = (1, 2, 4)
    """Denoising steps a frame."""
    play_seconds: float = 4.0
    """For each number of threads, worlds and steps, all backends together."""
    reliability: bool = False
    """Only measure what it costs that a killed training run goes on bit for bit."""
    device: str = "auto"
    dry_run: bool = False


PRESETS = {
    "default": Config(),
    "tiny": Config(
        preset="tiny", record_frames=60, encode_frames=16, train_steps=3, play_worlds=(1, 2), play_seconds=0.0
    ),
}


def main(config: Config) -> dict[str, str]:
    if config.dry_run:
        print_plan("benchmark", config, {"time": "about a minute"})
        return {}
    if config.play:
        return play(config)
    if config.reliability:
        return reliability(config)
    run = Path(config.run)
    table: dict[str, str] = {}
    for name, policy in (("scripted player", "scripted"), ("PPO policy", str(run / "agent" / "ppo.zip"))):
        if policy == "scripted" or Path(policy).is_file():
            table[f"recording, {name}"] = f"{recording_speed(run / 'data', policy, config.record_frames):.0f} frames/s"
    codec = load_codec(run / "latents")
    table["encoding"] = f"{encoding_speed(codec, run / 'data', config.encode_frames):.0f} frames/s"
    table |= training_speed(config, run)
    world = LatentWorld(load_pipeline(run), config.num_worlds, device=device_of(config))
    world.reset(world.pipeline.start_states[:1] * config.num_worlds, range(config.num_worlds))
    parts = play_speed(world)
    for name, timing in parts.items():
        rate = f", {1e3 * config.num_worlds / timing.median_ms:.0f} frames/s" if name.startswith("frame") else ""
        table[f"play, {name}"] = f"{timing.median_ms:.1f} ms (p95 {timing.p95_ms:.1f}){rate}"
    table["disk, episodes"] = f"{dataset_bytes(run / 'data'):.0f} bytes a frame"
    index = read_json(run / "latents" / "index.json")["shards"]
    size = sum(shard["bytes"] for shard in index) / sum(shard["rows"] for shard in index)
    table["disk, latents"] = f"{size:.0f} bytes a frame"
    width = max(map(len, table))
    print(f"\n{machine()}, {date.today().isoformat()}")
    for name, value in table.items():
        print(f"  {name:<{width}}  {value}")
    record = {"machine": machine(), "date": date.today().isoformat(), "config": asdict(config), "table": table}
    write_json(run / "benchmark.json", record)
    return table


def play(config: Config) -> dict[str, str]:
    """Every way to play the world, in one run."""
    device = device_of(config)
    backends = config.play_backends or (("torch", "onnx") if device == "cpu" else ("torch", "compile"))
    speeds = measure_play(
        lambda backend, num_threads, num_worlds: load_world(
            config.run, num_worlds, device=device, backend=backend, num_threads=num_threads, progress=print
        ),
        load_start_states(config.run),
        backends=backends,
        threads=config.play_threads,
        worlds=config.play_worlds,
        steps=config.play_steps,
        seconds=config.play_seconds,
        progress=print,
    )
    lines = play_table(speeds)
    print(f"\n{machine()}, {date.today().isoformat()}", *lines, sep="\n  ")
    rows = [speed.row() for speed in speeds]
    record = {"machine": machine(), "date": date.today().isoformat(), "config": asdict(config), "rows": rows}
    write_json(Path(config.run) / "benchmark_play.json", record)
    return {f"row {number}": line for number, line in enumerate(lines)}


def device_of(config: Config) -> str:
    """The device that the flags name."""
    if config.device != "auto":
        return config.device
    return "cuda" if torch.cuda.is_available() else "cpu"


def recording_speed(dataset: Path, policy: str, num_frames: int) -> float:
    """Frames a second of one process, PNG encoding and writing included."""
    game = read_game_contract(dataset)
    players = make_players(
        policy, game, 0.0, lambda path: load_policy(path, game, batch_size=RecorderSettings(num_steps=1).num_envs)
    )
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(folder, game, players, RecorderSettings(num_steps=num_frames))
        started = time.perf_counter()
        recorder.run()
        return num_frames / (time.perf_counter() - started)


def reliability(config: Config) -> dict[str, str]:
    """Checkpoints, checksums and deterministic algorithms against the training of the run's own UNet."""
    training = TrainingConfig(train_batch_size=config.train_batch_size, report_to="none")
    with tempfile.TemporaryDirectory(dir=config.run) as folder:  # on the disk that a run would write to
        cost = measure_reliability(*training_parts(config, Path(config.run)), training, folder)
    table = cost.table()
    width = max(map(len, table))
    print(f"\n{machine()}, {date.today().isoformat()}")
    for name, value in table.items():
        print(f"  {name:<{width}}  {value}")
    record = {"machine": machine(), "date": date.today().isoformat(), "config": asdict(config), "cost": asdict(cost)}
    write_json(Path(config.run) / "benchmark_reliability.json", {**record, "table": table})
    return table


def training_parts(config: Config, run: Path) -> tuple[Modules, LatentDiffusionLoss, BatchFunction]:
    """The run's own UNet, its loss, and batches of its own data."""
    pipeline = load_pipeline(run, parts=True)
    contract = pipeline.world_contract
    loss = LossConfig(max_noise_level=contract.settings["max_noise_level"])
    shape = contract.codec.array_shape
    scene = pipeline.scene or Scene(torch.zeros(shape), torch.ones(shape))  # time does not ask for what stands still
    loss_fn = LatentDiffusionLoss(loss, contract, read_schedule(pipeline.scheduler), scene)
    table = load_table(run / "latents", "train")
    windows = Windows(table, contract.game, contract.context_length, extra=loss.self_rollout_steps)

    def batch_fn(step: int, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        return windows.shuffled(0, [step * config.train_batch_size + i for i in indices]).tensors()

    return {"unet": pipeline.unet}, loss_fn, batch_fn


def training_speed(config: Config, run: Path) -> dict[str, str]:
    """A few real optimizer steps of the run's own UNet; the share of the time that making batches takes."""
    modules, loss_fn, batch_fn = training_parts(config, run)
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            TrainingConfig(
                max_train_steps=config.train_steps, train_batch_size=config.train_batch_size, report_to="none",
                checkpointing_steps=0, validation_steps=0,
            ),
            modules, loss_fn, batch_fn, folder, description="timing",
        )  # fmt: skip
    step_ms, fetch_ms = (1e3 * value / result.steps for value in (result.step_seconds, result.fetch_seconds))
    return {
        "training, whole step": f"{step_ms:.0f} ms at batch {config.train_batch_size}",
        "training, loader and noise": f"{fetch_ms:.1f} ms, {100 * fetch_ms / step_ms:.1f} % of the step",
    }


if __name__ == "__main__":
    main(parse(PRESETS))
