"""The energy score: a loss whose best answer is not the mean of all futures but one of them, as often as it comes.

Where a ball bounces to is often not told by the context, nor when a digit turns. Squares answer with the mean of all
that may be, a few faint balls; lengths with the middle of it, no ball. Under the energy score two predictions from
different noises are pulled to what was recorded and pushed from each other: the loss is least, in expectation, when
predictions are distributed as what follows is (it is strictly proper). So one denoising step draws a future.

Its weights must not know what was recorded: where a cell weighed more if something came there, that would be predicted
as if it came the more often.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PATCHES = (1, 5, 0)
"""Sides of the patches over which errors are taken together, in cells; 0 is the whole picture. A patch that holds all
places where a ball may be learns that it is in one of them."""


def energy_score(fit: Tensor, spread: Tensor, sampled: Tensor, weights: Tensor, c: float) -> Tensor:
    """Energy score of each sample (B,), with the kernel `length`; its gradient flows through both errors.

    Args:
        fit: (B, C, h, w) squared difference of a prediction from what was recorded.
        spread: (B, C, h, w) squared difference of it from another prediction for the same context, **without gradient
            through the other one**; its part of the gradient is counted twice, which in expectation is the same.
        sampled: bool (B,), where there is another prediction; the others are judged by `fit` alone.
        weights: (B, 1, h, w), a function of the context alone.
        c: standard deviations of the latents: errors far below count with their square, as noise.
    Source: Gneiting and Raftery 2007, section 4.3; for denoisers that jump far, arXiv 2502.02483. Departures: the norm
        is rounded at 0 (a multiquadric, negative definite as the norm is), and the scores of several patches are added.
    """
    total = torch.zeros(len(fit), device=fit.device)
    for side in PATCHES:
        near, apart = (length(error, weights, side, c) for error in (fit, spread))
        apart = torch.where(sampled, apart, torch.zeros_like(apart))
        # Its value is a half, its gradient, by one of the two predictions only, a whole.
        total = total + near - (apart - apart.detach() / 2)
    return total / len(PATCHES) / weights.mean((1, 2, 3))


def length(error: Tensor, weights: Tensor, side: int, c: float) -> Tensor:
    """Squared errors (B, C, h, w) -> (B,): mean over all patches of side x side cells of the weighted length of the
    error over the patch, a cell's share of it; about the mean square over channels where errors are small.

    Patches at the border hold fewer cells.
    """
    squares = weights.square() * (error.sum(1, keepdim=True) + c**2)
    least = weights.square() * c**2
    if side == 0:
        cells = squares[0].numel()
        lengths = squares.sum((1, 2, 3)).sqrt() - least.sum((1, 2, 3)).sqrt()
        return 2 * c * lengths / cells / error.shape[1]
    if side > 1:
        squares, least = (_summed(value, side) for value in (squares, least))
    return 2 * c * (squares.sqrt() - least.sqrt()).mean((1, 2, 3)) / side**2 / error.shape[1]


def _summed(values: Tensor, side: int) -> Tensor:
    """Sum over the side x side cells around each cell."""
    return F.avg_pool2d(values, side, stride=1, padding=side // 2) * side**2
