"""scripts/: each answers --help as a user starts it, takes every preset, and plans without writing."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro

from gamengen.config import parse
from gamengen.manifest import write_manifest
from tests.worlds import tiny_contract, tiny_unet

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))
STAGES = {
    "benchmark",
    "encode_latents",
    "evaluate",
    "finetune_decoder",
    "make_world",
    "mark_turns",
    "record_episodes",
    "rollout",
    "train_agent",
    "train_unet",
    "train_vae",
}


def load(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{script.stem}", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def required(config: Any, folder: Path) -> list[str]:
    """A value for every flag that has none: all are paths or names of inputs that are not there."""
    flags = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flags += required(value, folder)
        elif value is tyro.MISSING:
            flags += [f"--{field.name}", str(folder / field.name)]
    return flags


def test_every_stage_has_its_script() -> None:
    assert {script.stem for script in SCRIPTS} >= STAGES


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_it_answers_help_and_says_what_it_reads_and_writes(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(script), run_name="__main__")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for part in ("Reads", "Writes", "Example", "--preset", "--dry_run", "--config"):
        assert part in text, part


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_preset_parses_and_plans_without_writing(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load(script)
    monkeypatch.chdir(tmp_path)
    for name, preset in module.PRESETS.items():
        config = parse(module.PRESETS, ["--preset", name, "--dry_run", *required(preset, tmp_path)], "")
        assert config.preset == name and config.dry_run
        try:
            module.main(config)
        except FileNotFoundError as error:
            # A plan may need its input, whose size decides the cost: then it says which is missing.
            assert str(tmp_path) in str(error), error
        else:
            assert "dry run" in capsys.readouterr().out
        assert not list(tmp_path.iterdir()), f"{script.stem} --preset {name} --dry_run wrote something"
    assert len(module.PRESETS) == 1 or "tiny" in module.PRESETS, "scripts that have sizes have one for tests"


DIFFUSERS_FLAGS = {
    "pretrained_model_name_or_path": "a/b", "revision": "main", "variant": "fp16", "cache_dir": "c",
    "train_data_dir": ("latents", "d"), "output_dir": "o", "logging_dir": "l", "max_train_samples": 7,
    "resolution": (20, 28), "seed": 3, "train_batch_size": 4, "dataloader_num_workers": 2, "num_train_epochs": 5,
    "max_train_steps": 6, "gradient_accumulation_steps": 2, "gradient_checkpointing": True, "learning_rate": 2e-4,
    "scale_lr": True, "lr_scheduler": "polynomial", "lr_warmup_steps": 9, "lr_num_cycles": 2, "lr_power": 2.0,
    "adam_beta1": 0.8, "adam_beta2": 0.9, "adam_weight_decay": 0.5, "adam_epsilon": 1e-6, "max_grad_norm": 2.0,
    "use_8bit_adam": True, "use_ema": True, "ema_inv_gamma": 2.0, "ema_power": 0.5,
    "mixed_precision": "bf16", "allow_tf32": True, "snr_gamma": 5.0, "prediction_type": "epsilon", "noise_offset": 0.1,
    "input_perturbation": 0.2, "report_to": "all", "tracker_project_name": "p", "checkpointing_steps": 11,
    "checkpoints_total_limit": 3, "resume_from_checkpoint": "none", "validation_steps": 12, "push_to_hub": True,
    "hub_model_id": "m", "hub_token": "t", "hub_private_repo": True, "compile": True,
    "num_context_frames": ("context_length", 5), "ema_decay": ("ema_max_decay", 0.5),
    "noise_aug_max": ("max_noise_level", 0.3), "conditioning_dropout_prob": ("context_dropout", 0.2),
}  # fmt: skip
"""What who knows the training scripts of diffusers gives to train_unet: flag -> value, or (our name, value)."""


def test_a_run_from_other_weights_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their folder has the same name after a longer training."""
    trainer = load(next(script for script in SCRIPTS if script.stem == "train_unet"))
    monkeypatch.setattr(trainer, "latents_fingerprint", lambda folder: "latents")
    scratch = dataclasses.replace(trainer.PRESETS["tiny"], latents="a")
    (tmp_path / "weights").write_bytes(b"short")
    named = dataclasses.replace(scratch, pretrained_model_name_or_path=str(tmp_path))
    assert trainer.input_fingerprint(scratch) == trainer.input_fingerprint(named) == "latents", (
        "nothing says what it is"
    )
    write_manifest(tmp_path)
    before = trainer.input_fingerprint(named)
    assert before == trainer.input_fingerprint(named) != "latents"
    (tmp_path / "weights").write_bytes(b"long")
    write_manifest(tmp_path)
    assert trainer.input_fingerprint(named) != before


def test_layers_are_added_to_a_trained_unet_only(tmp_path: Path) -> None:
    trainer = load(next(script for script in SCRIPTS if script.stem == "train_unet"))
    contract = tiny_contract()
    asked = dataclasses.replace(trainer.PRESETS["tiny"], deepen_to=3)
    with pytest.raises(ValueError, match="--deepen_to adds layers to a trained UNet.* --layers_per_block 3"):
        trainer.make_unet(asked, contract)
    tiny_unet(contract).save_pretrained(tmp_path / "unet")
    named = dataclasses.replace(asked, pretrained_model_name_or_path=str(tmp_path / "unet"))
    assert trainer.make_unet(named, contract).config["layers_per_block"] == 3
    assert trainer.make_unet(dataclasses.replace(named, deepen_to=None), contract).config["layers_per_block"] == 1


def test_train_unet_knows_the_flags_of_diffusers() -> None:
    module = load(next(script for script in SCRIPTS if script.stem == "train_unet"))
    words: list[str] = []
    expected: dict[str, Any] = {}
    for flag, given in DIFFUSERS_FLAGS.items():
        name, value = given if isinstance(given, tuple) and isinstance(given[0], str) else (flag, given)
        words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else () if value is True else (value,))]
        expected[name] = value
    found = dict(leaves(parse(module.PRESETS, words, "")))
    assert {name: found[name] for name in expected} == expected


def leaves(config: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value)
        else:
            yield field.name, value


@pytest.mark.parametrize("document", sorted((SCRIPTS[0].parent.parent / "docs").glob("*.md")), ids=lambda d: d.name)
def test_decoders_of_stock_autoencoders_are_tuned_on_whole_frames_in_the_documents(document: Path) -> None:
    """Another preset's crops end in an error, after hours of what stands before it."""
    module = load(next(script for script in SCRIPTS if script.stem == "finetune_decoder"))
    for words in re.findall(r"scripts/finetune_decoder\.py((?:\\\n|[^\n])*)", document.read_text()):
        flags = shlex.split(words.replace("\\\n", " "))
        if any(flag.startswith("stabilityai/") for flag in flags):
            assert parse(module.PRESETS, flags, "").crops.crop_size == 0, words
