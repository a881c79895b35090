"""scripts/record_episodes.py and scripts/train_agent.py, as a user runs them one after the other into one dataset."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from gamengen.config import parse
from gamengen.contract import ContractMismatch
from gamengen.dataset.episodes import list_episodes, read_contract, read_episodes, verify_dataset
from gamengen.dataset.start_states import start_states
from tests.counter_env import COUNTER_ENV

pytest.importorskip("stable_baselines3")


def run(script: str, *flags: str) -> Any:
    module = importlib.import_module(f"scripts.{script}")
    return module.main(parse(module.PRESETS, ["--preset", "tiny", "--env_id", COUNTER_ENV, *flags], ""))


def test_an_agent_and_a_recorder_fill_one_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, agent = str(tmp_path / "data"), str(tmp_path / "agent")
    training = ("--output_dir", agent, "--record_dir", data, "--total_timesteps", "64", "--checkpointing_steps", "32")
    run("train_agent", *training)
    trained = len(list_episodes(data))
    assert trained and (tmp_path / "agent" / "ppo.zip").is_file() and (tmp_path / "agent" / "run.json").is_file()

    mix = f"{agent}/ppo.zip@0.1,{agent}/checkpoints/ppo-32.zip:2,random,noop"
    recording = ("--output_dir", data, "--policy", mix, "--num_steps", "200")
    recorded = run("record_episodes", *recording)
    infos = list_episodes(data)
    assert recorded.num_steps == 200 and len(infos) == trained + recorded.num_episodes
    assert {info.agent for info in infos} >= {"ppo-0", "ppo-64@0.1", "ppo-32", "random", "noop"}
    verify_dataset(data)
    assert "wrote 200 steps" in capsys.readouterr().out

    assert run("record_episodes", *recording).num_steps == 200
    assert list_episodes(data) == infos, "the same command again adds nothing"
    states = start_states(read_episodes(data, "validation"), read_contract(data), 3, 4, horizon=2)
    assert len(states) == 4

    with pytest.raises(ContractMismatch, match="frame_skip"):
        run("record_episodes", *recording, "--frame_skip", "3")
    assert list_episodes(data) == infos, "a refused recording leaves the dataset alone"
    run("record_episodes", *recording, "--frame_skip", "3", "--overwrite")
    assert read_contract(data).frame_skip == 3 and list_episodes(data) != infos


def test_overwrite_touches_datasets_only(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="not an episode dataset"):
        run("record_episodes", "--output_dir", str(tmp_path), "--policy", "noop", "--overwrite")
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    run("record_episodes", "--output_dir", str(tmp_path / "d"), "--policy", "noop", "--num_steps", "20")
    with pytest.raises(ValueError, match="several shards"):
        flags = ("--policy", "noop", "--overwrite", "--num_shards", "2")
        run("record_episodes", "--output_dir", str(tmp_path / "d"), *flags)
