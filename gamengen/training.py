"""One Accelerate loop over `loss_fn(modules, batch, noise)`: accumulate, clip, EMA, publish checkpoints, resume.

Every trainer uses it. Nothing here knows what a batch or a module is. A sample is named by (optimizer step,
index in the global batch): the batch and its noise are functions of that name, so neither the number of ranks,
nor accumulation, nor a resume changes what is learned.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from gamengen.prefetch import Prefetch
from gamengen.training_config import (
    Batch,
    BatchFunction,
    LossFunction,
    LossOutput,
    Modules,
    TrainingConfig,
    TrainingResult,
)
from gamengen.training_run import TrainingRun, load_weights

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


def train(
    config: TrainingConfig,
    modules: Modules,
    loss_fn: LossFunction,
    batch_fn: BatchFunction,
    output_dir: str | Path,
    *,
    validate: Callable[[Modules, int], Mapping[str, Any]] | None = None,
    description: str = "training",
) -> TrainingResult:
    """Train the parameters of `modules` that require a gradient; every rank calls this.

    Args:
        modules: by the name that their folder gets in a checkpoint. Left with the final weights (EMA if used).
        validate: called with the EMA weights in place, on the main process, every `validation_steps` and at the end.
    Raises:
        ValueError: the launcher started another number of ranks than asked for, or a checkpoint does not fit.
        FloatingPointError: the loss stayed non-finite; the last finite state is saved.
    """
    run = TrainingRun(config, modules, loss_fn, Path(output_dir))
    run.resume()
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
    return run.finish()
