"""gamengen.loading: a world is found in what a user names, made by its kind, and refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gamengen.codecs.autoencoder import fingerprint
from gamengen.diffusion.latent_world import LatentWorld
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.loading import find_world, load_pipeline, load_start_states, load_world
from gamengen.world import World
from tests.worlds import tiny_codec, tiny_pipeline, tiny_starts


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("place", ["", "world", "unet/world"])
def test_a_world_is_found_in_its_folder_and_in_a_run(place: str, tmp_path: Path) -> None:
    named = tmp_path / "run"
    tiny_pipeline().save_pretrained(named / place)
    assert find_world(named) == named / place
    assert find_world(str(named)) == named / place


def test_a_finished_world_is_preferred_to_the_one_in_training(tmp_path: Path) -> None:
    seeds = {"world": 1, "unet/world": 2}
    for place, seed in seeds.items():
        tiny_pipeline(seed=seed).save_pretrained(tmp_path / place)
    assert find_world(tmp_path) == tmp_path / "world"
    for parts, seed in ((False, 1), (True, 2)):  # the export itself is made from the parts
        loaded = load_pipeline(tmp_path, parts=parts).unet.state_dict()
        expected = tiny_pipeline(seed=seed).unet.state_dict()
        assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_no_world_is_an_error_that_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        find_world(tmp_path)
    for place in ("model_index.json", "world/model_index.json", "unet/world/model_index.json", "train_unet.py"):
        assert place in str(error.value)


def test_load_world_gives_a_world_that_plays(world_folder: Path) -> None:
    world = load_world(world_folder, 2, num_inference_steps=1, guidance_scale=1.5)
    assert isinstance(world, World) and isinstance(world, LatentWorld)
    assert world.num_worlds == 2
    assert {name: option.value for name, option in world.options.items()} == {
        "num_inference_steps": 1,
        "guidance_scale": 1.5,
        "noise_level": 0.0,
    }
    world.reset(load_start_states(world_folder), [0, 1])
    again = LatentWorld(GameNGenPipeline.from_pretrained(world_folder), 2, num_inference_steps=1, guidance_scale=1.5)
    again.reset(tiny_starts(), [0, 1])
    for actions in ([0, 1], [2, 2]):
        assert np.array_equal(world.step(actions).frames, again.step(actions).frames)


def test_the_backend_and_its_threads_reach_the_world(world_folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    world = load_world(world_folder, backend="torch", num_threads=1, cache_dir=tmp_path, progress=said.append)
    assert isinstance(world, LatentWorld)
    assert (world.backend_choice.name, world.backend_choice.num_threads) == ("torch", 1)
    assert said == ["backend torch, 1 thread"]
    with pytest.raises(ValueError, match="backend: expected one of auto, torch, compile, onnx, got 'tpu'"):
        load_world(world_folder, backend="tpu")


def change_index(folder: Path, change: Any) -> None:
    file = folder / "model_index.json"
    values = json.loads(file.read_text())
    change(values)
    file.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("contract"), "has no contract: it was not written by gamengen"),
        (lambda v: v["contract"].update(kind="causal_transformer"), "kind 'causal_transformer'.*'latent_diffusion'"),
        (lambda v: v["contract"].update(format_version=2), "format_version 2, this gamengen reads 1"),
        (lambda v: v["contract"].update(colour="red"), r"unknown fields \['colour'\]"),
    ],
)
def test_a_world_that_this_version_cannot_play_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "world")
    change_index(tmp_path / "world", change)
    with pytest.raises(ValueError, match=message) as error:
        load_world(tmp_path)
    assert "model_index.json" in str(error.value), "the file is named"


def test_a_run_plays_with_its_fine_tuned_decoder(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "unet" / "world")
    tuned = tiny_codec().vae
    with torch.no_grad():
        for parameter in tuned.decoder.parameters():
            parameter.mul_(0.5)
    tuned.save_pretrained(tmp_path / "decoder")
    latents = torch.randn(2, 2, 8, 8)
    plain = load_pipeline(tmp_path / "unet")
    fine = load_pipeline(tmp_path)
    assert torch.equal(plain.decode_latents(latents), pipeline.decode_latents(latents))
    assert not torch.equal(fine.decode_latents(latents), plain.decode_latents(latents))
    without = load_pipeline(tmp_path, decoder=False)
    assert torch.equal(without.decode_latents(latents), plain.decode_latents(latents))
    assert fingerprint(fine.vae) == pipeline.world_contract.codec.fingerprint
    # A decoder of another VAE is refused.
    tiny_codec(seed=3).vae.save_pretrained(tmp_path / "decoder")
    with pytest.raises(ValueError, match="fingerprint"):
        load_pipeline(tmp_path)


def test_start_states_come_with_the_world(world_folder: Path, tmp_path: Path) -> None:
    loaded = load_start_states(world_folder)
    assert [state.name for state in loaded] == [state.name for state in tiny_starts()]
    tiny_pipeline().save_pretrained(tmp_path / "world")
    (tmp_path / "world" / "start_states.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="start_states.parquet is missing: the world folder is incomplete"):
        load_start_states(tmp_path)
