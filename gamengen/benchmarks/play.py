"""How fast a world plays: by backend, threads, worlds and steps, against eager PyTorch, in one run."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gamengen.benchmarks.chain import Timing, timing_of
from gamengen.world import StartState, World

MIN_FRAMES = 10
"""Timed frames of a row, however long they take."""
WARMUP_FRAMES = 2
REFERENCE = "torch"


@dataclass(frozen=True)
class Way:
    """One way to play."""

    backend: str
    num_threads: int | None
    """None: the backend's own choice."""
    num_worlds: int
    num_inference_steps: int


@dataclass(frozen=True)
class PlaySpeed:
    """What one way gives."""

    way: Way
    frame: Timing
    """Milliseconds of a step of all worlds, with everything in it."""
    speedup: float | None
    """Against `REFERENCE` with as many threads, worlds and steps; None where that was not measured."""

    @property
    def fps(self) -> float:
        """Frames a second of each of the worlds."""
        return 1e3 / self.frame.median_ms

    def row(self) -> dict[str, float | int | str | None]:
        """As JSON values."""
        way, frame = self.way, self.frame
        return {
            "backend": way.backend,
            "num_threads": way.num_threads,
            "num_worlds": way.num_worlds,
            "num_inference_steps": way.num_inference_steps,
            "num_frames": frame.count,
            "fps": round(self.fps, 2),
            "frames_per_second": round(self.fps * way.num_worlds, 2),
            "p50_ms": round(frame.median_ms, 3),
            "p95_ms": round(frame.p95_ms, 3),
            "p99_ms": round(frame.p99_ms, 3),
            "least_ms": round(frame.least_ms, 3),
            "speedup": None if self.speedup is None else round(self.speedup, 3),
        }


def measure_play(
    load: Callable[[str, int | None, int], World],
    starts: Sequence[StartState],
    *,
    backends: Sequence[str],
    threads: Sequence[int | None],
    worlds: Sequence[int],
    steps: Sequence[int],
    seconds: float,
    progress: Callable[[str], object] = lambda text: None,
) -> list[PlaySpeed]:
    """Play with every combination.

    The backends of a combination take turns, a frame each, so that whatever else the machine does meets all alike, and
    their ratio holds on a busy machine too.

    Args:
        load: (backend, num_threads, num_worlds) -> a world that plays so.
        starts: where to begin; repeated when there are fewer than worlds.
        seconds: for each combination, all backends together; at least `MIN_FRAMES` frames of each.
    """
    found = []
    for num_threads, num_worlds in itertools.product(threads, worlds):
        playing = {}
        for backend in backends:
            progress(f"{backend}, {num_worlds} worlds: getting ready")
            playing[backend] = load(backend, num_threads, num_worlds)
        begin = (list(starts) * num_worlds)[:num_worlds]
        for world in playing.values():
            world.reset(begin, range(num_worlds))
        for count in steps:
            progress(f"{num_worlds} worlds, {num_threads or 'free'} threads, {count} steps")
            frames = _take_turns(playing, count, seconds)
            reference = frames.get(REFERENCE)
            for backend, frame in frames.items():
                speedup = None if reference is None else reference.median_ms / frame.median_ms
                found.append(PlaySpeed(Way(backend, num_threads, num_worlds, count), frame, speedup))
        for world in playing.values():
            world.close()
    return found


def _take_turns(playing: dict[str, World], num_inference_steps: int, seconds: float) -> dict[str, Timing]:
    times: dict[str, list[float]] = {backend: [] for backend in playing}
    for world in playing.values():
        world.set_option("num_inference_steps", num_inference_steps)
    started = time.perf_counter()
    for frame in itertools.count(-WARMUP_FRAMES):
        if frame >= MIN_FRAMES and time.perf_counter() - started > seconds:
            break
        for backend, world in playing.items():
            # Another action every few frames, as a player would: the same for all.
            action = (max(frame, 0) // 4) % world.contract.game.num_actions
            actions = np.full(world.num_worlds, action)
            before = time.perf_counter()
            world.step(actions)
            if frame >= 0:
                times[backend].append(1e3 * (time.perf_counter() - before))
    return {backend: timing_of(values) for backend, values in times.items()}


def play_table(speeds: Sequence[PlaySpeed]) -> list[str]:
    """Lines to print: a heading and a line a row."""
    lines = [
        f"{'backend':<8} {'threads':>7} {'worlds':>6} {'steps':>5} {'FPS':>7} "
        f"{'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'x torch':>7}"
    ]
    for speed in speeds:
        way, frame = speed.way, speed.frame
        ratio = "" if speed.speedup is None else f"{speed.speedup:.2f}"
        lines.append(
            f"{way.backend:<8} {way.num_threads or 'free':>7} {way.num_worlds:>6} {way.num_inference_steps:>5} "
            f"{speed.fps:>7.1f} {frame.median_ms:>8.1f} {frame.p95_ms:>8.1f} {frame.p99_ms:>8.1f} {ratio:>7}"
        )
    return lines
