"""Which foreign networks are at hand for LPIPS, FVD and agents' features; what is missing is said, never replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from gamengen.evaluation.figures import Values
from gamengen.evaluation.frechet import ClipFeatures
from gamengen.evaluation.lpips import load_lpips, of_frames
from gamengen.evaluation.suite import Networks

FVD_FRAMES = (16, 32)
AGENT_FRAMES = 16
I3D_SIZE = 224

Frames = npt.NDArray[np.uint8]


class SeesClips(Protocol):
    """An agent whose network's features may be compared."""

    def clip_features(self, frames: Frames) -> Values:
        """uint8 (T, H, W, 3) of successive recorded frames -> (K, d), K >= 1."""
        ...


def find_networks(
    lpips_weights: str | None = None, fvd_weights: str | None = None, agent: SeesClips | None = None,
    device: str = "cpu",
) -> Networks:  # fmt: skip
    """What can be had.

    Args:
        lpips_weights: folder; None looks where torchvision and lpips keep theirs.
        fvd_weights: I3D TorchScript file.
    Raises:
        FileNotFoundError: files that were named are not there.
    """
    perceptual, lpips_backbone, lpips_missing = None, "", ""
    try:
        network = load_lpips(lpips_weights, device)
        perceptual, lpips_backbone = of_frames(network), network.kind
    except FileNotFoundError as error:
        if lpips_weights is not None:
            raise
        lpips_missing = str(error)
    features: list[ClipFeatures] = []
    missing = []
    if fvd_weights is not None:
        of_clip = load_i3d(fvd_weights, device)
        features += [ClipFeatures(f"fvd{length}", length, of_clip) for length in FVD_FRAMES]
    else:
        missing.append(
            "FVD: not measured: weights not found. Get the I3D network as TorchScript (i3d_torchscript.pt, as "
            "StyleGAN-V publishes it) and give it as --fvd_weights"
        )
    if agent is not None:
        features.append(ClipFeatures("agent_distance", AGENT_FRAMES, agent.clip_features))
    else:
        missing.append(
            "Frechet distance on an agent's features: not measured: no --agent given (a Stable-Baselines3 zip)"
        )
    return Networks(perceptual, tuple(features), lpips_backbone, lpips_missing, tuple(missing))


def load_i3d(path: str | Path, device: str = "cpu") -> Callable[[Frames], Values]:
    """The features of a clip by the I3D network that is usual for FVD: uint8 (T, H, W, 3) -> (1, 400).

    Source: Unterthiner et al. 2018 (arXiv 1812.01717); frames are resized to 224x224 bilinearly, to [-1, 1], and the
        TorchScript is called as StyleGAN-V calls it.
    Raises:
        FileNotFoundError, ValueError: no such file, or not a TorchScript.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"--fvd_weights {path}: no such file; expected the I3D network as TorchScript")
    try:
        network: Any = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise ValueError(f"--fvd_weights {path} is no TorchScript: {error}") from error

    @torch.no_grad()
    def of_clip(frames: Frames) -> Values:
        video = torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float()
        video = functional.interpolate(video, (I3D_SIZE, I3D_SIZE), mode="bilinear", align_corners=False)
        video = (video / 127.5 - 1).transpose(0, 1)[None]  # (1, 3, T, 224, 224)
        features = network(video, rescale=False, resize=False, return_features=True)
        values: Values = features.reshape(1, -1).double().cpu().numpy()
        return values

    return of_clip
