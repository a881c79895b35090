"""gamengen.diffusion.sampler against loops over the schedulers of diffusers, and guidance that drops frames only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gamengen.diffusion.denoiser import Denoiser
from gamengen.diffusion.sampler import guided, sample, stacked_denoise
from gamengen.diffusion.schedule import build_scheduler, clean_and_noise, prediction_target, read_schedule
from tests.worlds import LENGTH, tiny_contract, tiny_unet


def network(noisy: Tensor, timestep: int) -> Tensor:
    """Stands for a denoiser: smooth, and different at every timestep."""
    return torch.tanh(noisy) * (0.3 + timestep / 2000) - 0.1


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 10, 20, 50])  # divide 1000: elsewhere diffusers skips a level
def test_equals_a_loop_over_ddim(kind: str, steps: int) -> None:
    scheduler = build_scheduler(kind)
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    noisy = noise
    scheduler.set_timesteps(steps)
    for timestep in scheduler.timesteps:
        noisy = scheduler.step(network(noisy, int(timestep)), timestep, noisy, eta=0.0).prev_sample
    ours = sample(network, read_schedule(scheduler), noise, steps)
    torch.testing.assert_close(ours, noisy, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 10])
def test_equals_a_loop_over_flow_matching_with_explicit_sigmas(steps: int) -> None:
    scheduler = build_scheduler("flow")
    noise = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    noisy = noise
    for timestep in scheduler.timesteps:
        # The network is told the index of the level, which runs from 0 to 999.
        noisy = scheduler.step(network(noisy, round(float(timestep)) - 1), timestep, noisy).prev_sample
    torch.testing.assert_close(sample(network, read_schedule(scheduler), noise, steps), noisy, rtol=0, atol=1e-5)


def test_one_step_of_v_prediction_is_minus_the_output_exactly() -> None:
    schedule = read_schedule(build_scheduler("v_prediction"))
    noise = torch.randn(2, 3, 4, 4)
    assert torch.equal(sample(network, schedule, noise, 1), -network(noise, 999))


@pytest.mark.parametrize("kind", ["v_prediction", "sample", "flow", "epsilon"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 61])
def test_a_perfect_denoiser_recovers_the_clean_sample(kind: str, steps: int) -> None:
    schedule = read_schedule(build_scheduler(kind))
    clean = torch.randn(2, 3, 4, 4)

    def perfect(noisy: Tensor, timestep: int) -> Tensor:
        signal, scale = schedule.signal[timestep], schedule.noise_scale[timestep]
        return prediction_target(kind, clean, (noisy - signal * clean) / scale, signal, scale).float()

    found = sample(perfect, schedule, torch.randn(2, 3, 4, 4), steps)
    torch.testing.assert_close(found, clean, rtol=0, atol=1e-3)


def test_the_mean_of_the_data_is_kept_for_any_number_of_steps() -> None:
    """Data N(2, 0.5): leading spacing loses contrast, because its first step expects signal and finds none."""
    schedule = read_schedule(build_scheduler("v_prediction"))
    mean, std = 2.0, 0.5

    def optimal(noisy: Tensor, timestep: int) -> Tensor:
        signal, scale = float(schedule.signal[timestep]), float(schedule.noise_scale[timestep])
        clean = mean + signal * std**2 / (signal**2 * std**2 + scale**2) * (noisy - signal * mean)
        return prediction_target("v_prediction", clean, (noisy - signal * clean) / scale, signal, scale)

    noise = torch.randn(4096, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 4, 500):
        found = sample(optimal, schedule, noise, steps)
        assert float(found.mean()) == pytest.approx(mean, abs=0.02), steps
    assert float(found.std()) == pytest.approx(std, rel=0.05)


def test_levels_between_steps_follow_the_timesteps_for_every_number_of_steps() -> None:
    """diffusers' DDIM steps to t - 1000 // N; where N does not divide 1000 that is not the next timestep."""
    schedule = read_schedule(build_scheduler("v_prediction"))
    seen: list[tuple[int, Tensor]] = []

    def recording(noisy: Tensor, timestep: int) -> Tensor:
        seen.append((timestep, noisy))
        return network(noisy, timestep)

    sample(recording, schedule, torch.randn(1, 1, 2, 2), 3)
    assert [t for t, _ in seen] == [999, 666, 332]
    (t, noisy), (following, found) = seen[1:]
    levels = [float(v[t]) for v in (schedule.signal, schedule.noise_scale)]
    clean, noise = clean_and_noise("v_prediction", network(noisy, t), noisy, *levels)
    expected = schedule.signal[following] * clean + schedule.noise_scale[following] * noise
    torch.testing.assert_close(found, expected.float())


def recorded_guidance(scale: float) -> tuple[list[tuple[Any, ...]], Tensor, tuple[Tensor, ...]]:
    calls: list[tuple[Any, ...]] = []

    def predict(*inputs: Any) -> Tensor:
        calls.append(inputs)
        return inputs[0] * (1 + inputs[2].mean((1, 2, 3, 4)).view(-1, 1, 1, 1))

    noisy, context = torch.randn(2, 3, 4, 4), torch.randn(2, LENGTH, 3, 4, 4)
    actions, bucket = torch.tensor([[0, 1, 2], [2, 1, 0]]), torch.tensor([4, 0])
    output = stacked_denoise(predict, context, actions, bucket, scale)(noisy, 749)
    return calls, output, (noisy, context, actions, bucket)


def test_the_null_of_guidance_is_every_channel_of_every_frame_and_nothing_else() -> None:
    """Folding frames into channels first and zeroing the first L channels left the newest frames in place."""
    calls, output, (noisy, context, actions, bucket) = recorded_guidance(1.5)
    assert len(calls) == 1  # one batch of 2B
    seen_noisy, timestep, seen_context, seen_actions, seen_bucket = calls[0]
    assert torch.equal(seen_noisy, torch.cat([noisy, noisy]))  # the slot that is denoised stays
    assert timestep == 749
    assert torch.equal(seen_context[:2], context)
    assert not seen_context[2:].any()
    assert torch.equal(seen_actions, torch.cat([actions, actions]))  # actions are never dropped
    assert seen_bucket.tolist() == [4, 0, 0, 0]  # the label of the null, as in training
    conditional = noisy * (1 + context.mean((1, 2, 3, 4)).view(-1, 1, 1, 1))
    torch.testing.assert_close(output, noisy + 1.5 * (conditional - noisy))


def test_scale_1_is_the_plain_prediction() -> None:
    calls, output, (noisy, context, *_) = recorded_guidance(1.0)
    assert len(calls) == 1 and len(calls[0][0]) == 2
    torch.testing.assert_close(output, noisy * (1 + context.mean((1, 2, 3, 4)).view(-1, 1, 1, 1)))
    a, b = torch.randn(3), torch.randn(3)
    torch.testing.assert_close(guided(a, b, 1.0), a)
    assert torch.equal(guided(a, b, 0.0), b)


def test_guided_batch_equals_singles() -> None:
    contract = tiny_contract()
    denoiser = Denoiser(tiny_unet(contract), contract)
    shape = contract.codec.array_shape
    noisy, context = torch.randn(3, *shape), torch.randn(3, LENGTH, *shape)
    actions, bucket = torch.randint(0, 3, (3, LENGTH)), torch.tensor([0, 4, 9])
    schedule = read_schedule(build_scheduler("v_prediction"))
    with torch.no_grad():
        together = sample(stacked_denoise(denoiser, context, actions, bucket, 1.5), schedule, noisy, 2)
        for b in range(3):
            one = slice(b, b + 1)
            alone = stacked_denoise(denoiser, context[one], actions[one], bucket[one], 1.5)
            torch.testing.assert_close(sample(alone, schedule, noisy[one], 2), together[one], rtol=0, atol=1e-5)
        plain = sample(stacked_denoise(denoiser, context, actions, bucket, 1.0), schedule, noisy, 2)
    assert not torch.allclose(plain, together, atol=1e-3)
