"""The values at which the cells of a latent rest: a brick is there or not, a digit is one of ten.

A memory without weights: what rests is recognised in the newest frame and expected to stay, as it was recorded and not
as the last prediction has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gamengen.diffusion.joint_rests import LEAST_SEEN, MAX_COMBINATIONS, join_cells
from gamengen.latents.windows import Rows

MAX_RESTS = 16
"""Values of a cell: ten digits, or the bricks of a cell, there or not."""
APART = 1.0
"""Distance over the channels from which on two values are two."""
STILL = 0.5
"""A cell rests when it is no farther than this from where it was a frame before."""
MAX_LEFT = 0.1
"""Of a cell's mean squared distance from its median, what may be left after the value is known; else it has none.
What a paddle or a ball passes is no memory: expected to stay, its remains would."""
LEAST_DEVIATION = 0.2
"""Of a resting cell. What then changes, such as a brick that is hit, is far away: less would need huge outputs."""
MAX_ROWS = 8192


@dataclass(frozen=True)
class Rests:
    """In normalised latents, over the training split."""

    values: Tensor
    """float32 (K, C, h, w), inf where a cell has fewer; all of them where it has none."""
    deviation: Tensor
    """float32 (C, h, w): root mean square distance from the value at which the frame before rests."""
    groups: Tensor | None = None
    """int64 (h, w): cells of one number have their values together, as the parts of a digit do; None: each alone."""

    def to(self, device: torch.device | str) -> Rests:
        groups = None if self.groups is None else self.groups.to(device)
        return Rests(self.values.to(device), self.deviation.to(device), groups)

    def distances(self, newest: Tensor) -> Tensor:
        """Squared distance of frames (B, C, h, w) from each value, over the cells of a group: (B, K, h, w)."""
        distance = (newest.unsqueeze(1) - self.values).square().sum(2)
        if self.groups is None:
            return distance
        numbers, flat = self.groups.flatten(), distance.flatten(2)
        # At most as many groups as cells: their number need not be fetched from the device.
        return torch.zeros_like(flat).index_add_(2, numbers, flat)[:, :, numbers].view_as(distance)

    def nearest(self, newest: Tensor) -> tuple[Tensor, Tensor]:
        """The value nearest to each cell of the newest frame (B, C, h, w), however far.

        A worn or half changed cell counts as what it is most like: a brick that is half gone is decided upon.

        Returns:
            (B, C, h, w), and bool (B, 1, h, w): whether the cell has values at all.
        """
        least, which = self.distances(newest).min(1, keepdim=True)
        index = which.unsqueeze(2).expand(-1, 1, *newest.shape[1:])
        value = self.values.expand(len(newest), *self.values.shape).gather(1, index).squeeze(1)
        known = least.isfinite()
        return torch.where(known, value, 0.0), known


def measure_rests(rows: Rows, arrays_of: Callable[[Tensor], Tensor], deviation: Tensor) -> Rests:
    """The resting values of a split.

    Args:
        rows: at most `MAX_ROWS` of them, evenly spread, are looked at, each with the one before it.
        arrays_of: rows -> normalised latents (n, C, h, w) on the CPU.
        deviation: (C, h, w), root mean square distance from the median.
    """
    firsts = {int(start) for start, _ in rows.segments}
    spread = torch.linspace(0, len(rows.actions) - 1, min(MAX_ROWS, len(rows.actions))).round().long()
    chosen = spread[torch.tensor([int(row) not in firsts for row in spread], dtype=torch.bool)]
    values = _found(chosen, arrays_of, deviation.shape)
    everywhere = Rests(values, deviation)
    squared, count = torch.zeros(deviation.shape), torch.zeros(deviation.shape[1:])
    for part in chosen[:: max(1, len(chosen) // 4096)].split(256):
        value, known = everywhere.nearest(arrays_of(part - 1))
        squared += ((arrays_of(part) - value).square() * known).sum(0)
        count += known.squeeze(1).sum(0)
    left = squared / count.clamp(min=1)
    rests = (left.sum(0) <= MAX_LEFT * deviation.square().sum(0)) & (count > 0)
    values = torch.where(rests, values, torch.inf)
    values, groups = _joined(values, rests, rows, spread, arrays_of)
    most = max(1, int(values.isfinite().all(1).sum(0).max()))
    # A cell that never changes stays as sure as it was.
    return Rests(values[:most], left.sqrt().clamp(min=LEAST_DEVIATION).minimum(deviation), groups)


def _joined(
    values: Tensor, rests: Tensor, rows: Rows, spread: Tensor, arrays_of: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The values by combinations of cells that change together, and the groups of cells."""
    values = torch.cat([values, torch.full((MAX_COMBINATIONS - MAX_RESTS, *values.shape[1:]), torch.inf)])
    alone = Rests(values, torch.empty(0))
    labels = torch.cat([alone.distances(arrays_of(part)).argmin(1) for part in spread.split(64)])
    episode = torch.bucketize(spread, rows.segments[:, 1].contiguous(), right=True)
    follows = torch.cat([torch.tensor([False]), episode[1:] == episode[:-1]])
    groups, chosen = join_cells(labels, follows, rests)
    index = chosen.clamp(min=0).unsqueeze(1).expand_as(values)
    return torch.where((chosen >= 0).unsqueeze(1), values.gather(0, index), torch.inf), groups


def _found(chosen: Tensor, arrays_of: Callable[[Tensor], Tensor], shape: torch.Size) -> Tensor:
    """(MAX_RESTS, C, h, w): each cell that rests far from all of its values begins a new one, else it is averaged in.

    Source: leader clustering (Hartigan 1975), one pass, with running means.
    """
    values = torch.full((MAX_RESTS, *shape), torch.inf)
    seen = torch.zeros((MAX_RESTS, *shape[1:]))
    slots = torch.arange(MAX_RESTS).view(-1, 1, 1)
    for part in chosen.split(256):
        before, now = arrays_of(part - 1), arrays_of(part)
        for row in ((now - before).square().sum(1) <= STILL**2).nonzero()[:, 0].unique().tolist():
            still = (now[row] - before[row]).square().sum(0) <= STILL**2
            least, which = (values - now[row]).square().sum(1).min(0)
            used = (seen > 0).sum(0)
            which = torch.where(least <= APART**2, which, used)
            mine = (slots == which) & still  # a cell whose values are used up finds no slot
            seen += mine
            step = (1 / seen.clamp(min=1)).unsqueeze(1)
            moved = torch.where(values.isfinite(), values + step * (now[row] - values), now[row])
            values = torch.where(mine.unsqueeze(1), moved, values)
    values = torch.where((seen >= LEAST_SEEN).unsqueeze(1), values, torch.inf)
    # Those that are left, first.
    order = (~values[:, 0].isfinite()).int().argsort(dim=0, stable=True)
    return values.gather(0, order.unsqueeze(1).expand(-1, shape[0], -1, -1))
