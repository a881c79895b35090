"""The scene: what of a game's picture stands still, and the prediction of someone who knows only that.

Most cells of a latent hardly leave their median. Letting the network predict only the rest makes the court, the walls
and the sky right from the first training step on, at every noise level, and keeps them right for any number of own
frames: a cell that never moved in the recording cannot drift. Where everything moves the deviation is about 1, and what
remains is the plain prediction.

Some cells rest at one of a few values for a long time: a brick is there or not, a digit is one of ten. There the value
at which the newest frame rests is expected (`rests.Rests`), and what is near it counts as it: so a wall stands for as
many own frames as one likes. Expecting what the newest frame has, as it has it, would add up every small error instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor

from gamengen.contract import CodecContract
from gamengen.diffusion.rests import Rests, measure_rests
from gamengen.diffusion.schedule import PredictionType
from gamengen.durable import write_bytes
from gamengen.latents.windows import Rows

SCENE_FILE = "scene.safetensors"
LEAST_DEVIATION = 0.02
"""No cell is certain: what was never seen to move may move in a longer recording."""
MAX_ROWS = 4096
OFTEN = 0.05
"""Cells that change in more than this share of the rows hold nothing rare."""


@dataclass(frozen=True)
class Scene:
    """In normalised latents, over the training split."""

    median: Tensor
    """float32 (C, h, w)."""
    deviation: Tensor
    """float32 (C, h, w): root mean square distance from the median, at least `LEAST_DEVIATION`."""
    rests: Rests | None = None
    """None in worlds that were trained without."""

    def to(self, device: torch.device | str) -> Scene:
        rests = None if self.rests is None else self.rests.to(device)
        return Scene(self.median.to(device), self.deviation.to(device), rests)

    def tensors(self) -> dict[str, Tensor]:
        """All of it, by the names in `scene.safetensors`."""
        tensors = {"median": self.median, "deviation": self.deviation}
        if self.rests is not None:
            tensors |= {"rests": self.rests.values, "rest_deviation": self.rests.deviation}
            if self.rests.groups is not None:
                tensors["rest_groups"] = self.rests.groups
        return tensors

    def after(self, newest: Tensor) -> Scene:
        """What is expected after the newest frame (B, C, h, w): median and deviation, or for cells that rest the value
        where they do and the deviation from it, for each sample."""
        if self.rests is None:
            return self
        value, known = self.rests.nearest(newest.float())
        return Scene(torch.where(known, value, self.median), torch.where(known, self.rests.deviation, self.deviation))


def normalise(raw: Tensor, codec: CodecContract) -> Tensor:
    """Raw latents (..., C, h, w), any dtype -> float32, about unit variance, by the contract's figures."""
    assert codec.mean is not None and codec.std is not None, "shards must be finalised"
    mean, std = (torch.tensor(values, device=raw.device).view(-1, 1, 1) for values in (codec.mean, codec.std))
    return (raw.float() - mean) / std


def measure_scene(rows: Rows, codec: CodecContract, median: Tensor, with_rests: bool = True) -> Scene:
    """The scene of a split.

    Args:
        rows: its raw latents; at most `MAX_ROWS` of them, evenly spread, are looked at.
        median: (C, h, w) raw median latent, as the shards' statistics have it.
        with_rests: look for the values at which cells rest, too.
    """
    chosen = _spread(rows)
    centre = normalise(median, codec).cpu()
    total = torch.zeros_like(centre)
    for part in chosen.split(256):
        total += (normalise(rows.gather(part), codec).cpu() - centre).square().sum(0)
    deviation = (total / len(chosen)).sqrt().clamp(min=LEAST_DEVIATION)
    rests = None
    if with_rests:
        rests = measure_rests(rows, lambda part: normalise(rows.gather(part), codec).cpu(), deviation)
    return Scene(centre, deviation, rests)


def foreground_share(rows: Rows, codec: CodecContract, scene: Scene, threshold: float) -> Tensor:
    """How often a cell is not what the scene expects after the row before, by more than `threshold` in a channel:
    float32 (h, w) in [0, 1]."""
    chosen = _spread(rows)
    differs = []
    for part in chosen.split(256):
        before, now = (normalise(rows.gather(p), codec).cpu() for p in ((part - 1).clamp(min=0), part))
        expected = scene.to("cpu").after(before).median
        differs.append(((now - expected).abs().amax(1) > threshold).sum(0))
    return torch.stack(differs).sum(0).float() / len(chosen)


def surprises(rows: Rows, codec: CodecContract, threshold: float) -> Tensor:
    """Which rows bring something that the frame before did not announce, such as a new ball or a point: bool (rows,).

    A cell changes by more than twice the `threshold` in a channel, in a place where in the row before nothing within
    the 5x5 cells around changed by more than the threshold: what moves there from a neighbour's place is no surprise.
    Nor is what happens in cells that change in more than `OFTEN` of all rows, such as a paddle that sets off.
    """
    count = len(rows.actions)
    sudden = torch.zeros((count, *codec.array_shape[1:]), dtype=torch.bool)
    total = torch.zeros(codec.array_shape[1:])
    last: tuple[Tensor, Tensor] | None = None  # the array and the change before those of the part
    for part in torch.arange(count).split(1024):
        arrays = normalise(rows.gather(part), codec).cpu()
        before = arrays[:1] if last is None else last[0]
        change = (arrays - torch.cat([before, arrays[:-1]])).abs().amax(1, keepdim=True)
        earlier = torch.cat([change[:1] if last is None else last[1], change[:-1]])
        near = F.max_pool2d(earlier, 5, stride=1, padding=2)
        sudden[part] = ((change > 2 * threshold) & (near <= threshold)).squeeze(1)
        total += (change > threshold).sum((0, 1))
        last = arrays[-1:], change[-1:]
    seldom = total <= OFTEN * count
    return (sudden & seldom).flatten(1).any(1)


def _spread(rows: Rows) -> Tensor:
    """int64, at most `MAX_ROWS` rows, evenly spread."""
    count = len(rows.actions)
    return torch.linspace(0, count - 1, min(MAX_ROWS, count)).round().long()


def write_scene(folder: str | Path, scene: Scene) -> None:
    """Write `scene.safetensors`, atomically."""
    tensors = {name: value.cpu().contiguous() for name, value in scene.tensors().items()}
    write_bytes(Path(folder) / SCENE_FILE, save(tensors))


def read_scene(folder: str | Path) -> Scene:
    """Read what `write_scene` wrote; FileNotFoundError when a world folder has lost it."""
    file = Path(folder) / SCENE_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing, the world was trained with it: copy the whole world folder again")
    tensors = {name: value.clone() for name, value in load_file(file).items()}
    rests = None
    if "rests" in tensors:
        rests = Rests(tensors["rests"], tensors["rest_deviation"], tensors.get("rest_groups"))
    return Scene(tensors["median"], tensors["deviation"], rests)


@dataclass(frozen=True)
class Preconditioning:
    """What the scene says at one level, as factors of the noisy sample and of the output: `preconditioning`."""

    signal: Tensor
    noise_scale: Tensor
    median: Tensor
    expected: Tensor
    """The median as it stands in a noisy sample: signal * median."""
    gain: Tensor
    spread: Tensor

    def difference(self, noisy: Tensor) -> Tensor:
        """How far the expected clean array is from the median, (B, C, h, w): what the network sees of the noisy one.

        0 at zero SNR, where the noisy array says nothing.
        """
        return self.gain * (noisy - self.expected)

    def __call__(self, kind: PredictionType, output: Tensor, noisy: Tensor) -> Tensor:
        """The prediction (B, C, h, w) from the network's own output."""
        clean = self.median + self.difference(noisy)
        if kind == "v_prediction":
            return (self.signal * noisy - clean) / self.noise_scale + self.spread * output
        if kind == "flow":
            return (noisy - clean) / self.noise_scale + self.spread * output
        if kind == "epsilon":
            return (noisy - self.signal * clean) / self.noise_scale + self.signal * self.spread * output
        return clean + self.noise_scale * self.spread * output


def preconditioning(signal: Tensor, noise_scale: Tensor, scene: Scene) -> Preconditioning:
    """The factors at the levels (B, 1, 1, 1), or (1, 1, 1, 1) for all of a batch; noise_scale > 0.

    If `x_0 ~ N(median, s^2)` and `x_t = signal * x_0 + noise_scale * noise`, then the expected x_0 is
    `median + gain * (x_t - signal * median)` with `gain = signal s^2 / (signal^2 s^2 + noise_scale^2)`, and what is
    left has the variance `s^2 noise_scale^2 / (signal^2 s^2 + noise_scale^2)`: the network's output is scaled by the
    fourth root of that (in units of v), half-way between that size and 1.

    Source: the posterior of two Gaussians. It is EDM's c_skip and c_out (arXiv 2206.00364, table 1) with a mean and a
        variance of every cell's own in the place of 0 and sigma_data^2. Departure: the root in c_out. A cell is still
        most of the time and then changes by much: with c_out itself the ball needed outputs of 20 and was not learnt.
    """
    variance = scene.deviation**2
    total = signal**2 * variance + noise_scale**2
    gain = signal * variance / total
    spread = (scene.deviation / total.sqrt()).sqrt()
    return Preconditioning(signal, noise_scale, scene.median, signal * scene.median, gain, spread)


def loss_weight(signal: Tensor, noise_scale: Tensor, scene: Scene) -> Tensor:
    """(B, 1, 1, 1) weight of a squared error of v, 1 at the last timestep: in inverse proportion to what is left of v.

    At low noise an error of the prediction hardly moves the clean frame; unweighted, it would rule the loss.
    """
    return signal**2 * scene.deviation.square().mean().clamp(max=1.0) + noise_scale**2
