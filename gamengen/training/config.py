"""What a trainer is told, what a loss function gives, and what training returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro
from diffusers import ModelMixin
from torch import Tensor

from gamengen.noise import Noise
from gamengen.training.optimizer import OptimizerConfig

Modules = dict[str, ModelMixin]
Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class LossOutput:
    """What a loss function gives for B samples."""

    per_sample: Tensor
    """float (B,): normalised within each sample, so that the mean over any split of a batch is the same."""
    logs: dict[str, Tensor] = field(default_factory=dict)
    """For the progress bar and the trackers, detached, the same names in every call: scalars, or (B,) with NaN for
    samples that have no such figure, averaged over the others."""


LossFunction = Callable[[Modules, Batch, Noise], LossOutput]
BatchFunction = Callable[[int, Sequence[int]], Batch]
"""(optimizer step, indices in the global batch) -> the samples, on any device."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(OptimizerConfig):
    """Flags of every trainer, spelled as in the training scripts of diffusers."""

    seed: int = 0
    train_batch_size: int = 32
    """Samples a process and micro-batch."""
    gradient_accumulation_steps: int = 1
    max_train_steps: int = 10_000
    max_train_minutes: float | None = None
    """Stop (annealed) after this many minutes of training, if that comes before max_train_steps. Such a run depends
    on the speed of the machine; without it a run is a function of its config alone. The clock is the first rank's and
    is part of a checkpoint: time that a kill lost is given again."""
    gradient_checkpointing: bool = False
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Autocast; the weights and the optimizer stay float32."""
    allow_tf32: bool = False
    compile: bool = False
    deterministic: bool = True
    """Use algorithms whose results repeat bit for bit on the same hardware and versions; without it a resumed run may
    differ from an uninterrupted one in the last bits on a GPU. An operation that has no such form warns."""
    dataloader_num_workers: int = 0
    """Threads that make the next batch ahead. The latents stand in memory: 0 is usually as fast."""
    use_ema: bool = True
    ema_max_decay: Annotated[float, tyro.conf.arg(aliases=("--ema_decay",))] = 0.999
    ema_inv_gamma: float = 1.0
    ema_power: float = 0.75
    checkpointing_steps: int = 500
    checkpoints_total_limit: int | None = 2
    resume_from_checkpoint: str = "latest"
    """`latest` continues a run that is there, `none` starts at step 0, a path continues from that checkpoint."""
    validation_steps: int = 500
    report_to: Literal["tensorboard", "wandb", "trackio", "all", "none"] = "tensorboard"
    """all: those that are installed."""
    logging_dir: str = "logs"
    tracker_project_name: str = "gamengen"
    num_processes: int | None = None
    """Ranks that the launcher was asked for; another number is an error instead of a slow surprise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_batch_size", "gradient_accumulation_steps", "max_train_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("dataloader_num_workers", "checkpointing_steps", "validation_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if self.max_train_minutes is not None and self.max_train_minutes <= 0:
            raise ValueError(f"max_train_minutes: expected more than 0, got {self.max_train_minutes}")
        if self.checkpoints_total_limit is not None and self.checkpoints_total_limit < 1:
            raise ValueError(f"checkpoints_total_limit: expected at least 1, got {self.checkpoints_total_limit}")
        if not 0.0 <= self.ema_max_decay < 1.0:
            raise ValueError(f"ema_max_decay: expected 0 to below 1, got {self.ema_max_decay}")

    def for_epochs(self, epochs: int | None, num_samples: int, num_processes: int) -> TrainingConfig:
        """The same with epochs over so many samples, if given, in the place of max_train_steps."""
        if epochs is None:
            return self
        per_step = self.train_batch_size * self.gradient_accumulation_steps * num_processes
        return dataclasses.replace(self, max_train_steps=max(1, num_samples * epochs // per_step))


@dataclass(frozen=True)
class TrainingResult:
    """What `train` did; the modules hold the final (EMA) weights."""

    steps: int
    seconds: float
    """Training time of all sessions of this run, validation and checkpoints excluded."""
    fetch_seconds: float
    """Share of this session's time that went into making batches."""
    step_seconds: float
    """Time of this session's optimizer steps, fetching included."""
    skipped_steps: int
    logs: dict[str, float]
