"""Statistics of raw codec arrays that stand in several parts: mean, standard deviation, median array."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MEDIAN_ROWS = 512
"""Rows, spread over all parts, that the median array is taken over."""
STILL_STD = 1e-4
"""A channel that varies less than this never changes; its standard deviation counts as 1."""
BLOCK_ROWS = 4096


def channel_statistics(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, float32 (C,), of raw arrays (N_k, C, h, w), in two passes of float64."""
    blocks = [block for part in parts for block in part.split(BLOCK_ROWS)]
    count = sum(len(part) * part.shape[2] * part.shape[3] for part in parts)
    mean = sum((block.double().sum((0, 2, 3)) for block in blocks), torch.zeros(())) / count
    centre = mean.view(-1, 1, 1)
    squares = sum(((block.double() - centre).square().sum((0, 2, 3)) for block in blocks), torch.zeros(()))
    std = (squares / count).sqrt()
    return mean.float(), torch.where(std < STILL_STD, torch.ones_like(std), std).float()


def median_array(parts: Sequence[Tensor]) -> Tensor:
    """float32 (C, h, w): the median over rows spread evenly over all parts."""
    total = sum(len(part) for part in parts)
    rows = torch.linspace(0, total - 1, min(MEDIAN_ROWS, total)).round().long()
    ends = torch.tensor([len(part) for part in parts]).cumsum(0)
    part_of = torch.searchsorted(ends, rows, right=True).tolist()
    sample = torch.stack([parts[k][row - (ends[k] - len(parts[k]))] for k, row in zip(part_of, rows, strict=True)])
    return sample.float().median(dim=0).values
