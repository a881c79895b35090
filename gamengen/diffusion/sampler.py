"""Context and actions to the next array, in 1 to N steps: plain functions that know no world, no data, no device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gamengen.diffusion.schedule import Schedule, clean_and_noise

Denoise = Callable[[Tensor, int], Tensor]
"""(noisy (B, C, h, w), timestep) -> the network's output, same shape."""


def sample(denoise: Denoise, schedule: Schedule, noise: Tensor, num_inference_steps: int) -> Tensor:
    """Deterministic DDIM (eta = 0), or Euler's method when the schedule is rectified flow: one formula for both.

    Args:
        noise: (B, C, h, w) standard normal, the start.
    Returns:
        (B, C, h, w) clean sample. At one step with v-prediction and zero terminal SNR it is minus the output: the
        conditional mean, no noise left.
    Source: DDIM (arXiv 2010.02502) eq. 12 with sigma = 0; rectified flow (arXiv 2209.03003) Euler steps.
    """
    timesteps = schedule.sampling_timesteps(num_inference_steps)
    noisy = noise
    for position, timestep in enumerate(timesteps):
        signal, noise_scale = float(schedule.signal[timestep]), float(schedule.noise_scale[timestep])
        clean, residual = clean_and_noise(
            schedule.prediction_type, denoise(noisy, timestep), noisy, signal, noise_scale
        )
        if position + 1 < len(timesteps):
            following = timesteps[position + 1]
            next_signal, next_scale = float(schedule.signal[following]), float(schedule.noise_scale[following])
        else:
            next_signal, next_scale = schedule.final_signal, schedule.final_noise_scale
        noisy = next_signal * clean + next_scale * residual
    return noisy


def guided(with_context: Tensor, without_context: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance on the context frames only; scale 1 is the plain prediction.

    Source: GameNGen (arXiv 2408.14837), section 3.3.1: on past observations, weight 1.5; actions are always kept.
    """
    return without_context + guidance_scale * (with_context - without_context)


def stacked_denoise(
    predict: Callable[[Tensor, int, Tensor, Tensor, Tensor], Tensor],
    context: Tensor,
    actions: Tensor,
    noise_bucket: Tensor,
    guidance_scale: float,
) -> Denoise:
    """Bind a network to one context, with guidance in one batch of 2B where it is asked for.

    Args:
        predict: (noisy, timestep, context, actions, noise_bucket) -> output.
        context: (B, L, C, h, w), unfolded: the null of guidance is all L frames at zero, as in training.
        actions: int64 (B, L). noise_bucket: int64 (B,).
    """
    if guidance_scale == 1.0:

        def plain(noisy: Tensor, timestep: int) -> Tensor:
            return predict(noisy, timestep, context, actions, noise_bucket)

        return plain
    both_context = torch.cat([context, torch.zeros_like(context)])
    both_actions = torch.cat([actions, actions])
    both_buckets = torch.cat([noise_bucket, torch.zeros_like(noise_bucket)])

    def with_guidance(noisy: Tensor, timestep: int) -> Tensor:
        output = predict(torch.cat([noisy, noisy]), timestep, both_context, both_actions, both_buckets)
        conditional, unconditional = output.chunk(2)
        return guided(conditional, unconditional, guidance_scale)

    return with_guidance
