"""scripts/: each answers --help as a user starts it, takes every preset, and plans without writing."""

from __future__ import annotations

import dataclasses
import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tyro

from gamengen.config import parse

SCRIPTS = sorted((Path(__file__).parent.parent / "scripts").glob("*.py"))
STAGES = {
    "benchmark",
    "encode_latents",
    "evaluate",
    "finetune_decoder",
    "make_world",
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
