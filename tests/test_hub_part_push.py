"""Autoencoders and agents on the Hub: what was made is what others open by its id, and cards say what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderKL

from agents.sb3_policy import load_policy
from gamengen.codecs.autoencoder import load_vae, save_codec
from gamengen.codecs.opening import open_codec
from gamengen.contract import ContractMismatch
from gamengen.hub.part_push import push_agent, push_vae
from gamengen.hub.repository import HubConfig, open_repository, push, resolve_file
from tests.codec_data import block_game, small_codec
from tests.loopback_hub import LoopbackHub

RESULTS = {"psnr": 41.234, "psnr_moving": None, "frames": 64, "steps": 3}


def flags(name: str) -> HubConfig:
    return HubConfig(push_to_hub=True, hub_model_id=f"tester/{name}")


def card(hub: LoopbackHub, repo_id: str) -> str:
    return hub.files(repo_id)["README.md"].data.decode()


def test_a_vae_is_opened_by_its_id_as_the_codec_that_it_is(hub: LoopbackHub, tmp_path: Path) -> None:
    codec = small_codec()
    save_codec(codec, tmp_path / "vae")
    (tmp_path / "vae/checkpoint-20").mkdir()
    (tmp_path / "vae/checkpoint-20/diffusion_pytorch_model.safetensors").write_bytes(b"half a gigabyte")
    assert push_vae(tmp_path / "vae", RESULTS, HubConfig()) is None
    push_vae(tmp_path / "vae", RESULTS, flags("vae"))
    names = {"README.md", "config.json", "diffusion_pytorch_model.safetensors", "codec.json", "manifest.json"}
    assert set(hub.files("tester/vae")) == names | {".gitattributes"}
    pulled = open_codec("tester/vae", block_game(), "here")
    assert pulled.contract == codec.contract and pulled.contract.patch_size == 4
    frames = torch.randint(0, 256, (2, 20, 28, 3), dtype=torch.uint8)
    assert torch.equal(pulled.encode(frames), codec.encode(frames))
    with pytest.raises(ContractMismatch, match="Pong-v5"):
        open_codec("tester/vae", block_game("Pong-v5"), "here")
    text = card(hub, "tester/vae")
    assert "41.23 dB" in text and "| 64 |" in text and "moving pixels" not in text and "--vae tester/vae" in text
    metric = yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"][0]["metrics"][0]
    assert metric["type"] == "psnr" and metric["value"] == 41.234


def test_a_stock_autoencoder_is_found_at_the_top_or_inside_by_revision_and_variant(
    hub: LoopbackHub, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=2).eval()
    vae.save_pretrained(tmp_path / "repo/vae")
    vae.to(torch.float16).save_pretrained(tmp_path / "repo/vae", variant="fp16")
    (tmp_path / "repo/unet").mkdir()
    (tmp_path / "repo/unet/diffusion_pytorch_model.safetensors").write_bytes(b"gigabytes")
    pushing = flags("pipeline")
    repo_id = open_repository(pushing, "model", "")
    assert repo_id is not None
    push(tmp_path / "repo", repo_id, message="first")
    first = hub.repositories["model", repo_id].commits[-1][0]
    whole, half = load_vae(repo_id), load_vae(repo_id, variant="fp16")
    assert torch.equal(whole.encoder.conv_in.weight.half().float(), half.encoder.conv_in.weight)
    assert not torch.equal(whole.encoder.conv_in.weight, half.encoder.conv_in.weight)
    assert not hub.requests("unet/")
    (tmp_path / "repo/vae/diffusion_pytorch_model.fp16.safetensors").unlink()
    push(tmp_path / "repo", repo_id, message="second", replace=["*"])
    assert torch.equal(load_vae(repo_id, first, "fp16").encoder.conv_in.weight, half.encoder.conv_in.weight)
    with pytest.raises(ValueError, match="weights are damaged, missing"):
        load_vae(repo_id, variant="fp16")
    with pytest.raises(FileNotFoundError, match="revision v7"):
        load_vae(repo_id, "v7")
    with pytest.raises(FileNotFoundError, match="tester/absent .model on"):
        load_vae("tester/absent")


def test_an_agent_is_a_zip_with_a_card(hub: LoopbackHub, tmp_path: Path) -> None:
    zip_file = tmp_path / "agent/ppo.zip"
    zip_file.parent.mkdir()
    zip_file.write_bytes(b"not really a zip")
    push_agent(zip_file, block_game(), {"mean_return": 12.5}, {"agent": "ppo", "decisions": 3072}, flags("agent"))
    assert resolve_file("tester/agent", "*.zip").read_bytes() == b"not really a zip"
    text = card(hub, "tester/agent")
    metric = yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"][0]["metrics"][0]
    assert metric["type"] == "mean_reward" and metric["value"] == 12.5 and "| decisions | 3072 |" in text
    push_agent(zip_file, block_game(), {"mean_return": float("nan")}, {}, flags("agent"))
    assert "model-index" not in card(hub, "tester/agent") and "Nothing yet" in card(hub, "tester/agent")
    with pytest.raises(ValueError, match=r"snapshots.*ppo\.zip"):
        load_policy("tester/agent", block_game())
