"""A run on the Hub: its world plays from there, its newest whole checkpoint lies beside, and can be trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.diffusion.stable_diffusion import load_unet
from gamengen.hub.repository import HubConfig, resolve
from gamengen.hub.run_push import push_run, training_facts
from gamengen.manifest import verify_manifest
from gamengen.training.checkpoints import publish_checkpoint
from gamengen.training.loop import TrainingConfig
from tests.loopback_hub import LoopbackHub
from tests.worlds import tiny_pipeline


def test_world_and_newest_checkpoint_go_up_together(hub: LoopbackHub, tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "run/world")
    for step in (10, 20):
        publish_checkpoint(tmp_path / "run", step, lambda folder: pipeline.unet.save_pretrained(folder / "unet_ema"))
    assert push_run(tmp_path / "run", HubConfig()) is None
    assert push_run(tmp_path / "run", HubConfig(push_to_hub=True)) is not None
    names = set(hub.files("tester/run"))
    assert {"model_index.json", "README.md", "checkpoint-20/manifest.json"} < names
    assert not any(name.startswith("checkpoint-10/") for name in names)
    there = resolve("tester/run")
    verify_manifest(there / "checkpoint-20")
    pulled = GameNGenPipeline.from_pretrained("tester/run")
    trained_on = load_unet("tester/run", pipeline.world_contract)
    for key, value in pipeline.unet.state_dict().items():
        assert torch.equal(pulled.unet.state_dict()[key], value) and torch.equal(trained_on.state_dict()[key], value)


def test_the_card_says_how_it_was_trained() -> None:
    facts = training_facts(TrainingConfig(max_train_steps=7, optimizer="adafactor"), 128, 1000)
    assert facts["max_train_steps"] == 7 and facts["optimizer"] == "adafactor" and "max_train_minutes" not in facts
    assert facts["global_batch"] == 128 and facts["training_windows"] == 1000
