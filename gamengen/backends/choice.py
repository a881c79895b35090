"""Which backend plays: by name, or the fastest, measured on this world and this machine."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from gamengen.backends.agreement import check_step
from gamengen.backends.cache import exported
from gamengen.backends.compiled import CompiledBackend
from gamengen.backends.eager import Backend, EagerBackend
from gamengen.backends.example import example_inputs
from gamengen.backends.onnx import OnnxBackend
from gamengen.diffusion.pipeline import GameNGenPipeline

BACKENDS = ("auto", "torch", "compile", "onnx")
ROUNDS = 7
TIME_LIMIT = 6.0
"""Seconds that measuring takes at most, beyond the first two rounds; compiling and exporting are not counted."""


@dataclass(frozen=True)
class Candidate:
    """One way to run a world, as it was measured."""

    backend: str
    num_threads: int
    step_ms: float | None = None
    """Median milliseconds of one denoising step of all worlds; None when it was not measured."""
    decode_ms: float | None = None
    reason: str = ""
    """Why it was not measured."""

    def frame_ms(self, num_inference_steps: int) -> float:
        """Milliseconds of a whole frame; infinite when it was not measured."""
        if self.step_ms is None or self.decode_ms is None:
            return float("inf")
        return num_inference_steps * self.step_ms + self.decode_ms

    def describe(self, num_inference_steps: int) -> str:
        """Such as `onnx, 2 threads: 31.4 ms`."""
        threads = f", {self.num_threads} thread{'s' if self.num_threads != 1 else ''}" if self.num_threads else ""
        result = self.reason if self.step_ms is None else f"{self.frame_ms(num_inference_steps):.1f} ms"
        return f"{self.backend}{threads}: {result}"


@dataclass(frozen=True)
class BackendChoice:
    """What plays a world, and what it was chosen from."""

    name: str
    num_threads: int
    num_worlds: int
    num_inference_steps: int
    """Steps a frame that the choice was made for."""
    candidates: tuple[Candidate, ...] = ()
    """Fastest first; empty when the backend was named."""

    def summary(self) -> str:
        """A line to show."""
        threads = f"{self.name}, {self.num_threads} thread{'s' if self.num_threads != 1 else ''}"
        if not self.candidates:
            return f"backend {threads}"
        others = "; ".join(candidate.describe(self.num_inference_steps) for candidate in self.candidates)
        games = f", {self.num_worlds} worlds" if self.num_worlds > 1 else ""
        steps = f"{self.num_inference_steps} step{'s' if self.num_inference_steps != 1 else ''}"
        return f"backend {threads}: a frame at {steps}{games} takes {others}"


def make_backend(
    pipeline: GameNGenPipeline,
    name: str = "torch",
    *,
    num_worlds: int = 1,
    num_inference_steps: int = 4,
    num_threads: int | None = None,
    cache_dir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Backend, BackendChoice]:
    """The backend of a name, ready to play.

    Args:
        pipeline: on its device and in its dtype.
        name: one of `BACKENDS`.
        num_worlds: B, the batch that it is made ready for and measured with.
        num_threads: CPU threads; None leaves PyTorch's number, and lets `auto` try less.
        progress: is told what is under way.
    Raises:
        ValueError: an unknown name; `onnx` for a world that is not float32 on the CPU; a backend that does not agree
            with the reference.
        ImportError: the extra is not installed. RuntimeError: it cannot be compiled here.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {name!r}")
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"num_threads: expected at least 1, got {num_threads}")
    say = progress or (lambda text: None)
    if name == "auto":
        chosen, candidates = _fastest(pipeline, num_worlds, num_inference_steps, num_threads, cache_dir, say)
    else:
        chosen, candidates = _make(pipeline, name, num_worlds, num_threads, cache_dir, say), ()
    choice = BackendChoice(chosen.name, chosen.num_threads, num_worlds, num_inference_steps, candidates)
    say(choice.summary())
    return chosen, choice


def _make(
    pipeline: GameNGenPipeline,
    name: str,
    num_worlds: int,
    num_threads: int | None,
    cache_dir: str | Path | None,
    say: Callable[[str], None],
) -> Backend:
    if name == "torch":
        return EagerBackend(pipeline, num_threads)
    if name == "compile":
        say("compiling the networks: a minute or more")
        compiled = CompiledBackend(pipeline, num_worlds, num_threads)
        check_step(pipeline, compiled, num_worlds)
        return compiled
    if (pipeline.unet.device.type, pipeline.unet.dtype) != ("cpu", torch.float32):
        raise ValueError(
            f"backend onnx plays float32 worlds on the CPU, this one is {pipeline.unet.dtype} on "
            f"{pipeline.unet.device}; take the backend compile there"
        )
    backend = OnnxBackend(exported(pipeline, cache_dir, say), num_threads)
    check_step(pipeline, backend, num_worlds)
    return backend


def _fastest(
    pipeline: GameNGenPipeline,
    num_worlds: int,
    num_inference_steps: int,
    num_threads: int | None,
    cache_dir: str | Path | None,
    say: Callable[[str], None],
) -> tuple[Backend, tuple[Candidate, ...]]:
    """Measure what can play this world here, and take the best."""
    on_cpu = pipeline.unet.device.type == "cpu"
    threads = thread_counts(num_threads) if on_cpu else [num_threads or torch.get_num_threads()]
    backends: list[Backend] = [EagerBackend(pipeline, count) for count in threads]
    left_out = []
    if on_cpu:
        left_out.append(Candidate("compile", 0, reason="not tried, compiling takes minutes"))
        try:
            backends += [_make(pipeline, "onnx", num_worlds, count, cache_dir, say) for count in threads]
        except (ImportError, OSError, ValueError) as error:
            left_out.append(Candidate("onnx", 0, reason=str(error)))
    else:
        try:
            backends.append(_make(pipeline, "compile", num_worlds, threads[0], cache_dir, say))
        except (RuntimeError, ValueError) as error:
            left_out.append(Candidate("compile", 0, reason=str(error)))
    say(f"measuring {len(backends)} ways to run this world")
    measured = measure(pipeline, backends, num_worlds)
    order = sorted(range(len(backends)), key=lambda i: measured[i].frame_ms(num_inference_steps))
    return backends[order[0]], (*(measured[i] for i in order), *left_out)


def thread_counts(num_threads: int | None = None) -> list[int]:
    """Numbers to try: 1, 2, 4 ... up to PyTorch's own, which OMP_NUM_THREADS lowers, and to this process's cores."""
    if num_threads is not None:
        return [num_threads]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = min(torch.get_num_threads(), cores)
    return sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)})


@torch.inference_mode()
def measure(pipeline: GameNGenPipeline, backends: list[Backend], num_worlds: int) -> list[Candidate]:
    """Time a denoising step and a decoding of each.

    In turns, so that whatever else the machine does meets all alike; at least one round to warm up and one that counts.
    """
    inputs = example_inputs(pipeline, num_worlds)
    times: list[list[tuple[float, float]]] = [[] for _ in backends]
    started = time.perf_counter()
    for turn in range(ROUNDS + 1):
        for place, backend in enumerate(backends):
            clock = [_now(pipeline)]
            backend.network(*inputs)
            clock.append(_now(pipeline))
            backend.decode(inputs[0])
            clock.append(_now(pipeline))
            if turn:
                times[place].append((clock[1] - clock[0], clock[2] - clock[1]))
        if turn and time.perf_counter() - started > TIME_LIMIT:
            break
    medians = [[1e3 * statistics.median(column) for column in zip(*rows, strict=True)] for rows in times]
    return [Candidate(b.name, b.num_threads, *row) for b, row in zip(backends, medians, strict=True)]


def _now(pipeline: GameNGenPipeline) -> float:
    """Seconds, after the device has done what it was given."""
    if pipeline.unet.device.type == "cuda":
        torch.cuda.synchronize(pipeline.unet.device)
    return time.perf_counter()
