"""What it costs that nothing gets lost: checkpoints, their checksums and deterministic algorithms, against training.

Everything is measured in one run of one process, and given as a share of training. Steps on a CPU are measured in
processor time, of which others on the machine take none; checkpoints by the clock, since they wait for the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gamengen.manifest import verify_manifest
from gamengen.training.config import BatchFunction, LossFunction, Modules, TrainingConfig
from gamengen.training.loop import deterministic_algorithms
from gamengen.training.prefetch import Prefetch
from gamengen.training.run import TrainingRun

ROUNDS = 8


@dataclass(frozen=True)
class ReliabilityCost:
    """Each figure is the least of `rounds` measurements: what a step costs, and not what others on the machine do."""

    step_ms: float
    """One optimizer step with deterministic algorithms, as `train` makes it."""
    free_step_ms: float
    """One without them."""
    checkpoint_ms: float
    """Gathering, writing, flushing, checksums, publishing and pruning."""
    verify_ms: float
    """Checking every sha256 of a checkpoint, as a resume does once; about what the checksums are of a checkpoint."""
    checkpoint_bytes: int
    interval: int
    """Steps from one checkpoint to the next."""

    @property
    def checkpoint_share(self) -> float:
        """Of training time, at the interval."""
        return self.checkpoint_ms / (self.interval * self.step_ms)

    @property
    def determinism_share(self) -> float:
        """Of training time; below 0 where the measurement cannot tell."""
        return self.step_ms / self.free_step_ms - 1.0

    @property
    def share(self) -> float:
        """Together."""
        return self.checkpoint_share + max(0.0, self.determinism_share)

    def table(self) -> dict[str, str]:
        """For people."""
        return {
            "a step": f"{self.step_ms:.0f} ms ({self.free_step_ms:.0f} ms without deterministic algorithms)",
            "a checkpoint": f"{self.checkpoint_ms:.0f} ms for {self.checkpoint_bytes / 1e6:.1f} MB, "
            f"{self.verify_ms:.0f} ms of it for sha256",
            "checkpoints": f"{100 * self.checkpoint_share:.2f} % of training, one in {self.interval} steps",
            "deterministic algorithms": f"{100 * self.determinism_share:+.2f} % of training",
            "together": f"{100 * self.share:.2f} % of training",
        }


def measure_reliability(
    modules: Modules,
    loss_fn: LossFunction,
    batch_fn: BatchFunction,
    config: TrainingConfig,
    output_dir: str | Path,
    *,
    rounds: int = ROUNDS,
) -> ReliabilityCost:
    """Make a few real steps and checkpoints of a run; steps with and without deterministic algorithms take turns.

    Args:
        modules, loss_fn, batch_fn, config: as for `training.train`; the modules are trained.
        output_dir: gets the checkpoints.
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    run = TrainingRun(config, modules, loss_fn, Path(output_dir))
    batches, on_cpu = Prefetch(batch_fn, 0), run.accelerator.device.type == "cpu"

    def step(deterministic: bool) -> float:
        with deterministic_algorithms(deterministic):
            return _ms(lambda: run.optimize(batches), time.process_time if on_cpu else time.perf_counter)

    step(True)  # the first one makes the optimizer's state
    steps, free, checkpoints, checks = [], [], [], []
    for _ in range(rounds):
        steps.append(step(True))
        free.append(step(False))
        checkpoints.append(_ms(run.save))
        folder = run.output_dir / f"checkpoint-{run.step}"
        checks.append(_ms(lambda folder=folder: verify_manifest(folder)))  # type: ignore[misc]
    run.metrics.close()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return ReliabilityCost(
        step_ms=min(steps), free_step_ms=min(free), checkpoint_ms=min(checkpoints), verify_ms=min(checks),
        checkpoint_bytes=size, interval=config.checkpointing_steps,
    )  # fmt: skip


def _ms(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    work()
    return 1e3 * (clock() - started)
