"""Optimizers and the learning rate as a function of progress."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

POLYNOMIAL_END = 1e-7
"""The learning rate that the polynomial schedule ends at, as in diffusers."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Flags as in the training scripts of diffusers."""

    optimizer: Literal["adamw", "adafactor"] = "adamw"
    """adafactor: without relative steps or weight decay, as GameNGen used it."""
    learning_rate: float = 1e-3
    scale_lr: bool = False
    """Multiply the learning rate by the global batch size."""
    lr_scheduler: Literal[
        "constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial"
    ] = "cosine"
    lr_warmup_steps: int = 50
    lr_num_cycles: int = 1
    """Of cosine_with_restarts: how often it falls from the peak."""
    lr_power: float = 1.0
    """Of polynomial."""
    adam_beta1: float = 0.9
    adam_beta2: float = 0.99
    adam_weight_decay: float = 1e-2
    adam_epsilon: float = 1e-8
    use_8bit_adam: bool = False
    """AdamW with 8-bit states from bitsandbytes (CUDA only; install it yourself)."""
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError(
                f"learning_rate and max_grad_norm must be positive, got {self.learning_rate} and {self.max_grad_norm}"
            )
        if self.lr_num_cycles < 1 or self.lr_power <= 0:
            raise ValueError(
                f"expected lr_num_cycles of at least 1 and lr_power above 0, got {self.lr_num_cycles}, {self.lr_power}"
            )


def build_optimizer(config: OptimizerConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """The optimizer that the flags name, over a list of float32 parameters."""
    parameters = list(parameters)
    betas = (config.adam_beta1, config.adam_beta2)
    if config.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        adafactor: torch.optim.Optimizer = Adafactor(
            parameters, lr=config.learning_rate, scale_parameter=False, relative_step=False, weight_decay=0.0
        )
        return adafactor
    if config.use_8bit_adam:
        try:
            import bitsandbytes
        except ImportError as error:
            raise ImportError("--use_8bit_adam needs bitsandbytes: pip install bitsandbytes (CUDA only)") from error
        adamw_8bit: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(
            parameters,
            lr=config.learning_rate,
            betas=betas,
            weight_decay=config.adam_weight_decay,
            eps=config.adam_epsilon,
        )
        return adamw_8bit
    return torch.optim.AdamW(
        parameters,
        lr=config.learning_rate,
        betas=betas,
        weight_decay=config.adam_weight_decay,
        eps=config.adam_epsilon,
        fused=True,
    )


def learning_rate(config: OptimizerConfig, base: float, step: int, progress: float) -> float:
    """The learning rate of one optimizer step.

    Args:
        base: the peak, after `scale_lr`.
        step: optimizer steps made so far; warm-up counts these.
        progress: share of the training budget used, in [0, 1]; decay follows this, so that a run limited by
            minutes anneals as fully as one limited by steps.
    """
    warm = 1.0
    if config.lr_scheduler != "constant" and config.lr_warmup_steps > 0:
        warm = min(1.0, (step + 1) / config.lr_warmup_steps)
    decay = 1.0
    if config.lr_scheduler == "cosine":
        decay = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    elif config.lr_scheduler == "cosine_with_restarts" and progress < 1.0:
        decay = 0.5 * (1.0 + math.cos(math.pi * (config.lr_num_cycles * progress % 1.0)))
    elif config.lr_scheduler == "polynomial":
        end = min(1.0, POLYNOMIAL_END / base)
        decay = end + (1.0 - end) * max(0.0, 1.0 - progress) ** config.lr_power
    elif config.lr_scheduler in ("linear", "cosine_with_restarts"):
        decay = max(0.0, 1.0 - progress)
    return base * warm * decay
