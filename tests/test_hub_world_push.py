"""A world on the Hub: pushed by one process, pulled, reloaded offline and played without the package by others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import HfApi

from gamengen.diffusion.latent_world import LatentWorld
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.hub.world_card import WorldFacts
from gamengen.loading import load_start_states, load_world
from tests.loopback_hub import LoopbackHub
from tests.test_hub_standalone_pipeline import world_folder

ROOT = Path(__file__).resolve().parent.parent
ACTIONS = [1, 2, 0]
GIF = b"GIF89a and more"


def world(folder: Path) -> GameNGenPipeline:
    pipeline = GameNGenPipeline.from_pretrained(world_folder(folder, True, prediction_type="v_prediction"))
    pipeline.facts = WorldFacts({"next_frame": {"4 steps": {"psnr": 31.5}}}, {"max_train_steps": 7}, GIF)
    return pipeline


def clip(pipeline: GameNGenPipeline) -> np.ndarray:
    played = LatentWorld(pipeline, 1, num_inference_steps=2)
    played.reset(pipeline.start_states[:1], [3])
    return np.stack([played.step([action]).frames[0] for action in ACTIONS])


def same(left: GameNGenPipeline, right: GameNGenPipeline) -> bool:
    pairs = [(left.unet, right.unet), (left.vae, right.vae)]
    return all(torch.equal(v, b.state_dict()[k]) for a, b in pairs for k, v in a.state_dict().items())


def test_what_is_pulled_is_what_was_pushed(hub: LoopbackHub, tmp_path: Path) -> None:
    pipeline = world(tmp_path / "world")
    address = pipeline.push_to_hub("dream")
    assert address == f"{hub.url}/tester/dream/commit/{hub.repositories['model', 'tester/dream'].commits[-1][0]}"
    pulled = GameNGenPipeline.from_pretrained("tester/dream")
    assert same(pipeline, pulled) and pulled.world_contract == pipeline.world_contract and pulled.scene is not None
    assert [s.name for s in pulled.start_states] == [s.name for s in pipeline.start_states]
    assert pulled.facts == pipeline.facts
    assert np.array_equal(clip(pulled), clip(pipeline))
    played = load_world("tester/dream", num_inference_steps=2)
    played.reset(load_start_states("tester/dream")[:1], [3])
    assert np.array_equal(played.step([ACTIONS[0]]).frames[0], clip(pipeline)[0])
    files = hub.files("tester/dream")
    assert files["unet/diffusion_pytorch_model.safetensors"].lfs and files["preview.gif"].data == GIF
    card = files["README.md"].data.decode()
    assert 'load_world("tester/dream"' in card and "31.50" in card and "this/folder" not in card
    private = [name for name, blob in files.items() if str(tmp_path).encode() in blob.data]
    assert not private, f"paths of this machine in {private}"


def test_a_new_push_replaces_and_the_old_revision_stays(hub: LoopbackHub, tmp_path: Path) -> None:
    first = world(tmp_path / "world")
    first.push_to_hub("tester/dream")
    old = HfApi().repo_info("tester/dream").sha
    second = first.in_dtype(torch.float32)
    torch.nn.init.normal_(second.unet.conv_in.weight)
    second.push_to_hub("tester/dream")
    assert same(GameNGenPipeline.from_pretrained("tester/dream"), second)
    assert same(GameNGenPipeline.from_pretrained("tester/dream", revision=old), first) and not same(first, second)
    assert same(load_world("tester/dream", revision=old).pipeline, first)
    with pytest.raises(FileNotFoundError, match="revision v9"):
        GameNGenPipeline.from_pretrained("tester/dream", revision="v9")


def test_a_variant_stands_beside_the_same_world_only(hub: LoopbackHub, tmp_path: Path) -> None:
    pipeline = world(tmp_path / "world")
    pipeline.push_to_hub("tester/dream")
    pipeline.push_to_hub("tester/dream", variant="fp16")
    assert same(GameNGenPipeline.from_pretrained("tester/dream"), pipeline)
    half = GameNGenPipeline.from_pretrained("tester/dream", variant="fp16")
    assert same(half.in_dtype(torch.float16), pipeline.in_dtype(torch.float16)) and not same(half, pipeline)
    assert half.unet.dtype == torch.float32
    assert same(load_world("tester/dream", variant="fp16").pipeline, half)
    sizes = [len(hub.files("tester/dream")[f"unet/diffusion_pytorch_model{v}.safetensors"].data) for v in ("", ".fp16")]
    assert sizes[1] < 0.7 * sizes[0]
    other = pipeline.in_dtype(torch.float32)
    torch.nn.init.normal_(other.unet.conv_in.weight)
    with pytest.raises(ValueError, match="tester/dream holds another world.*its unet differs"):
        other.push_to_hub("tester/dream", variant="fp16")
    with pytest.raises(ValueError, match="variant 'int4': expected one of: fp16, bf16"):
        pipeline.push_to_hub("tester/dream", variant="int4")


def test_a_damaged_download_is_refused(hub: LoopbackHub, tmp_path: Path) -> None:
    world(tmp_path / "world").push_to_hub("tester/dream")
    files = hub.files("tester/dream")
    blob = files["scene.safetensors"]
    files["scene.safetensors"] = type(blob)(blob.data[:-1] + bytes([blob.data[-1] ^ 1]), blob.lfs)
    with pytest.raises(ValueError, match=r"scene\.safetensors"):
        GameNGenPipeline.from_pretrained("tester/dream")


ANOTHER_PROCESS = """
import sys
import numpy as np
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import constants, snapshot_download

sys.modules["gamengen"] = None  # from here on any import of it is an ImportError
place = code = "tester/dream"
if constants.HF_HUB_OFFLINE:  # diffusers asks the Hub for code by id even then
    place = snapshot_download(place)
    code = f"{place}/pipeline.py"
dream = DiffusionPipeline.from_pretrained(place, custom_pipeline=code, trust_remote_code=True)
listed = [path.name for path in dream.folder.iterdir()]
np.save(sys.argv[1], dream([1, 2, 0], start=0, seed=3, num_inference_steps=2))
assert constants.HF_HUB_OFFLINE or "README.md" not in listed, "the scene came with a whole download, was not fetched"

del sys.modules["gamengen"]
from gamengen.diffusion.pipeline import GameNGenPipeline
pipeline = GameNGenPipeline.from_pretrained("tester/dream")
torch.save([pipeline.unet.state_dict(), pipeline.vae.state_dict()], sys.argv[2])
"""


@pytest.mark.slow
def test_another_process_pulls_it_and_plays_it_without_the_package_too_then_offline(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    pipeline = world(tmp_path / "world")
    pipeline.push_to_hub("tester/dream")
    expected = clip(pipeline)
    for offline in ("0", "1"):
        environment = hub.environment(tmp_path / "another home", HF_HUB_OFFLINE=offline)
        files = [tmp_path / f"frames{offline}.npy", tmp_path / f"weights{offline}.pt"]
        command = [sys.executable, "-c", ANOTHER_PROCESS, *map(str, files)]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert np.array_equal(np.load(files[0]), expected)
        for part, weights in zip((pipeline.unet, pipeline.vae), torch.load(files[1], weights_only=True), strict=True):
            assert all(torch.equal(value, weights[key]) for key, value in part.state_dict().items())
        if offline == "0":
            hub.stop()
