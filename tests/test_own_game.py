"""docs/own-game.md: its commands are run as they stand there, only smaller; and its description of the game is true."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from gamengen.dataset.episodes import list_episodes
from gamengen.importing.spec import read_spec
from gamengen.loading import load_start_states, load_world

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "own-game.md").read_text()
SMALLER = {
    "--num_clips 12 --num_frames 600": "--num_clips 6 --num_frames 200",
    "--preset demo": "--preset tiny --num_processes 1",
    "--num_frames 64": "--num_frames 6",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every line of every shell block, at the size of a test."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    for long, short in SMALLER.items():
        assert any(long in line for line in lines), long
        lines = [line.replace(long, short) for line in lines]
    return [shlex.split(line) for line in lines]


def test_the_description_in_the_guide_is_one(tmp_path: Path) -> None:
    (description,) = blocks("yaml")
    (tmp_path / "game.yaml").write_text(description)
    spec = read_spec(tmp_path / "game.yaml")
    assert [action.name for action in spec.actions] == ["STAY", "UP", "DOWN"] and spec.fps == 15


def test_every_field_is_explained() -> None:
    from gamengen.importing.spec import _FIELDS

    explained = {name for name in re.findall(r"`([a-z_]+)`", TEXT)}
    assert not _FIELDS - explained


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_command_of_the_guide_works(tmp_path: Path) -> None:
    for name in ("docs", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    outputs = {}
    for number, (program, *arguments) in enumerate(commands()):
        assert program == "python"
        if number == 1:
            (tmp_path / "recordings" / "game.yaml").write_text(blocks("yaml")[0])
        command = [sys.executable, *arguments]
        if arguments[0] == "scripts/play.py":
            _look_at_the_page([*command, "--no_open", "--port", "0"], tmp_path, environment)
            continue
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        outputs[number] = done.stdout
    assert "action_offset fits" in outputs[1] and "<- best" in outputs[1]
    assert "action_offset fits (shift +0" in outputs[2] and "DOWN" in outputs[2]
    assert {info.split for info in list_episodes(tmp_path / "runs/paddle/data")} == {"train", "validation", "test"}
    assert (tmp_path / "runs/paddle/dream.gif").stat().st_size > 1000
    assert "psnr" in json.dumps(json.loads((tmp_path / "runs/paddle/eval/report.json").read_text()))
    starts = load_start_states(tmp_path / "runs/paddle")
    assert starts and all(start.replay is None for start in starts)
    world = load_world(tmp_path / "runs/paddle", num_inference_steps=1)
    world.reset(starts[:1], [0])
    assert world.step([1]).frames.shape == (1, 64, 80, 3)
    assert world.contract.game.actions[1].keys == ("ArrowUp",)


def _look_at_the_page(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Start the player, read the page at the address that it prints, end it."""
    log = folder / "player.log"
    with open(log, "w") as file:
        player = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 240
        address = None
        while address is None:
            assert player.poll() is None and time.monotonic() < deadline, log.read_text()
            address = re.search(r"http://[^\s]+", log.read_text())
            time.sleep(0.5)
        with urllib.request.urlopen(address[0], timeout=60) as page:
            assert page.status == 200 and b"<canvas" in page.read()
    finally:
        player.terminate()
        player.wait(timeout=60)
