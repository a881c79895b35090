"""A training run of seconds on random rows, with everything real in it; also a program, for ranks and for kills.

Example
    python -m tests.train_tiny <output_dir> '{"max_train_steps": 6}' <kill at this step, or -1>
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gamengen.diffusion.loss import LatentDiffusionLoss, LossConfig
from gamengen.diffusion.schedule import build_scheduler, read_schedule
from gamengen.latents.windows import Windows
from gamengen.training.loop import Modules, TrainingConfig, TrainingResult, train
from tests.worlds import LENGTH, flat_scene, random_rows, tiny_contract, tiny_unet

GLOBAL_BATCH = 8
CONFIG = TrainingConfig(
    max_train_steps=6,
    train_batch_size=GLOBAL_BATCH,
    learning_rate=1e-3,
    lr_warmup_steps=2,
    # Without it Adam makes a whole step of the last bits of a gradient that is almost 0.
    adam_epsilon=1e-3,
    checkpointing_steps=2,
    validation_steps=0,
    report_to="none",
)


class Stop(Exception):
    """What ends a run in the middle."""


def run(
    output_dir: Path,
    config: TrainingConfig = CONFIG,
    *,
    stop_at: int = -1,
    kill_at: int = -1,
    poison: Sequence[int] = (),
    modules: Modules | None = None,
    **options: Any,
) -> tuple[Modules, TrainingResult]:
    """Train a tiny UNet; raise, or end the process, when the batch of a step is asked for.

    Args:
        poison: steps in which one sample, on the last rank, is not a number.
    """
    contract = tiny_contract()
    loss = LatentDiffusionLoss(
        LossConfig(), contract, read_schedule(build_scheduler("v_prediction")), flat_scene(contract)
    )
    windows = Windows(random_rows(contract), contract.game, LENGTH, extra=1)

    def batch_fn(step: int, indices: Sequence[int]) -> dict[str, Tensor]:
        if step == stop_at:
            raise Stop
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        batch = windows.shuffled(config.seed, [step * GLOBAL_BATCH + i for i in indices])
        if step in poison:
            batch.targets[[index == GLOBAL_BATCH - 1 for index in indices]] = torch.nan
        return batch.tensors()

    modules = modules or {"unet": tiny_unet(contract)}
    return modules, train(config, modules, loss, batch_fn, output_dir, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    values = json.loads(sys.argv[2])
    poisoned = values.pop("poison", ())
    run(Path(sys.argv[1]), replace(CONFIG, **values), kill_at=int(sys.argv[3]), poison=poisoned)
