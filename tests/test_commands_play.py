"""commands.play: one of three things is played, on this machine only unless a token guards it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gamengen.commands import play
from gamengen.commands.play import PRESETS, Config, main, make_source
from gamengen.config import parse
from gamengen.dataset.episode_writer import open_dataset
from gamengen.diffusion.latent_world import default_steps
from gamengen.games.emulator import make_game_contract
from gamengen.player.engine import Engine
from tests.counter_env import COUNTER_ENV
from tests.test_dataset_dataset_world import record
from tests.worlds import tiny_pipeline

ROOT = Path(__file__).resolve().parent.parent


def test_one_thing_is_played(tmp_path: Path) -> None:
    for flags in ([], ["--world", "a", "--dataset", "b"]):
        with pytest.raises(ValueError, match="expected one of --world, --env_id and --dataset"):
            main(parse(PRESETS, flags, ""))
    with pytest.raises(FileNotFoundError, match="holds no world"):
        main(Config(world=str(tmp_path), port=0))
    with pytest.raises(ValueError, match="did you mean ALE/Pong-v5"):
        main(Config(env_id="ALE/Pong-v55", port=0))


def test_a_world_folder_becomes_a_dream(tmp_path: Path) -> None:
    """The steps to begin with are set where the world has such a choice, else it keeps its own."""
    tiny_pipeline().save_pretrained(tmp_path / "world")
    source = make_source(Config(world=str(tmp_path), num_inference_steps=2, backend="torch", device="cpu"), seed=0)
    assert source.kind == "dream" and source.title == tmp_path.name and len(source.starts) == 2
    world = source.make_world(2)
    assert world.num_worlds == 2 and world.options["num_inference_steps"].value == 2
    untold = make_source(Config(world=str(tmp_path), backend="torch", device="cpu"), seed=0).make_world(1)
    assert untold.options["num_inference_steps"].value == default_steps(untold.contract) == 4
    engine = Engine(source, max_clients=1, progress=lambda text: None)
    assert engine.world_kind == "latent_diffusion"
    engine._worker.shutdown()


def test_a_dataset_and_a_real_game(tmp_path: Path) -> None:
    record(tmp_path / "data", 1)
    assert make_source(Config(dataset=str(tmp_path / "data")), seed=0).kind == "replay"
    source = make_source(Config(env_id=COUNTER_ENV, frame_skip=1, noop_start_max=3), seed=8)
    assert source.kind == "game" and source.game.noop_start_max == 3 and not source.record_all


def test_a_recording_goes_on_as_it_was_begun(tmp_path: Path) -> None:
    game = make_game_contract(COUNTER_ENV, frame_skip=2, noop_start_max=1)
    open_dataset(tmp_path, game)
    source = make_source(Config(env_id=COUNTER_ENV, record_dir=str(tmp_path)), seed=0)
    assert source.game == game and source.record_all, "the folder's contract, not the flags'"
    with pytest.raises(ValueError, match="holds episodes of"):
        make_source(Config(env_id="CartPole-v1", record_dir=str(tmp_path)), seed=0)
    seeds = {play._first_seed(Config(env_id=COUNTER_ENV, record_dir=str(tmp_path))) for _ in range(3)}
    assert len(seeds) == 3, "recorded games differ from run to run"
    assert play._first_seed(Config(world="w")) == 0


def test_it_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    """As a user starts it; bound to all addresses it asks for the token that it printed."""
    flags = ["--env_id", COUNTER_ENV, "--host", "0.0.0.0", "--port", "0", "--no_open", "--record_dir", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "scripts/play.py", *flags], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline()
        found = re.search(r":(\d+)/\?token=([\w-]{20,})", line)
        assert found is not None, line + process.stderr.read()
        address = f"http://127.0.0.1:{found[1]}/"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address, timeout=10)
        with urllib.request.urlopen(f"{address}?token={found[2]}", timeout=10) as answer:
            assert b"<canvas" in answer.read()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) in (0, 130, -signal.SIGINT)
    assert "Traceback" not in process.stderr.read()
