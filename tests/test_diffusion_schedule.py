"""gamengen.diffusion.schedule.

Levels and timesteps equal diffusers' own; settings that play cannot work with are refused.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from gamengen.diffusion.schedule import build_scheduler, clean_and_noise, prediction_target, read_schedule

TYPES = ["v_prediction", "epsilon", "sample", "flow"]


def test_few_steps_start_from_pure_noise() -> None:
    """The default "leading" spacing starts 4 steps at 751 and 1 step at 1, and returns noise."""
    schedule = read_schedule(build_scheduler("v_prediction"))
    assert schedule.sampling_timesteps(1) == [999]
    assert schedule.sampling_timesteps(2) == [999, 499]
    assert schedule.sampling_timesteps(4) == [999, 749, 499, 249]


def test_timesteps_equal_those_of_diffusers() -> None:
    scheduler = build_scheduler("v_prediction")
    schedule = read_schedule(scheduler)
    for steps in range(1, 65):
        scheduler.set_timesteps(steps)
        # diffusers gives 62 timesteps for 61 steps, the last one -1: a rounding error of numpy.arange.
        assert schedule.sampling_timesteps(steps) == scheduler.timesteps.tolist()[:steps], steps


def test_every_number_of_steps_gives_as_many_falling_timesteps() -> None:
    schedule = read_schedule(build_scheduler("v_prediction"))
    for steps in range(1, 1001):
        timesteps = schedule.sampling_timesteps(steps)
        assert len(timesteps) == steps and timesteps[0] == 999 and timesteps[-1] >= 0, steps
        assert all(a > b for a, b in zip(timesteps, timesteps[1:], strict=False)), steps


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_numbers_of_steps_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to 1000, got {steps}"):
        read_schedule(build_scheduler("v_prediction")).sampling_timesteps(steps)


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample"])
def test_levels_noise_as_diffusers_does(kind: str) -> None:
    scheduler = build_scheduler(kind)
    schedule = read_schedule(scheduler)
    clean, noise = torch.randn(4, 2, 3, 3), torch.randn(4, 2, 3, 3)
    timesteps = torch.tensor([0, 10, 500, 999])
    signal, scale = schedule.levels(timesteps)
    expected = scheduler.add_noise(clean, noise, timesteps)
    torch.testing.assert_close(signal * clean + scale * noise, expected, rtol=0, atol=1e-6)
    if kind == "v_prediction":
        velocity = scheduler.get_velocity(clean, noise, timesteps)
        torch.testing.assert_close(prediction_target(kind, clean, noise, signal, scale), velocity, rtol=0, atol=1e-6)


def test_zero_terminal_snr() -> None:
    for kind in ("v_prediction", "sample", "flow"):
        schedule = read_schedule(build_scheduler(kind))
        assert float(schedule.signal[-1]) == 0.0 and float(schedule.noise_scale[-1]) == 1.0
    assert float(read_schedule(build_scheduler("epsilon")).signal[-1]) > 0  # it would divide by zero


def test_flow_levels_are_the_sigmas_of_diffusers() -> None:
    scheduler = build_scheduler("flow")
    schedule = read_schedule(scheduler)
    for steps in (1, 2, 4, 5, 10):
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
        ours = schedule.noise_scale[schedule.sampling_timesteps(steps)]
        torch.testing.assert_close(ours.float(), scheduler.sigmas[:-1], rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.signal + schedule.noise_scale, torch.ones(1000, dtype=torch.float64))


@pytest.mark.parametrize("kind", TYPES)
def test_the_target_splits_back_into_clean_and_noise(kind: str) -> None:
    schedule = read_schedule(build_scheduler(kind))
    clean, noise = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    # Where the split needs no division by 0: epsilon says nothing of the clean sample at full noise.
    signal, scale = schedule.levels(torch.tensor([100, 500, 900]))
    output = prediction_target(kind, clean, noise, signal, scale)
    found_clean, found_noise = clean_and_noise(kind, output, signal * clean + scale * noise, signal, scale)
    torch.testing.assert_close(found_clean, clean, rtol=0, atol=1e-4)
    torch.testing.assert_close(found_noise, noise, rtol=0, atol=1e-4)


def test_targets_are_what_their_names_say() -> None:
    clean, noise, signal, scale = torch.tensor(2.0), torch.tensor(3.0), torch.tensor(0.6), torch.tensor(0.8)
    values = {kind: float(prediction_target(kind, clean, noise, signal, scale)) for kind in TYPES}
    assert values == pytest.approx({"v_prediction": 0.6 * 3 - 0.8 * 2, "epsilon": 3.0, "sample": 2.0, "flow": 1.0})


def test_a_lost_scheduler_config_is_refused() -> None:
    with pytest.raises(ValueError, match="timestep_spacing is 'leading', expected 'trailing'"):
        read_schedule(DDIMScheduler(prediction_type="v_prediction"))


@pytest.mark.parametrize(
    "setting", [{"timestep_spacing": "linspace"}, {"clip_sample": True}, {"set_alpha_to_one": False}]
)
def test_settings_that_spoil_the_result_are_refused(setting: dict[str, object]) -> None:
    scheduler = DDIMScheduler.from_config(build_scheduler("v_prediction").config, **setting)
    (name, value), *_ = setting.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        read_schedule(scheduler)


def test_a_shifted_flow_is_refused_instead_of_played_unshifted() -> None:
    with pytest.raises(ValueError, match=r"shift is 3.0, expected 1.0"):
        read_schedule(FlowMatchEulerDiscreteScheduler(shift=3.0))


@pytest.mark.parametrize("kind", TYPES)
def test_the_schedule_survives_saving(kind: str, tmp_path: object) -> None:
    scheduler = build_scheduler(kind)
    scheduler.save_pretrained(tmp_path)
    loaded, saved = read_schedule(type(scheduler).from_pretrained(tmp_path)), read_schedule(scheduler)
    assert loaded.prediction_type == kind
    assert torch.equal(loaded.signal, saved.signal) and torch.equal(loaded.noise_scale, saved.noise_scale)
