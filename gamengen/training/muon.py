"""Muon: momentum whose matrices are orthogonalised, so that every direction of a layer learns equally fast.

Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; the size of an update as in arXiv 2502.16982, 2.2, so
that AdamW's learning rate and weight decay carry over. `torch.optim.Muon` takes matrices only, and
most of a UNet is kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration that takes singular values into about 0.7 to 1.2. Source: the post above."""
ITERATIONS = 5
UPDATE_SIZE = 0.2
"""Root mean square of an update in units of the learning rate: what AdamW's usually is. Source: arXiv 2502.16982."""


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more dimensions, AdamW for biases and gains.

    One parameter group in the given order. A kernel (out, in, h, w) counts as the matrix (out, in * h * w).

    Args:
        parameters: float32, whole (not shared between ranks by FSDP).
        lr: of both.
        momentum: Nesterov momentum of the matrices.
        betas, eps: of AdamW.
        weight_decay: decoupled, of both.
    Raises:
        ValueError: in `step`, for parameters of which every rank holds a part only.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if isinstance(parameter, DTensor):
                    raise ValueError(
                        "muon needs whole matrices and FSDP gives every rank a part of each: use --optimizer adamw, "
                        "or a launch config without FSDP"
                    )
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                update = self._matrix_update if parameter.ndim >= 2 else self._vector_update
                parameter.add_(update(parameter.grad, self.state[parameter], group), alpha=-group["lr"])
        return loss

    @staticmethod
    def _matrix_update(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(average, group["momentum"]).flatten(1)
        size = UPDATE_SIZE * max(matrix.shape) ** 0.5
        return orthogonalise(matrix).view(gradient.shape) * size

    @staticmethod
    def _vector_update(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
        if not state:
            state["step"] = 0
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
        (first, second), step = group["betas"], state["step"]
        mean = state["exp_avg"].lerp_(gradient, 1 - first) / (1 - first**step)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - second) / (1 - second**step)
        return mean / (square.sqrt() + group["eps"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """About the nearest matrix (rows, columns) with orthonormal rows or columns: U V^T of the singular value
    decomposition, its singular values within about 0.7 to 1.2 of it.

    bfloat16 on a GPU, float32 elsewhere; the result has the input's type.
    """
    a, b, c = COEFFICIENTS
    work = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    tall = work.shape[0] > work.shape[1]
    if tall:
        work = work.T
    work = work / work.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        square = work @ work.T
        work = a * work + (b * square + c * square @ square) @ work
    return (work.T if tall else work).to(matrix.dtype)
