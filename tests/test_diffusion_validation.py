"""gamengen.diffusion.validation: the same look at held-out episodes every time, by the means of play."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gamengen.diffusion.loss import LatentDiffusionLoss, LossConfig
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.diffusion.validation import ROLLOUT_FRAMES, Validation, psnr_db
from gamengen.latents.windows import Windows
from tests.worlds import LENGTH, MemoryRows, flat_scene, random_rows, tiny_pipeline


@pytest.fixture(scope="module")
def pipeline() -> GameNGenPipeline:
    return tiny_pipeline()


def make_validation(pipeline: GameNGenPipeline, rows: MemoryRows, num_windows: int = 6, extra: int = 1) -> Validation:
    contract = pipeline.world_contract
    told = LossConfig(self_rollout_steps=extra)
    loss = LatentDiffusionLoss(told, contract, pipeline.schedule, flat_scene(contract))
    return Validation(pipeline, Windows(rows, contract.game, LENGTH, extra=extra), loss, num_windows, seed=0)


def look(validation: Validation) -> dict[str, object]:
    with torch.no_grad():
        return dict(validation({"unet": validation.pipeline.unet}, 1))


def test_two_looks_are_equal_and_leave_the_weights(pipeline: GameNGenPipeline) -> None:
    validation = make_validation(pipeline, random_rows(pipeline.world_contract))
    before = [p.clone() for p in pipeline.unet.parameters()]
    first, second = look(validation), look(validation)
    assert set(first) == {"loss", "psnr_1_step", "psnr_4_step", "psnr_copy_last", "rollout"}
    for name, value in first.items():
        assert np.array_equal(value, second[name]), name
    assert validation.scalars == {name: value for name, value in first.items() if name != "rollout"}
    assert all(f"{name} " in validation.summary() for name in validation.scalars)
    assert all(torch.equal(a, b) for a, b in zip(before, pipeline.unet.parameters(), strict=True))


def test_windows_are_spread_over_the_split(pipeline: GameNGenPipeline) -> None:
    rows = random_rows(pipeline.world_contract, (20, 15))
    assert make_validation(pipeline, rows, 5).positions.tolist() == [0, 8, 16, 24, 32]
    assert make_validation(pipeline, rows, 1000).positions.tolist() == list(range(33))
    for wrong, message in ((0, "num_windows: expected at least 1, got 0"),):
        with pytest.raises(ValueError, match=message):
            make_validation(pipeline, rows, wrong)
    with pytest.raises(ValueError, match="validation split is empty"):
        make_validation(pipeline, random_rows(pipeline.world_contract, (1, 1)))


def test_copying_the_last_frame_is_perfect_where_nothing_moves(pipeline: GameNGenPipeline) -> None:
    rows = random_rows(pipeline.world_contract)
    still = replace(rows, arrays=rows.arrays[:1].expand(len(rows.actions), -1, -1, -1))
    results = look(make_validation(pipeline, still))
    assert results["psnr_copy_last"] > 100 > results["psnr_1_step"]


def test_a_better_network_looks_better(pipeline: GameNGenPipeline) -> None:
    """A network that answers v = -target gives the target back at one step."""
    validation = make_validation(pipeline, random_rows(pipeline.world_contract))
    batch = validation.windows.at(validation.positions)
    target = validation.loss_fn.normalise(batch.targets)
    untrained = look(validation)["psnr_1_step"]

    class Perfect(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, *_: object, **__: object) -> tuple[torch.Tensor]:
            return (-target if len(noisy) == len(target) else noisy[:, :2],)

    perfect = Perfect()
    original = pipeline.denoiser.unet
    try:
        pipeline.denoiser.unet = perfect
        assert look(validation)["psnr_1_step"] > 80 > untrained
    finally:
        pipeline.denoiser.unet = original


@pytest.mark.parametrize("lengths", [(40, 40), (3, 4, 40), (6, 3, 5, 6), (2, 2)])
def test_the_rollout_shows_one_episode(pipeline: GameNGenPipeline, lengths: tuple[int, ...]) -> None:
    """Recorded frames of a second episode beside a dream of the first would look like a broken dream."""
    validation = make_validation(pipeline, random_rows(pipeline.world_contract, lengths))
    first, count = validation._one_episode()
    assert 1 <= count <= ROLLOUT_FRAMES
    assert len(set(validation.windows.firsts[first : first + count].tolist())) == 1
    assert count == ROLLOUT_FRAMES or count in [length - 1 for length in lengths]
    image = look(validation)["rollout"]
    columns = len(range(0, count, max(1, count // 8)))
    assert image.shape == (1, 2 * 16, columns * 16, 3) and image.dtype == np.uint8


def test_psnr_is_that_of_the_mean_squared_error() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    other = black.copy()
    other[0] = 10
    assert psnr_db(other, black) == pytest.approx(10 * np.log10(255**2 / 50))
    assert psnr_db(np.full_like(black, 255), black) == pytest.approx(0.0), "no overflow of bytes"
    assert psnr_db(black, black) > 100
