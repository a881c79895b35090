"""A training run's way to the Hub: its world, and the newest checkpoint beside it for those who train on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gamengen.hub.repository import HubConfig
from gamengen.hub.world_push import push_world
from gamengen.loading import load_pipeline
from gamengen.training.checkpoints import newest_checkpoint
from gamengen.training.config import TrainingConfig


def push_run(run: str | Path, hub: HubConfig) -> str | None:
    """Push `<run>/world` and the newest checkpoint that verifies.

    Returns:
        The commit's address; None where the config does not ask for a push.
    """
    if not hub.push_to_hub:
        return None
    run = Path(run)
    return push_world(
        load_pipeline(run / "world"),
        hub.hub_model_id or run.resolve().name,
        private=hub.hub_private_repo,
        token=hub.hub_token,
        message="Upload world and checkpoint",
        beside=newest_checkpoint(run),
    )


def training_facts(training: TrainingConfig, global_batch: int, num_windows: int) -> dict[str, Any]:
    """What a world's card says of its training: setting -> JSON value."""
    names = ("max_train_steps", "max_train_minutes", "optimizer", "learning_rate", "mixed_precision", "seed")
    known = {name: getattr(training, name) for name in names if getattr(training, name) is not None}
    return {**known, "global_batch": global_batch, "training_windows": num_windows}
