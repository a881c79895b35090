"""One Accelerate loop over `loss_fn(modules, batch, noise)`: accumulate, clip, EMA, publish checkpoints, resume.

Every trainer uses it. Nothing here knows what a batch or a module is. A sample is named by (optimizer step,
index in the global batch): the batch and its noise are functions of that name, so neither the number of ranks,
nor accumulation, nor a resume changes what is learned.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from gamengen.durable import folder_lock
from gamengen.training.config import (
    Batch,
    BatchFunction,
    LossFunction,
    LossOutput,
    Modules,
    TrainingConfig,
    TrainingResult,
)
from gamengen.training.prefetch import Prefetch
from gamengen.training.run import TrainingRun
from gamengen.training.state import Contract, load_weights

__all__ = [
    "Batch",
    "BatchFunction",
    "LossFunction",
    "LossOutput",
    "Modules",
    "TrainingConfig",
    "TrainingResult",
    "load_weights",
    "train",
]

logger = logging.getLogger(__name__)


def train(
    config: TrainingConfig,
    modules: Modules,
    loss_fn: LossFunction,
    batch_fn: BatchFunction,
    output_dir: str | Path,
    *,
    validate: Callable[[Modules, int], Mapping[str, Any]] | None = None,
    contract: Contract | None = None,
    description: str = "training",
) -> TrainingResult:
    """Train the parameters of `modules` that require a gradient; every rank calls this.

    Args:
        modules: by the name that their folder gets in a checkpoint. Left with the final weights (EMA if used).
        validate: called with the EMA weights in place, on the main process, every `validation_steps` and at the end.
        contract: of the data; it goes into the checkpoints, and those of other data are refused.
    Raises:
        ContractMismatch: the checkpoint to continue from is of another game or codec.
        ValueError: the launcher started another number of ranks than asked for, a checkpoint does not fit, or
            another process trains into the same folder.
        FloatingPointError: the loss stayed non-finite; the last finite state is saved.
    """
    with deterministic_algorithms(config.deterministic):
        run = TrainingRun(config, modules, loss_fn, Path(output_dir), contract)
        with _alone(Path(output_dir)) if run.accelerator.is_main_process else contextlib.nullcontext():
            run.resume()
            _loop(run, batch_fn, validate, description)
            return run.finish()


def _loop(
    run: TrainingRun,
    batch_fn: BatchFunction,
    validate: Callable[[Modules, int], Mapping[str, Any]] | None,
    description: str,
) -> None:
    config = run.config
    progress_bar = tqdm(
        total=config.max_train_steps,
        initial=run.step,
        desc=description,
        unit="step",
        disable=not run.accelerator.is_main_process,
        dynamic_ncols=True,
    )
    with (
        contextlib.closing(run.metrics),
        contextlib.closing(Prefetch(batch_fn, config.dataloader_num_workers)) as batches,
        progress_bar,
    ):
        while run.progress() < 1.0:
            logs = run.optimize(batches)
            progress_bar.update()
            progress_bar.set_postfix({k: f"{v:.4g}" for k, v in logs.items()}, refresh=False)
            if config.validation_steps and run.step % config.validation_steps == 0 and run.progress() < 1.0:
                run.validate(validate)
            if config.checkpointing_steps and run.step % config.checkpointing_steps == 0:
                run.save()
        if run.saved_step != run.step:
            run.save()
        run.validate(validate)


@contextlib.contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Inside this block torch uses algorithms whose results repeat; one that it has no such form of, it warns of."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # its attributes carry no types
    fill, benchmark = memory.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False  # for finding bugs, and not free
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark


@contextlib.contextmanager
def _alone(output_dir: Path) -> Iterator[None]:
    """Hold the run's folder: processes that do not know of each other would each think to be the first rank."""
    output_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder_lock(output_dir, wait=False))
        except BlockingIOError as error:
            raise ValueError(
                f"another process trains into {output_dir}: choose another folder, or, if both should be ranks of one "
                "run, start them with torchrun or accelerate launch"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            logger.warning("%s: its file system has no locks; a second run into it would not be noticed", output_dir)
        yield
