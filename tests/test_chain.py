"""The whole chain at the tiny preset, each stage a process of its own, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gamengen.config import parse
from gamengen.loading import load_start_states, load_world
from scripts.make_world import PRESETS, check_players, launcher, main, stages
from tests.counter_env import COUNTER_ENV
from tests.test_scripts import load

ROOT = Path(__file__).resolve().parent.parent


def test_two_ranks_start_by_a_launcher_that_really_starts_two() -> None:
    ranks, command = launcher(2)
    assert ranks == 2 and "--nproc_per_node=2" in command
    assert launcher(1) == (1, [sys.executable])


def test_every_stage_of_every_preset_is_a_script_that_exists() -> None:
    for preset in PRESETS.values():
        for stage in stages(replace(preset, output_dir="runs/any")):
            script = next(word for word in stage.command if word.endswith(".py"))
            flags = stage.command[stage.command.index(script) + 1 :]
            parse(load(Path(script)).PRESETS, flags, "")  # leaves where a flag or its value is unknown


def test_a_first_training_hands_its_world_to_the_second() -> None:
    plan = {stage.name: stage.command for stage in stages(replace(PRESETS["pong"], output_dir="runs/p"))}
    first, turns, second = plan["first_unet"], plan["turns"], plan["unet"]
    assert [name for name in plan if name in ("first_unet", "turns", "unet")] == ["first_unet", "turns", "unet"]
    output = first[first.index("--output_dir") + 1]
    assert second[second.index("--pretrained_model_name_or_path") + 1] == f"{output}/world"
    assert second[second.index("--output_dir") + 1] != output
    assert turns[turns.index("--missed_by") + 1] == f"{output}/world"
    assert "--pretrained_model_name_or_path" not in " ".join(plan_of_one())


def test_all_turns_are_marked_before_the_first_training_which_draws_them_too() -> None:
    plan = {stage.name: stage.command for stage in stages(replace(PRESETS["breakout"], output_dir="runs/b"))}
    order = ["turns", "first_unet", "unet"]
    assert [name for name in plan if name in order] == order
    assert "--missed_by" not in plan["turns"] and all("--turn_share" in plan[name] for name in order[1:])


def plan_of_one() -> list[str]:
    return next(stage.command for stage in stages(replace(PRESETS["small"], output_dir="p")) if stage.name == "unet")


def test_a_game_without_a_scripted_player_is_refused_before_its_agent_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: pytest.fail("a stage was started"))
    config = replace(PRESETS["demo"], output_dir=str(tmp_path / "run"), env_id=COUNTER_ENV)
    with pytest.raises(
        ValueError, match="no scripted player for .*Counter.* --episodes '.* --policy random,.*ppo.zip'"
    ):
        main(config)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="no scripted player"):
        check_players(replace(config, episodes="--policy varied@0.1,random"))
    for policy in ("--policy random,noop", "--policy=random"):
        check_players(replace(config, episodes=f"{config.episodes} {policy}"))
    check_players(replace(config, episodes="skip"))
    for preset in PRESETS.values():
        check_players(preset)


def test_the_seconds_of_a_stage_are_those_of_all_its_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = iter([0, 0, 7])
    monkeypatch.setattr(
        subprocess, "run", lambda *args, **kwargs: time.sleep(0.2) or subprocess.CompletedProcess([], next(codes, 0))
    )
    config = replace(PRESETS["tiny"], output_dir=str(tmp_path))
    with pytest.raises(SystemExit, match="stage vae ended with exit code 7"):
        main(config)
    interrupted = json.loads((tmp_path / "stages.json").read_text())
    assert list(interrupted) == ["agent", "episodes", "vae"]
    seconds = main(config)
    assert seconds["vae"] >= interrupted["vae"] + 0.2 and seconds["latents"] < 0.4
    assert json.loads((tmp_path / "stages.json").read_text()) == seconds


def test_a_decoder_that_was_skipped_is_not_exported() -> None:
    def export(preset: str) -> list[str]:
        return next(s.command for s in stages(replace(PRESETS[preset], output_dir="p")) if s.name == "world")

    assert "--no-decoder" in export("pong") and "--no-decoder" not in export("breakout")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_a_real_game_to_a_rollout_and_again(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/make_world.py", "--preset", "tiny", "--output_dir", str(tmp_path / "run")]
    subprocess.run(command, cwd=ROOT, check=True)
    root = tmp_path / "run"
    figures = json.loads((root / "eval" / "report.json").read_text())["metrics"]["next_frame"]["figures"]
    assert figures["codec (ceiling)/psnr"]["value"] > figures["1 step/psnr"]["value"]
    assert (root / "rollout.gif").stat().st_size > 1000
    world = load_world(root, num_inference_steps=1)
    world.reset(load_start_states(root)[:1], [0])
    assert world.step([0]).frames.shape == (1, 210, 160, 3)
    before = (root / "unet" / "world" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    subprocess.run(command, cwd=ROOT, check=True)  # everything is done already: nothing changes
    assert (root / "unet" / "world" / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == before
