"""Cells that rest together: the parts of one digit, or of one brick that reaches into two cells.

Decided upon one by one, half of a digit can become the next one and the other half stay; and since what rests stays,
such a mixture would stay for ever. Cells whose values change together are therefore decided upon together, among the
combinations that were recorded.
"""

from __future__ import annotations

import torch
from torch import Tensor

TOGETHER = 0.5
"""Share of the changes of the one that changes more often that two neighbours must have in common."""
MAX_COMBINATIONS = 32
"""Of a group: ten digits, each beside a few of the next one's."""
LEAST_CHANGES = 5
"""Of a cell, to say with whom it changes."""
LEAST_SEEN = 3
"""Rows in which a combination must have been found."""
MOST_MISSED = 0.001
"""Share of the rows that may hold a combination which is not kept. Where balls pass more do: those stay apart."""


def join_cells(labels: Tensor, follows: Tensor, rests: Tensor) -> tuple[Tensor, Tensor]:
    """Join neighbouring cells, those that change together most often first, while few combinations tell it all.

    Args:
        labels: int64 (n, h, w): at which of its values, at most `MAX_COMBINATIONS`, each cell is, in rows in order.
        follows: bool (n,): the row before is an earlier one of the same episode.
        rests: bool (h, w): which cells have values at all.
    Returns:
        groups int64 (h, w), numbers from 0; and chosen int64 (MAX_COMBINATIONS, h, w): the value that each cell has in
        each of its group's combinations, -1 where there are fewer.
    """
    shape, labels = labels.shape[1:], labels.flatten(1)
    groups = torch.arange(labels.shape[1])
    joint = {int(cell): labels[:, cell] for cell in rests.flatten().nonzero().flatten()}
    for one, other in _pairs(labels, follows, rests):
        first, second = int(groups[one]), int(groups[other])
        if first == second:
            continue
        both, counts = _number(joint[first], joint[second])
        kept = counts >= LEAST_SEEN
        if int(kept.sum()) <= MAX_COMBINATIONS and float(counts[~kept].sum()) <= MOST_MISSED * len(labels):
            groups[groups == second] = first
            joint[first] = both
            del joint[second]
    chosen = torch.full((MAX_COMBINATIONS, labels.shape[1]), -1)
    for group in joint:
        cells = (groups == group).nonzero().flatten()
        if len(cells) > 1:
            combinations, counts = labels[:, cells].unique(dim=0, return_counts=True)
            combinations = combinations[counts >= LEAST_SEEN]
        else:
            # All of its values, whether these rows have them or not.
            combinations = torch.arange(MAX_COMBINATIONS).unsqueeze(1)
        chosen[: len(combinations), cells] = combinations
    groups = groups.unique(return_inverse=True)[1]
    return groups.view(shape), chosen.view(-1, *shape)


def _pairs(labels: Tensor, follows: Tensor, rests: Tensor) -> list[tuple[int, int]]:
    """Neighbours, diagonal ones too, with enough changes in common; the most first."""
    height, width = rests.shape
    changes = (labels[1:] != labels[:-1])[follows[1:]].float()
    often = changes.sum(0)
    cells = torch.arange(height * width).view(height, width)
    found = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        columns = slice(max(0, -right), width - max(0, right)), slice(max(0, right), width + min(0, right))
        one, other = cells[: height - down, columns[0]].flatten(), cells[down:, columns[1]].flatten()
        common = (changes[:, one] * changes[:, other]).sum(0)
        share = common / torch.maximum(often[one], often[other]).clamp(min=1)
        enough = (torch.minimum(often[one], often[other]) >= LEAST_CHANGES) & (share >= TOGETHER)
        enough &= rests.flatten()[one] & rests.flatten()[other]
        found += list(zip(share[enough].tolist(), one[enough].tolist(), other[enough].tolist(), strict=True))
    return [(one, other) for _, one, other in sorted(found, key=lambda pair: (-pair[0], *pair[1:]))]


def _number(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The combinations of two labels (n,), numbered from 0, and how often each is found."""
    pairs = one * (int(other.max()) + 1) + other
    _, numbers, counts = pairs.unique(return_inverse=True, return_counts=True)
    return numbers, counts
