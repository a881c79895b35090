"""LPIPS from the published weights: the backbone of torchvision and the linear heads of the lpips package."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gamengen.evaluation.next_frame import PairDistance

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of pixels in [-1, 1], as the published heads were trained."""
EPSILON = 1e-10
MAX_BATCH = 16


@dataclass(frozen=True)
class Backbone:
    """One of the two published networks."""

    file: str
    """Pattern of torchvision's file."""
    heads_file: str
    convolutions: tuple[tuple[int, int, int, int], ...]
    """(index in `features`, kernel, stride, padding) of each; a ReLU follows."""
    pools_before: tuple[int, ...]
    """Convolutions (by their place in `convolutions`) with a max-pool before them."""
    pool: tuple[int, int]
    """Its kernel and stride."""
    taps: tuple[int, ...]
    """Convolutions after whose ReLU features are compared."""


BACKBONES = {
    "alex": Backbone(
        "alexnet-*.pth", "alex.pth", ((0, 11, 4, 2), (3, 5, 1, 2), (6, 3, 1, 1), (8, 3, 1, 1), (10, 3, 1, 1)),
        pools_before=(1, 2), pool=(3, 2), taps=(0, 1, 2, 3, 4),
    ),
    "vgg": Backbone(
        "vgg16-*.pth", "vgg.pth",
        tuple((index, 3, 1, 1) for index in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
        pools_before=(2, 4, 7, 10), pool=(2, 2), taps=(1, 3, 6, 9, 12),
    ),
}  # fmt: skip


class Lpips(nn.Module):
    """The distance of two frames; smaller is more alike.

    Source: Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", equation 1;
        version 0.1 of the authors' package.

    Args:
        backbone, heads: state dicts as published: `features.<n>.weight`, `lin<n>.model.1.weight`.
    Raises:
        ValueError: a weight is missing.
    """

    def __init__(self, kind: str, backbone: dict[str, Tensor], heads: dict[str, Tensor]) -> None:
        super().__init__()
        self.kind, self._plan = kind, BACKBONES[kind]
        layers = []
        for index, kernel, stride, padding in self._plan.convolutions:
            weight, bias = (_weight(backbone, f"features.{index}.{part}") for part in ("weight", "bias"))
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], kernel, stride, padding)
            layer.load_state_dict({"weight": weight, "bias": bias})
            layers.append(layer)
        self.layers = nn.ModuleList(layers)
        for number in range(len(self._plan.taps)):
            self.register_buffer(f"head{number}", _weight(heads, f"lin{number}.model.1.weight"))
        self.requires_grad_(False).eval()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] twice -> (N,)."""
        total = torch.zeros(len(first), device=first.device)
        for number, (one, other) in enumerate(zip(self._features(first), self._features(second), strict=True)):
            difference = (_unit(one) - _unit(other)) ** 2
            weighted = functional.conv2d(difference, getattr(self, f"head{number}"))
            total = total + weighted.mean((1, 2, 3))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        shift, scale = (images.new_tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
        hidden = (images - shift) / scale
        taps = []
        for number, layer in enumerate(self.layers):
            if number in self._plan.pools_before:
                hidden = functional.max_pool2d(hidden, *self._plan.pool)
            hidden = functional.relu(layer(hidden))
            if number in self._plan.taps:
                taps.append(hidden)
        return taps


def of_frames(network: Lpips) -> PairDistance:
    """The distance as a function of uint8 frames (N, H, W, 3) twice -> float64 (N,)."""
    device = next(network.parameters()).device

    @torch.no_grad()
    def distance(real: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        values = []
        for start in range(0, len(real), MAX_BATCH):
            one, two = (_as_tensor(frames[start : start + MAX_BATCH], device) for frames in (real, other))
            values.append(network(one, two).double().cpu().numpy())
        found: npt.NDArray[np.float64] = np.concatenate(values)
        return found

    return distance


def load_lpips(folder: str | Path | None, device: str = "cpu") -> Lpips:
    """The network from a folder, or from where torchvision and lpips keep their files on this machine.

    Raises:
        FileNotFoundError: weights are not found; says how to get them.
    """
    found = find_lpips(folder)
    if found is not None:
        kind, *files = found
        weights, heads = (torch.load(file, map_location="cpu", weights_only=True) for file in files)
        return Lpips(kind, weights, heads).to(device)
    where = ", ".join(map(str, _places(folder)))
    raise FileNotFoundError(
        f"weights not found in {where}. Put torchvision's alexnet-owt-7be5be79.pth and the lpips package's "
        "weights/v0.1/alex.pth (or vgg16-397923af.pth and vgg.pth) into one folder and give it as --lpips_weights"
    )


def find_lpips(folder: str | Path | None) -> tuple[str, Path, Path] | None:
    """Which backbone `load_lpips` takes, its file and that of the heads; None where no pair is whole."""
    for kind, backbone in BACKBONES.items():
        files = [_first(_places(folder), pattern) for pattern in (backbone.file, backbone.heads_file)]
        if files[0] is not None and files[1] is not None:
            return kind, files[0], files[1]
    return None


def _places(folder: str | Path | None) -> list[Path]:
    if folder is not None:
        return [Path(folder)]
    spec = importlib.util.find_spec("lpips")  # looked at, not imported: it would import torchvision
    package = [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "weights/v0.1"]
    return [Path(torch.hub.get_dir()) / "checkpoints", *package]


def _first(places: list[Path], pattern: str) -> Path | None:
    return next((path for place in places for path in sorted(place.glob(pattern))), None)


def _weight(weights: dict[str, Tensor], name: str) -> Tensor:
    if name not in weights:
        raise ValueError(f"LPIPS weights have no {name!r}: expected torchvision's backbone and the heads of lpips 0.1")
    return weights[name].float()


def _unit(features: Tensor) -> Tensor:
    return features / (features.pow(2).sum(1, keepdim=True).sqrt() + EPSILON)


def _as_tensor(frames: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
