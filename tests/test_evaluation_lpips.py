"""evaluation.lpips against the network written out with stock layers, on random weights under the published names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gamengen.evaluation.lpips import BACKBONES, Lpips, find_lpips, load_lpips, of_frames
from gamengen.evaluation.networks import find_networks


def alexnet_features() -> nn.Sequential:
    """torchvision's `alexnet().features`, layer by layer."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip


def published(features: nn.Sequential, widths: tuple[int, ...]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    backbone = {f"features.{name}": value for name, value in features.state_dict().items()}
    return backbone, {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(widths)}


def reference(features: nn.Sequential, heads: dict[str, Tensor], taps: tuple[int, ...], pair: list[Tensor]) -> Tensor:
    """The authors' formula, written out."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    total = torch.zeros(len(pair[0]))
    hidden = [(image - shift.view(1, 3, 1, 1)) / scale.view(1, 3, 1, 1) for image in pair]
    for index, layer in enumerate(features):
        hidden = [layer(h) for h in hidden]
        if index in taps:
            one, other = (h / (h.square().sum(1, keepdim=True).sqrt() + 1e-10) for h in hidden)
            weights = heads[f"lin{taps.index(index)}.model.1.weight"].view(1, -1, 1, 1)
            total = total + ((one - other).square() * weights).sum(1).mean((1, 2))
    return total


def test_it_is_the_authors_formula_on_alexnet(tmp_path: Path) -> None:
    torch.manual_seed(0)
    features = alexnet_features().eval()
    backbone, heads = published(features, (64, 192, 384, 256, 256))
    torch.save(backbone | {"classifier.1.weight": torch.zeros(1)}, tmp_path / "alexnet-owt-7be5be79.pth")
    torch.save(heads, tmp_path / "alex.pth")
    frames = np.random.default_rng(0).integers(0, 256, (2, 2, 64, 64, 3), dtype=np.uint8)
    pair = [torch.from_numpy(f).permute(0, 3, 1, 2).float() / 127.5 - 1 for f in frames]
    with torch.no_grad():
        expected = reference(features, heads, (1, 4, 7, 9, 11), pair)
    network = load_lpips(tmp_path)
    assert network.kind == "alex"
    files = tmp_path / "alexnet-owt-7be5be79.pth", tmp_path / "alex.pth"
    assert find_lpips(tmp_path) == ("alex", *files)
    assert find_networks(lpips_weights=str(tmp_path)).lpips_backbone == "alex"
    found = of_frames(network)(frames[0], frames[1])
    assert found == pytest.approx(expected.double().numpy(), rel=1e-5) and (found > 0).all()
    assert of_frames(network)(frames[0], frames[0]) == pytest.approx(0)


def test_vgg_is_read_from_torchvisions_places() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for width in (8, 8, 0, 16, 16, 0, 24, 24, 24, 0, 32, 32, 32, 0, 32, 32, 32, 0):  # narrow: the places matter
        layers += [nn.MaxPool2d(2, 2)] if width == 0 else [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        channels = width or channels
    features = nn.Sequential(*layers).eval()
    backbone, heads = published(features, (8, 16, 24, 32, 32))
    pair = [torch.rand(1, 3, 32, 32) * 2 - 1 for _ in range(2)]
    with torch.no_grad():
        expected = reference(features, heads, (3, 8, 15, 22, 29), pair)
        assert Lpips("vgg", backbone, heads)(*pair) == pytest.approx(expected, rel=1e-5)


def test_missing_weights_say_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "alex.pth").write_bytes(b"heads alone")
    assert find_lpips(tmp_path) is None
    with pytest.raises(FileNotFoundError, match=r"weights not found in .*alexnet-owt-7be5be79.pth.*--lpips_weights"):
        load_lpips(tmp_path)
    with pytest.raises(ValueError, match=r"features.0.weight"):
        Lpips("alex", {}, {})
    assert set(BACKBONES) == {"alex", "vgg"}
