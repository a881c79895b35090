"""What the stages cost on this machine: plain functions that time and count, for `scripts/benchmark.py`."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gamengen.backends.example import example_inputs
from gamengen.codecs.autoencoder import AutoencoderCodec
from gamengen.dataset.episodes import list_episodes, read_episodes
from gamengen.diffusion.latent_world import LatentWorld
from gamengen.machine import processor
from gamengen.noise import play_noise


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, over several."""

    median_ms: float
    p95_ms: float
    p99_ms: float
    least_ms: float
    count: int
    """Calls that were timed."""


def timing_of(times_ms: Sequence[float]) -> Timing:
    """The figures of measured times: percentiles by the nearest rank, so that each is a time that occurred.

    Raises:
        ValueError: there are none.
    """
    if not times_ms:
        raise ValueError("timing_of: expected at least one time, got none")
    ordered = sorted(times_ms)
    p95, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.95, 0.99))
    return Timing(statistics.median(ordered), p95, p99, ordered[0], len(ordered))


def timing(call: Callable[[], object], *, repeats: int = 40, warmup: int = 5) -> Timing:
    """Time a call; waits for the GPU where there is one."""
    return timing_of(times_in_turn({"call": call}, repeats=repeats, warmup=warmup)["call"])


def times_in_turn(
    calls: Mapping[str, Callable[[], object]], *, repeats: int = 40, warmup: int = 5
) -> dict[str, list[float]]:
    """Milliseconds of every call, one of each after the other again and again.

    What else the machine does meets all alike so, and the times of one turn may be added and subtracted.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(warmup + repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat >= warmup:
                times[name].append((time.perf_counter() - started) * 1e3)
    return times


def machine() -> str:
    """The machine in one line: processor, cores, threads, accelerator."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}{gpu}"


def encoding_speed(codec: AutoencoderCodec, dataset: str | Path, num_frames: int) -> float:
    """Frames a second through the encoder, reading them from the dataset not counted."""
    episode = next(iter(read_episodes(dataset)))
    frames = torch.as_tensor(episode.frames[:num_frames])
    return len(frames) / (timing(lambda: codec.encode(frames), repeats=3, warmup=1).median_ms / 1e3)


REST = "everything else in a frame"


def play_speed(world: LatentWorld, steps: Sequence[int] = (1, 2, 4)) -> dict[str, Timing]:
    """The parts of a frame, what a frame of one step takes beyond them (sampler, context, copies, Python), and the
    whole of it at each number of steps, all worlds together, on their backend."""
    example = example_inputs(world.pipeline, world.num_worlds)
    seeds = list(range(world.num_worlds))
    action = [world.contract.game.noop_action] * world.num_worlds
    world.set_option("num_inference_steps", 1)
    with torch.inference_mode():
        parts = {
            "UNet": lambda: world.backend.network(*example),
            "decoder": lambda: world.backend.decode(example[0]),
            "noise": lambda: play_noise(seeds, seeds).normal("target", world.contract.codec.array_shape),
        }
        times = times_in_turn({**parts, REST: lambda: world.step(action)})
    rest = [whole - sum(turn) for whole, *turn in zip(times[REST], *(times[name] for name in parts), strict=True)]
    result = {name: timing_of(values) for name, values in {**times, REST: rest}.items()}
    for count in steps:
        world.set_option("num_inference_steps", count)
        result[f"frame, {count} step{'s' if count > 1 else ''}"] = timing(lambda: world.step(action))
    return result


def dataset_bytes(dataset: str | Path) -> float:
    """Bytes on disk a frame of an episode dataset."""
    files = [file for file in (Path(dataset) / "data").rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / sum(info.num_frames for info in list_episodes(dataset))
