"""gamengen.training.optimizer: the learning rate against diffusers' own, and optimizers as the flags say."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.optimization import get_scheduler

from gamengen.training.optimizer import OptimizerConfig, build_optimizer, learning_rate

STEPS = 40


@pytest.mark.parametrize(
    "name, options",
    [
        ("constant", {}), ("constant_with_warmup", {}), ("linear", {}), ("cosine", {}), ("cosine_with_restarts", {}),
        ("cosine_with_restarts", {"num_cycles": 3}), ("polynomial", {}), ("polynomial", {"power": 2.5}),
    ],
)  # fmt: skip
def test_without_warm_up_equals_diffusers(name: Any, options: dict[str, Any]) -> None:
    flags = {f"lr_{option}": value for option, value in options.items()}
    config = OptimizerConfig(lr_scheduler=name, lr_warmup_steps=0, **flags)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=0, num_training_steps=STEPS, **options)
    for step in range(STEPS + 1):
        expected = scheduler.get_last_lr()[0]
        assert learning_rate(config, 0.5, step, step / STEPS) == pytest.approx(expected, abs=1e-9), step
        optimizer.step()
        scheduler.step()


def test_warm_up_counts_steps_and_decay_follows_progress() -> None:
    config = OptimizerConfig(lr_scheduler="linear", lr_warmup_steps=4)
    rates = [learning_rate(config, 1.0, step, 0.0) for step in range(6)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0], "the first step is not lost on a rate of 0"
    assert learning_rate(config, 1.0, 100, 0.75) == pytest.approx(0.25)  # a run limited by minutes


def test_schedules_without_a_form_are_refused() -> None:
    for options in ({"lr_num_cycles": 0}, {"lr_power": 0.0}):
        with pytest.raises(ValueError, match="lr_num_cycles of at least 1 and lr_power above 0"):
            OptimizerConfig(lr_scheduler="polynomial", **options)


@pytest.mark.parametrize("name", ["linear", "cosine", "cosine_with_restarts"])
def test_decay_ends_at_zero_and_stays_there(name: Any) -> None:
    config = OptimizerConfig(lr_scheduler=name)
    rates = [learning_rate(config, 1.0, 100, progress / 10) for progress in range(13)]
    assert rates == sorted(rates, reverse=True)
    assert rates[10:] == pytest.approx([0.0] * 3, abs=1e-12)


def test_constant_ignores_the_warm_up() -> None:
    config = OptimizerConfig(lr_scheduler="constant", lr_warmup_steps=10)
    assert learning_rate(config, 0.3, 0, 0.0) == 0.3


def test_adamw_has_the_settings_of_the_flags() -> None:
    config = OptimizerConfig(adam_beta1=0.8, adam_beta2=0.95, adam_weight_decay=0.1, adam_epsilon=1e-5)
    parameters = (torch.zeros(2, requires_grad=True) for _ in range(2))  # an iterator, used up by the first reader
    optimizer = build_optimizer(config, parameters)
    assert isinstance(optimizer, torch.optim.AdamW)
    (group,) = optimizer.param_groups
    assert group["betas"] == (0.8, 0.95) and group["weight_decay"] == 0.1 and group["eps"] == 1e-5
    assert len(group["params"]) == 2


def test_adafactor_uses_the_given_rate_and_no_decay() -> None:
    """Source: GameNGen (arXiv 2408.14837): Adafactor without weight decay at a constant rate."""
    parameter = torch.ones(4, 4, requires_grad=True)
    optimizer = build_optimizer(OptimizerConfig(optimizer="adafactor", adam_weight_decay=0.5), [parameter])
    optimizer.param_groups[0]["lr"] = 0.0
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert bool((parameter == 1).all()), "a rate of 0 changes nothing: neither a step of its own nor decay"
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    assert (1 - parameter).max().item() == pytest.approx(0.01, rel=0.01)


def test_a_missing_optional_optimizer_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "bitsandbytes":
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match="--use_8bit_adam needs bitsandbytes: pip install bitsandbytes"):
        build_optimizer(replace(OptimizerConfig(), use_8bit_adam=True), [torch.zeros(1)])
