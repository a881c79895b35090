"""evaluation.networks: what is missing is said, a named file that is not there is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gamengen.evaluation.networks import find_networks, load_i3d


class Scripted(nn.Module):
    """Called as the I3D TorchScript is: means over time and space of the input."""

    def forward(self, video: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        if rescale or resize or not return_features:
            return torch.zeros(1, 1)
        return torch.cat([video.mean((2, 3, 4)), torch.tensor([[video.shape[2], video.shape[3], video.shape[4]]])], 1)


class Sees:
    """An agent with features."""

    def clip_features(self, frames: np.ndarray) -> np.ndarray:
        return frames.mean((1, 2)).astype(float)


def test_without_anything_everything_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    networks = find_networks()
    assert networks.perceptual is None and networks.clip_features == ()
    assert "--lpips_weights" in networks.lpips_missing
    assert [text.split(":")[0] for text in networks.clips_missing] == [
        "FVD", "Frechet distance on an agent's features",
    ]  # fmt: skip


def test_the_clip_goes_into_the_network_as_fvd_wants_it(tmp_path: Path) -> None:
    torch.jit.script(Scripted()).save(str(tmp_path / "i3d.pt"))
    frames = np.full((16, 20, 10, 3), 255, np.uint8)
    frames[..., 2] = 0
    assert load_i3d(tmp_path / "i3d.pt")(frames) == pytest.approx(np.array([[1, 1, -1, 16, 224, 224]]))
    networks = find_networks(fvd_weights=str(tmp_path / "i3d.pt"), agent=Sees())
    assert [(f.measure, f.num_frames) for f in networks.clip_features] == [
        ("fvd16", 16), ("fvd32", 32), ("agent_distance", 16),
    ]  # fmt: skip
    assert not any("FVD" in text for text in networks.clips_missing)


def test_files_that_were_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="weights not found"):
        find_networks(lpips_weights=str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such file"):
        find_networks(fvd_weights=str(tmp_path / "none.pt"))
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ValueError, match="no TorchScript"):
        load_i3d(tmp_path / "text.pt")
