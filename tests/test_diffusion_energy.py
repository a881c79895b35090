"""gamengen.diffusion.energy: the best answer is one of the futures, as often as it comes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from gamengen.diffusion.energy import PATCHES, energy_score, length
from gamengen.diffusion.loss import pseudo_huber

EVEN = torch.ones(1, 1, 6, 7)


def frame(*cells: int, size: float = 10.0) -> Tensor:
    """(1, 2, 6, 7) with balls in some cells of the third row."""
    array = torch.zeros(1, 2, 6, 7)
    for cell in cells:
        array[:, :, 2, cell] = size
    return array


def value(near: Tensor, other: Tensor, recorded: Tensor, weights: Tensor = EVEN) -> float:
    yes = torch.ones(1, dtype=torch.bool)
    return float(energy_score((near - recorded) ** 2, (near - other) ** 2, yes, weights, 1.0))


def expected(predicted: dict[Tensor, float], recorded: dict[Tensor, float], weights: Tensor = EVEN) -> float:
    """The loss in expectation when predictions and recordings are drawn independently."""
    return sum(
        p * q * r * value(a, b, y, weights)
        for (a, p), (b, q), (y, r) in itertools.product(predicted.items(), predicted.items(), recorded.items())
    )


@pytest.mark.parametrize("truth", [0.2, 0.5, 0.9])
def test_the_loss_is_least_where_each_future_is_drawn_as_often_as_it_comes(truth: float) -> None:
    """Whatever the weights, as long as they are the same for both futures."""
    left, right = frame(2), frame(4)
    weights = 1 + 60 * torch.rand(1, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    for weighed in (EVEN, weights):
        shares = [n / 10 for n in range(11)]
        losses = [
            expected({left: q, right: 1 - q}, {left: truth, right: 1 - truth}, weighed) for q in shares
        ]  # fmt: skip
        assert shares[losses.index(min(losses))] == pytest.approx(truth)


def test_a_faint_ball_in_each_place_and_no_ball_at_all_are_worse_than_one_of_them() -> None:
    places = [frame(2), frame(3), frame(4)]
    recorded = {place: 1 / 3 for place in places}
    one = expected(dict(recorded), recorded)
    assert one < 0.9 * expected({sum(places, torch.zeros(1)) / 3: 1.0}, recorded)
    assert one < 0.9 * expected({frame(): 1.0}, recorded)


def test_patches_tell_one_ball_in_one_of_three_places_from_each_place_having_one_by_chance() -> None:
    """Cell by cell both are right: a ball in a third of the predictions."""
    places = (2, 3, 4)
    recorded = {frame(place): 1 / 3 for place in places}
    chance = {
        frame(*[p for p, there in zip(places, drawn, strict=True) if there]): (1 / 3) ** sum(drawn)
        * (2 / 3) ** (3 - sum(drawn))
        for drawn in itertools.product((0, 1), repeat=3)
    }
    difference = expected(chance, recorded) - expected(dict(recorded), recorded)
    assert difference > 0.01 * expected(dict(recorded), recorded)


def test_the_gradient_of_both_roles_is_that_of_the_score_itself() -> None:
    torch.manual_seed(0)
    first, second, recorded = (torch.randn(3, 2, 6, 7) * 4 for _ in range(3))
    weights, yes = 1 + torch.rand(3, 1, 6, 7), torch.ones(3, dtype=torch.bool)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        lengths = sum(length((a - b) ** 2, weights, side, 1.0) for side in PATCHES)
        return lengths / len(PATCHES) / weights.mean((1, 2, 3))

    pair = [x.clone().requires_grad_() for x in (first, second)]
    score = (kernel(pair[0], recorded) + kernel(pair[1], recorded) - kernel(*pair)).sum() / 2
    wanted = torch.autograd.grad(score, pair)
    for own, other, gradient in zip((first, second), (second, first), wanted, strict=True):
        x = own.clone().requires_grad_()
        loss = energy_score((x - recorded) ** 2, (x - other) ** 2, yes, weights, 1.0).sum()
        # One of two predictions: it counts whole here, half in the score of the pair.
        torch.testing.assert_close(torch.autograd.grad(loss, x)[0], 2 * gradient, rtol=1e-4, atol=1e-7)


def test_lengths_of_single_cells_are_the_huber_loss_and_of_small_errors_the_mean_square() -> None:
    torch.manual_seed(0)
    error = torch.rand(2, 8, 12, 10) * 30
    weights = 1 + torch.rand(2, 1, 12, 10)
    by_hand = (pseudo_huber(error, 0.5) * weights).mean((1, 2, 3))
    torch.testing.assert_close(length(error, weights, 1, 0.5), by_hand)
    inner = torch.zeros(1, 8, 12, 10)
    inner[:, :, 4:8, 4:6] = 1e-3  # far enough from the border for whole patches
    even = torch.ones(1, 1, 12, 10)
    assert float(length(inner, even, 1, 1.0)) == pytest.approx(float(inner.mean()), rel=1e-2)
    for side, cells in ((5, 25), (0, 120)):
        # The mean square, over the length of what c alone gives the patch.
        assert float(length(inner, even, side, 1.0)) == pytest.approx(float(inner.mean()) / cells**0.5, rel=1e-2)


def test_samples_without_another_prediction_are_pulled_only() -> None:
    fit, spread = torch.rand(2, 2, 6, 7), torch.rand(2, 2, 6, 7)
    weights = EVEN.expand(2, -1, -1, -1)
    both = energy_score(fit, spread, torch.tensor([True, False]), weights, 1.0)
    alone = energy_score(fit, torch.zeros_like(spread), torch.tensor([True, True]), weights, 1.0)
    assert float(both[1]) == pytest.approx(float(alone[1])) and float(both[0]) < float(alone[0])


def test_a_network_that_sees_noise_learns_both_futures() -> None:
    """Left or right by three to one: under squares the same network answers with something between."""
    torch.manual_seed(0)
    futures = torch.cat([frame(2), frame(4)]).flatten(1)
    found = {}
    for energy in (True, False):
        network = nn.Sequential(
            nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, futures.shape[1])
        )
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(500):
            recorded = futures[(torch.rand(64) < 0.25).long()].view(-1, 2, 6, 7)
            near = network(torch.randn(64, 2)).view(-1, 2, 6, 7)
            other = network(torch.randn(64, 2)).view(-1, 2, 6, 7).detach()
            yes = torch.full((64,), energy)
            weights = EVEN.expand(64, -1, -1, -1)
            loss = energy_score((near - recorded) ** 2, (near - other) ** 2, yes, weights, 1.0)
            optimizer.zero_grad()
            (loss.mean() if energy else ((near - recorded) ** 2).mean()).backward()
            optimizer.step()
        with torch.no_grad():
            drawn = network(torch.randn(500, 2)).view(-1, 2, 6, 7)
        balls = drawn[:, :, 2].mean(1)[:, [2, 4]]  # (500, 2)
        found[energy] = balls
    left, right = found[True].unbind(1)
    one = ((left > 7) & (right < 3)) | ((right > 7) & (left < 3))
    assert float(one.float().mean()) > 0.65
    assert float((right > 5).float().mean()) == pytest.approx(0.25, abs=0.1)
    assert float(found[False][:, 0].mean()) == pytest.approx(7.5, abs=1.0)
