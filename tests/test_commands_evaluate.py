"""gamengen.commands.evaluate: its plan costs nothing, and a world of another game is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.policies import RandomPolicy
from agents.recorder import Player, Recorder, RecorderSettings
from gamengen.commands.evaluate import Config, main
from gamengen.contract import ContractMismatch
from gamengen.emulator import make_game_contract
from tests.counter_env import COUNTER_ENV
from tests.worlds import tiny_pipeline


def test_a_world_of_another_game_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "world")
    game = make_game_contract(COUNTER_ENV, frame_skip=1)
    Recorder(tmp_path / "data", game, [Player(RandomPolicy(4))], RecorderSettings(num_steps=40, num_envs=1)).run()
    config = Config(world=str(tmp_path / "world"), dataset=str(tmp_path / "data"), output_dir=str(tmp_path / "eval"))
    with pytest.raises(ContractMismatch, match="env_id"):
        main(config)
    assert not (tmp_path / "eval").exists()
