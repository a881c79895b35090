"""gamengen.training.muon: against PyTorch's own Muon on matrices, AdamW on vectors, and the SVD it approximates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gamengen.training.muon import UPDATE_SIZE, Muon, orthogonalise


def gradients(shape: tuple[int, ...], count: int = 5) -> list[Tensor]:
    source = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=source) for _ in range(count)]


def walked(optimizer: torch.optim.Optimizer, parameter: Tensor, steps: list[Tensor]) -> Tensor:
    for gradient in steps:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16), (1, 5)])
def test_a_matrix_becomes_its_nearest_orthogonal_one(shape: tuple[int, int]) -> None:
    matrix = gradients(shape)[0]
    u, values, v = torch.linalg.svd(orthogonalise(matrix), full_matrices=False)
    assert bool(((values > 0.6) & (values < 1.3)).all()), values
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert torch.allclose(u @ v, left @ right, atol=1e-3), "the directions stay"


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_equals_the_muon_of_pytorch(shape: tuple[int, int]) -> None:
    steps = gradients(shape)
    ours, theirs = (torch.ones(shape, requires_grad=True) for _ in range(2))
    expected = torch.optim.Muon([theirs], lr=0.01, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    walked(expected, theirs, steps)
    walked(Muon([ours], lr=0.01, weight_decay=0.1), ours, steps)
    moved = (theirs - 1).norm()
    # PyTorch iterates in bfloat16.
    assert float((ours - theirs).norm() / moved) < 0.02
    assert float(moved) > 0.01


def test_a_kernel_is_the_matrix_of_its_output_channels() -> None:
    steps = gradients((8, 4, 3, 3))
    kernel = torch.zeros(8, 4, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    matrix = torch.zeros(8, 36, requires_grad=True)
    walked(Muon([kernel], lr=0.1), kernel, steps)
    walked(Muon([matrix], lr=0.1), matrix, [gradient.flatten(1) for gradient in steps])
    assert torch.allclose(kernel.flatten(1), matrix, atol=1e-6)
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_vectors_are_updated_as_by_adamw() -> None:
    steps = gradients((7,))
    ours, theirs = (torch.ones(7, requires_grad=True) for _ in range(2))
    settings = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1}
    walked(torch.optim.AdamW([theirs], **settings), theirs, steps)  # type: ignore[arg-type]
    walked(Muon([ours], **settings), ours, steps)  # type: ignore[arg-type]
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_updates_have_the_size_of_adamws() -> None:
    parameter = torch.zeros(32, 288, requires_grad=True)
    moved = walked(Muon([parameter], lr=0.01), parameter, gradients((32, 288), 1))
    assert float(moved.square().mean().sqrt()) == pytest.approx(0.01 * UPDATE_SIZE, rel=0.2)


def test_a_gradient_of_zero_changes_nothing() -> None:
    parameter = torch.ones(4, 4, requires_grad=True)
    assert bool((walked(Muon([parameter], lr=0.1), parameter, [torch.zeros(4, 4)]) == 1).all())


def test_continues_from_its_state() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5), nn.Linear(6, 5)]
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers = [Muon(layer.parameters(), lr=0.05, weight_decay=0.01) for layer in layers]
    inputs = torch.randn(20, 4, 6)

    def run(layer: nn.Module, optimizer: torch.optim.Optimizer, batches: Tensor) -> None:
        for batch in batches:
            optimizer.zero_grad()
            layer(batch).square().mean().backward()
            optimizer.step()

    run(layers[0], optimizers[0], inputs)
    run(layers[1], optimizers[1], inputs[:9])
    resumed = Muon(layers[1].parameters(), lr=0.05, weight_decay=0.01)
    resumed.load_state_dict(optimizers[1].state_dict())
    run(layers[1], resumed, inputs[9:])
    for one, other in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert torch.equal(one, other)
