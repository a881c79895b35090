"""The stages with Hub ids for their flags: recorded here, trained there, played anywhere, by commands alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gamengen.codecs.autoencoder import save_codec
from gamengen.config import parse
from gamengen.durable import read_json
from gamengen.hub.dataset_push import push_dataset
from gamengen.hub.part_push import push_vae
from gamengen.hub.repository import HubConfig
from gamengen.loading import load_start_states, load_world
from tests.codec_data import block_dataset, small_codec
from tests.loopback_hub import LoopbackHub
from tests.test_scripts import SCRIPTS, load

STAGES = ("encode_latents", "train_unet", "export_world", "finetune_decoder")
MODULES = {path.stem: load(path) for path in SCRIPTS if path.stem in STAGES}
LENGTHS = (9, 12, 8, 9)


def run(script: str, *flags: str | Path, preset: str = "tiny") -> Any:
    module = MODULES[script]
    return module.main(parse(module.PRESETS, ["--preset", preset, *map(str, flags)], ""))


@pytest.mark.slow
def test_the_chain_from_hub_to_hub(hub: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block_dataset(tmp_path / "data", LENGTHS, ("train", "train", "validation", "test"))
    push_dataset(tmp_path / "data", HubConfig(push_to_hub=True, hub_model_id="tester/blocks"))
    save_codec(small_codec(), tmp_path / "vae")
    push_vae(tmp_path / "vae", {}, HubConfig(push_to_hub=True, hub_model_id="tester/vae"))
    latents, unet = tmp_path / "latents", tmp_path / "run/unet"
    run("encode_latents", "--dataset", "tester/blocks", "--vae", "tester/vae", "--streaming", "--output_dir", latents,
        "--start_state_horizon", "2")  # fmt: skip
    push = ("--push_to_hub", "--hub_private_repo", "--hub_token", "hf_write")
    training = (
        "--latents", latents, "--output_dir", unet, "--block_out_channels", "8", "--hub_model_id", "dream",
        "--max_train_steps", "2", "--validation_steps", "0", "--num_validation_windows", "2", *push,
    )  # fmt: skip
    run("train_unet", *training)
    assert hub.repositories["model", "tester/dream"].private
    assert any(name.startswith("checkpoint-2/unet_ema/") for name in hub.files("tester/dream"))
    assert "hf_write" not in (unet / "run.json").read_text() and "push_to_hub" in (unet / "run.json").read_text()
    assert "hf_write" not in capsys.readouterr().out
    world = load_world("tester/dream", num_inference_steps=1)
    world.reset(load_start_states("tester/dream")[:1], [0])
    assert world.step([1]).frames.shape == (1, 20, 28, 3)
    commits = len(hub.repositories["model", "tester/dream"].commits)
    run("train_unet", *training)  # a finished run: pushed again, not trained
    assert len(hub.repositories["model", "tester/dream"].commits) == commits + 1
    assert read_json(unet / "run.json")["results"]["steps"] == 2
    run("export_world", "--run", tmp_path / "run", "--output_dir", tmp_path / "run/world", "--push_to_hub",
        "--hub_model_id", "tester/shown", preset="default")  # fmt: skip
    assert "| last training, max train steps | 2 |" in hub.files("tester/shown")["README.md"].data.decode()
    run("train_unet", "--latents", latents, "--output_dir", tmp_path / "more", "--block_out_channels", "8",
        "--pretrained_model_name_or_path", "tester/shown", "--max_train_steps", "1", "--validation_steps", "0",
        "--num_validation_windows", "2")  # fmt: skip
    with pytest.raises(PermissionError, match="somebody/dream"):
        run("train_unet", "--latents", latents, "--output_dir", tmp_path / "refused", "--push_to_hub",
            "--hub_model_id", "somebody/dream")  # fmt: skip
    assert not list((tmp_path / "refused").glob("checkpoint*")), "refused only after the training"
