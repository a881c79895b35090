"""The diffusion schedule of a world as signal and noise levels, whichever diffusers scheduler carries it.

Everywhere `x_t = signal * x_0 + noise_scale * noise`. DDIM (variance preserving) and rectified flow differ only in
those two numbers and in what the network predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

PredictionType = Literal["v_prediction", "epsilon", "sample", "flow"]
NUM_TRAIN_TIMESTEPS = 1000
Scheduler: TypeAlias = DDIMScheduler | FlowMatchEulerDiscreteScheduler


def build_scheduler(prediction_type: PredictionType) -> Scheduler:
    """The scheduler of a new world.

    Zero terminal SNR with trailing spacing, so that the first of N steps starts from pure noise for every N: the
    default "leading" spacing starts 4 steps at t=751 and 1 step at t=1, and returns noise.

    Source: Lin et al. 2023 (arXiv 2305.08891). Epsilon prediction cannot have zero terminal SNR (it divides by 0).
    """
    if prediction_type == "flow":
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=NUM_TRAIN_TIMESTEPS)
    return DDIMScheduler(
        num_train_timesteps=NUM_TRAIN_TIMESTEPS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        rescale_betas_zero_snr=prediction_type != "epsilon",
        timestep_spacing="trailing",
        set_alpha_to_one=True,
        clip_sample=False,
    )


@dataclass(frozen=True)
class Schedule:
    """Levels of every training timestep.

    Attributes:
        signal: float64 (N,), the factor of x_0 at each timestep.
        noise_scale: float64 (N,), the factor of the noise.
        final_signal, final_noise_scale: the levels after the last step.
    """

    prediction_type: PredictionType
    signal: Tensor
    noise_scale: Tensor
    final_signal: float
    final_noise_scale: float

    @property
    def num_timesteps(self) -> int:
        return len(self.signal)

    def levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (B, 1, 1, 1) signal and noise factors of int64 (B,) timesteps."""
        shape = (-1, 1, 1, 1)
        device = timesteps.device
        index = timesteps.cpu()
        return (
            self.signal[index].float().view(shape).to(device),
            self.noise_scale[index].float().view(shape).to(device),
        )

    def sampling_timesteps(self, num_inference_steps: int) -> list[int]:
        """Falling timesteps, always from the last one: 1 step [999], 2 [999, 499], 4 [999, 749, 499, 249]."""
        if not 1 <= num_inference_steps <= self.num_timesteps:
            raise ValueError(f"num_inference_steps: expected 1 to {self.num_timesteps}, got {num_inference_steps}")
        spacing = self.num_timesteps / num_inference_steps
        timesteps = np.round(np.arange(self.num_timesteps, 0, -spacing)).astype(np.int64) - 1
        # Rounding of `spacing` gives one timestep too many, -1, for 62 numbers of steps, 61 the first of them.
        return [int(t) for t in timesteps[:num_inference_steps]]


def read_schedule(scheduler: Scheduler) -> Schedule:
    """The levels of a diffusers scheduler, from its config.

    Raises:
        ValueError: a setting that play cannot work with, such as the default "leading" spacing: a scheduler config
            that was lost silently falls back to it.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        _refuse(scheduler, shift=1.0, use_dynamic_shifting=False)
        sigma = torch.arange(1, scheduler.config.num_train_timesteps + 1, dtype=torch.float64)
        sigma = sigma / scheduler.config.num_train_timesteps
        return Schedule("flow", 1.0 - sigma, sigma, 1.0, 0.0)
    _refuse(scheduler, timestep_spacing="trailing", clip_sample=False, set_alpha_to_one=True, thresholding=False)
    alphas = scheduler.alphas_cumprod.double()
    return Schedule(scheduler.config.prediction_type, alphas.sqrt(), (1.0 - alphas).sqrt(), 1.0, 0.0)


def _refuse(scheduler: Scheduler, **expected: object) -> None:
    """Raise ValueError when a setting is another one than expected."""
    config = scheduler.config
    wrong = [f"{k} is {config[k]!r}, expected {v!r}" for k, v in expected.items() if config[k] != v]
    if wrong:
        raise ValueError(
            f"scheduler: {', '.join(wrong)}; its scheduler_config.json was lost or belongs to another kind of model"
        )


def prediction_target(
    kind: PredictionType, clean: Tensor, noise: Tensor, signal: Tensor, noise_scale: Tensor
) -> Tensor:
    """What the network is trained to output; all tensors broadcast to (B, C, h, w)."""
    if kind == "v_prediction":
        return signal * noise - noise_scale * clean
    if kind == "epsilon":
        return noise
    if kind == "flow":
        return noise - clean
    return clean


def clean_and_noise(
    kind: PredictionType, output: Tensor, noisy: Tensor, signal: Tensor | float, noise_scale: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Split a noisy sample into the clean one and the noise that the network's output implies."""
    if kind == "v_prediction":
        return signal * noisy - noise_scale * output, noise_scale * noisy + signal * output
    if kind == "flow":
        return noisy - noise_scale * output, noisy + signal * output
    if kind == "epsilon":
        return (noisy - noise_scale * output) / signal, output
    return output, (noisy - signal * output) / noise_scale
