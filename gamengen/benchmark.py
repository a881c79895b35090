"""What the stages cost on this machine: plain functions that time and count, for `scripts/benchmark.py`."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gamengen.autoencoder import AutoencoderCodec
from gamengen.episodes import list_episodes, read_episodes
from gamengen.latent_world import LatentWorld
from gamengen.machine import processor
from gamengen.noise import play_noise


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, over several."""

    median_ms: float
    p95_ms: float
    least_ms: float


def timing(call: Callable[[], object], *, repeats: int = 40, warmup: int = 5) -> Timing:
    """Time a call; waits for the GPU where there is one."""
    times = []
    for repeat in range(warmup + repeats):
        started = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if repeat >= warmup:
            times.append((time.perf_counter() - started) * 1e3)
    times.sort()
    return Timing(statistics.median(times), times[int(0.95 * (len(times) - 1))], times[0])


def machine() -> str:
    """The machine in one line: processor, cores, threads, accelerator."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}{gpu}"


def encoding_speed(codec: AutoencoderCodec, dataset: str | Path, num_frames: int) -> float:
    """Frames a second through the encoder, reading them from the dataset not counted."""
    episode = next(iter(read_episodes(dataset)))
    frames = torch.as_tensor(episode.frames[:num_frames])
    return len(frames) / (timing(lambda: codec.encode(frames), repeats=3, warmup=1).median_ms / 1e3)


def play_speed(world: LatentWorld, steps: Sequence[int] = (1, 2, 4)) -> dict[str, Timing]:
    """One UNet forward, one decode, and the whole frame at each number of steps, all worlds together."""
    context, actions = world._context.window, world._actions.to(world.device)
    noise = play_noise([0] * world.num_worlds, [0] * world.num_worlds)
    latent = noise.normal("target", world.contract.codec.array_shape).to(world.device, world.dtype)
    result = {
        "UNet": timing(lambda: world.pipeline(context, actions, latent, num_inference_steps=1)),
        "decoder": timing(lambda: world.pipeline.decode_latents(latent)),
    }
    action = [world.contract.game.noop_action] * world.num_worlds
    for count in steps:
        world.set_option("num_inference_steps", count)
        result[f"frame, {count} step{'s' if count > 1 else ''}"] = timing(lambda: world.step(action))
    return result


def dataset_bytes(dataset: str | Path) -> float:
    """Bytes on disk a frame of an episode dataset."""
    files = [file for file in (Path(dataset) / "data").rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / sum(info.num_frames for info in list_episodes(dataset))
