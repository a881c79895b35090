"""evaluation.identity: the fingerprint is of what is loaded and of nothing else, and of all that figures depend on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny

from gamengen.evaluation.identity import NONE, machine, surroundings, world_fingerprint
from gamengen.loading import load_pipeline
from tests.worlds import tiny_codec, tiny_pipeline


def test_the_fingerprint_is_of_the_weights_and_not_of_what_lies_beside_them(tmp_path: Path) -> None:
    world = tmp_path / "world"
    tiny_pipeline().save_pretrained(world)
    before = world_fingerprint(world)
    (world / "README.md").write_text("another card")
    (world / "facts.json").write_text("{}")
    (world / "eval").mkdir()  # an evaluation's own output
    (world / "eval" / "report.json").write_text("{}")
    (world / "eval" / "inverse_dynamics.safetensors").write_bytes(b"a reader")
    assert world_fingerprint(world) == before
    for name in ("unet", "vae", "scheduler"):
        (file, *_) = sorted((world / name).glob("*config.json"))
        text = file.read_text()
        file.write_text(text + " ")
        assert world_fingerprint(world) != before, name
        file.write_text(text)
    (world / "scene.safetensors").write_bytes(b"another scene")
    assert world_fingerprint(world) != before
    tiny_pipeline(seed=1).save_pretrained(tmp_path / "other")
    assert world_fingerprint(tmp_path / "other") != before
    with pytest.raises(FileNotFoundError, match="holds no world"):
        world_fingerprint(world / "vae")


def fine_tuned(amount: int) -> AutoencoderTiny:
    """The codec of `tiny_pipeline` with another decoder."""
    vae = tiny_codec().vae
    with torch.no_grad():
        for weights in vae.decoder.parameters():
            weights += 0.1 * amount
    return vae


def test_the_decoder_that_a_run_plays_counts(tmp_path: Path) -> None:
    """A run that was not exported plays <run>/decoder in place of what its world folder holds."""
    tiny_pipeline().save_pretrained(tmp_path / "unet" / "world")
    before = world_fingerprint(tmp_path)
    assert before == world_fingerprint(tmp_path / "unet" / "world")
    fine_tuned(1).save_pretrained(tmp_path / "decoder")
    tuned = world_fingerprint(tmp_path)
    assert tuned != before == world_fingerprint(tmp_path / "unet" / "world")
    fine_tuned(2).save_pretrained(tmp_path / "decoder")
    assert world_fingerprint(tmp_path) not in (before, tuned)
    (tmp_path / "decoder" / "run.json").write_text("{}")
    found = world_fingerprint(tmp_path)
    (tmp_path / "decoder" / "run.json").write_text("{ }")
    assert world_fingerprint(tmp_path) == found
    # Once it is exported the decoder that stays beside it is not played.
    load_pipeline(tmp_path).save_pretrained(tmp_path / "world")
    exported = world_fingerprint(tmp_path)
    fine_tuned(3).save_pretrained(tmp_path / "decoder")
    assert world_fingerprint(tmp_path) == exported == world_fingerprint(tmp_path / "world")


def test_what_is_at_hand_has_a_fingerprint_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    nothing = surroundings(real_game=False, agent=None, lpips_weights=None, fvd_weights=None, device="cpu")
    assert [nothing.pop(name) for name in ("real game", "agent", "lpips", "fvd")] == [NONE] * 4
    assert nothing == {"machine": machine("cpu")} and "cpu" in machine("cpu")

    def found(real_game: bool = True) -> dict[str, str]:
        weights = str(tmp_path / "i3d.pt")
        agent = os.fspath(tmp_path / "agent.zip")
        return surroundings(
            real_game=real_game, agent=agent, lpips_weights=str(tmp_path), fvd_weights=weights, device="cpu"
        )

    files = {"agent.zip": "agent", "i3d.pt": "fvd", "alexnet-1.pth": "lpips", "alex.pth": "lpips"}
    for name in files:
        (tmp_path / name).write_bytes(name.encode())
    before = found()
    assert before["lpips"].startswith("alex ") and NONE not in before.values()
    for name, what in files.items():
        (tmp_path / name).write_bytes(b"another")
        after = found()
        assert {key for key in after if after[key] != before[key]} == {what}
        before = after
    assert found(real_game=False) != before
