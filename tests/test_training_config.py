"""gamengen.training.config: what no trainer could work with is refused before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gamengen.training.config import LossOutput, TrainingConfig


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"train_batch_size": 0}, "train_batch_size: expected at least 1, got 0"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps: expected at least 1, got 0"),
        ({"max_train_steps": 0}, "max_train_steps: expected at least 1, got 0"),
        ({"max_train_minutes": 0.0}, "max_train_minutes: expected more than 0, got 0.0"),
        ({"checkpoints_total_limit": 0}, "checkpoints_total_limit: expected at least 1, got 0"),
        ({"checkpointing_steps": -1}, "checkpointing_steps: expected at least 0, got -1"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers: expected at least 0, got -1"),
        ({"ema_max_decay": 1.0}, "ema_max_decay: expected 0 to below 1, got 1.0"),
        ({"learning_rate": 0.0}, "learning_rate and max_grad_norm must be positive, got 0.0"),
        ({"max_grad_norm": -1.0}, "learning_rate and max_grad_norm must be positive, got 0.001 and -1.0"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**setting)


def test_what_switches_a_feature_off_is_legal() -> None:
    config = TrainingConfig(checkpointing_steps=0, validation_steps=0, checkpoints_total_limit=None, ema_max_decay=0.0)
    assert config.max_train_minutes is None and config.num_processes is None


def test_a_config_cannot_change_under_a_run() -> None:
    with pytest.raises(AttributeError):
        TrainingConfig().seed = 1  # type: ignore[misc]


def test_outputs_do_not_share_their_logs() -> None:
    one, other = LossOutput(torch.zeros(2)), LossOutput(torch.zeros(2))
    one.logs["mse"] = torch.zeros(())
    assert not other.logs


def test_epochs_are_counted_in_steps_of_all_processes() -> None:
    config = TrainingConfig(train_batch_size=4, gradient_accumulation_steps=2, max_train_steps=7)
    assert config.for_epochs(None, 1000, 2) is config
    assert config.for_epochs(3, 1000, 2).max_train_steps == 187
    assert config.for_epochs(1, 5, 2).max_train_steps == 1
