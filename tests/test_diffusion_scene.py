"""gamengen.diffusion.scene.

The prediction of someone who knows only what stands still, and what the network adds to it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gamengen.diffusion.denoiser import Denoiser
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.diffusion.rests import Rests
from gamengen.diffusion.sampler import sample, stacked_denoise
from gamengen.diffusion.scene import (
    LEAST_DEVIATION,
    Scene,
    foreground_share,
    loss_weight,
    measure_scene,
    normalise,
    preconditioning,
    read_scene,
    surprises,
    write_scene,
)
from gamengen.diffusion.schedule import PredictionType, build_scheduler, prediction_target, read_schedule
from tests.worlds import LENGTH, random_rows, tiny_codec_contract, tiny_contract, tiny_pipeline, tiny_unet

KINDS: list[PredictionType] = ["v_prediction", "flow", "sample", "epsilon"]


def random_scene(shape: tuple[int, ...], deviation: float = 0.3) -> Scene:
    generator = torch.Generator().manual_seed(1)
    return Scene(torch.randn(shape, generator=generator), torch.full(shape, deviation))


def inputs(shape: tuple[int, ...], batch: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "noisy": torch.randn((batch, *shape), generator=generator),
        "timesteps": torch.tensor([999, 300])[:batch],
        "context": torch.randn((batch, LENGTH, *shape), generator=generator),
        "actions": torch.zeros((batch, LENGTH), dtype=torch.int64),
        "noise_bucket": torch.zeros(batch, dtype=torch.int64),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timestep", [50, 600, 990])
def test_it_is_the_least_squares_prediction_and_the_output_is_scaled_to_the_root_of_what_is_left(
    kind: PredictionType, timestep: int
) -> None:
    """Regression over random clean cells finds the same prediction, and the size of what it leaves."""
    generator, count, median, deviation = torch.Generator().manual_seed(0), 200_000, 0.7, 0.3
    change, noise = torch.randn((2, count), generator=generator, dtype=torch.float64)
    clean = median + deviation * change
    schedule = read_schedule(build_scheduler(kind))
    signal, scale = schedule.signal[timestep], schedule.noise_scale[timestep]
    noisy = signal * clean + scale * noise
    target = prediction_target(kind, clean, noise, signal, scale)
    design = torch.stack([noisy, torch.ones_like(noisy)], dim=1)
    fitted = (design @ torch.linalg.lstsq(design, target.unsqueeze(1)).solution).flatten()
    scene = Scene(torch.tensor(median, dtype=torch.float64), torch.tensor(deviation, dtype=torch.float64))
    factors = preconditioning(signal, scale, scene)
    predicted = factors(kind, torch.zeros_like(noisy), noisy)
    assert float((predicted - fitted).square().mean().sqrt()) < 0.01
    spread = factors(kind, torch.ones_like(noisy), noisy) - predicted
    factor = {"sample": scale, "epsilon": signal}.get(kind, torch.ones(()))  # from units of v to those of the target
    torch.testing.assert_close(spread.mean(), ((target - fitted).std() / factor).sqrt() * factor, atol=0.005, rtol=0)


@pytest.mark.parametrize("kind", ["v_prediction", "flow", "sample"])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_an_untrained_world_shows_the_scene(kind: PredictionType, steps: int) -> None:
    contract = tiny_contract(prediction_type=kind, scene_prior=True)
    scene = random_scene(contract.codec.array_shape, deviation=LEAST_DEVIATION)
    values = inputs(contract.codec.array_shape)
    denoiser = Denoiser(tiny_unet(contract), contract, scene)
    denoise = stacked_denoise(denoiser, values["context"], values["actions"], values["noise_bucket"], 1.0)
    predicted = sample(denoise, read_schedule(build_scheduler(kind)), values["noisy"], steps)
    # One step gives the median itself; more let through as much noise as a cell may change.
    tolerance = 1e-5 if steps == 1 else 5 * LEAST_DEVIATION
    torch.testing.assert_close(predicted, scene.median.expand_as(predicted), atol=tolerance, rtol=0)


def resting_scene(shape: tuple[int, ...]) -> Scene:
    """Median 0; the cell (1, 2) rests at 3 or at -3 in every channel, the cell (0, 0) is like all the others."""
    values = torch.full((2, *shape), torch.inf)
    values[0, :, 1, 2], values[1, :, 1, 2] = 3.0, -3.0
    return Scene(torch.zeros(shape), torch.ones(shape), Rests(values, torch.full(shape, 0.3)))


def test_an_untrained_world_keeps_what_rests_and_mends_it_and_forgets_what_only_passes() -> None:
    contract = tiny_contract(scene_prior=True)
    shape = contract.codec.array_shape
    denoiser = Denoiser(tiny_unet(contract), contract, resting_scene(shape))
    values = {**inputs(shape), "timesteps": torch.tensor([999, 999])}
    newest = values["context"][:, -1]
    newest[:, :, 0, 0] = 3.0  # a ball
    newest[0, :, 1, 2], newest[1, :, 1, 2] = 2.7, -3.3  # worn
    clean = -denoiser(**values).detach()
    assert clean[0, :, 1, 2].tolist() == pytest.approx([3.0] * shape[0], abs=1e-5)
    assert clean[1, :, 1, 2].tolist() == pytest.approx([-3.0] * shape[0], abs=1e-5)
    assert float(clean[:, :, 0, 0].abs().max()) < 1e-5
    newest[0, :, 1, 2] = 0.5  # half gone: decided upon
    assert (-denoiser(**values)).detach()[0, :, 1, 2].tolist() == pytest.approx([3.0] * shape[0], abs=1e-5)


def network_of_past(noisy: Tensor, timesteps: Tensor, context: Tensor, *_: Tensor) -> Tensor:
    return context.sum(1)


def test_a_cell_that_never_moves_cannot_drift() -> None:
    """However wild the network's output, a still cell stays near the median."""
    contract = tiny_contract(scene_prior=True)
    still = random_scene(contract.codec.array_shape, deviation=LEAST_DEVIATION)
    values = inputs(contract.codec.array_shape)
    last = {**values, "timesteps": torch.tensor([999, 999])}
    wild = Denoiser(tiny_unet(contract), contract, still, network=lambda noisy, *_: torch.full_like(noisy, 50.0))
    clean = -wild(**last)
    bound = LEAST_DEVIATION**0.5 * 50.0
    assert float((clean - still.median).abs().max()) == pytest.approx(bound, rel=1e-3)


def test_a_scene_that_knows_nothing_leaves_the_last_timestep_to_the_network() -> None:
    contract = tiny_contract(scene_prior=True)
    unet, shape = tiny_unet(contract), contract.codec.array_shape
    values = {**inputs(shape), "timesteps": torch.tensor([999, 999])}
    nothing = Scene(torch.zeros(shape), torch.ones(shape))
    told = Denoiser(unet, contract, nothing, network=network_of_past)(**values)
    torch.testing.assert_close(told, values["context"].sum(1))


def test_the_network_sees_differences_from_the_median_and_no_noise_where_it_says_nothing() -> None:
    contract = tiny_contract(scene_prior=True)
    shape, seen = contract.codec.array_shape, []

    def network(noisy: Tensor, timesteps: Tensor, context: Tensor, *_: Tensor) -> Tensor:
        seen.append((noisy, context))
        return torch.zeros_like(noisy)

    scene = random_scene(shape, deviation=0.5)
    values = inputs(shape)
    Denoiser(tiny_unet(contract), contract, scene, network=network)(**values)
    noisy, context = seen[0]
    torch.testing.assert_close(context, values["context"] - scene.median)
    assert float(noisy[0].abs().max()) < 1e-6 < 0.01 < float(noisy[1].abs().max()), "timesteps 999 and 300"
    schedule = read_schedule(build_scheduler("v_prediction"))
    signal, scale = float(schedule.signal[300]), float(schedule.noise_scale[300])
    expected = 0.5**2 * signal / (0.5**2 * signal**2 + scale**2) * (values["noisy"][1] - signal * scene.median)
    torch.testing.assert_close(noisy[1], expected)


def test_the_scene_itself_is_an_input() -> None:
    """Differences alone would not say where the walls are. Every action of the context is a plane, oldest first."""
    contract = tiny_contract(scene_prior=True)
    unet, shape = tiny_unet(contract), contract.codec.array_shape
    scene, values, seen = random_scene(shape), inputs(shape), []
    values["actions"] = torch.tensor([[0, 2, 1], [1, 0, 0]])
    assert LENGTH == 3 and contract.game.num_actions == 3
    unet.conv_in.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    Denoiser(unet, contract, scene)(**values)
    channels = shape[0]
    median = seen[0][:, channels * 4 : channels * 5]
    torch.testing.assert_close(median, scene.median.expand_as(median))
    planes = seen[0][:, channels * 5 :]
    assert planes.shape[1] == 9
    assert planes[0, :, 0, 0].tolist() == [1, 0, 0, 0, 0, 1, 0, 1, 0]
    assert planes[1, :, -1, -1].tolist() == [0, 1, 0, 1, 0, 0, 1, 0, 0]


def test_the_loss_counts_the_last_timestep_fully_and_low_noise_little() -> None:
    schedule = read_schedule(build_scheduler("v_prediction"))
    signal, scale = schedule.levels(torch.tensor([999, 500, 0]))
    weight = loss_weight(signal, scale, random_scene((2, 4, 4), deviation=0.2)).flatten().tolist()
    assert weight[0] == pytest.approx(1.0) and weight[0] > weight[1] > weight[2]
    assert weight[2] == pytest.approx(0.04, rel=0.05)


def test_measured_over_a_split_it_equals_an_independent_computation() -> None:
    codec = tiny_codec_contract()
    rows = random_rows(tiny_contract(), lengths=(30, 20))
    median = rows.arrays.median(0).values
    scene = measure_scene(rows, codec, median)
    mean, std = torch.tensor(codec.mean).view(-1, 1, 1), torch.tensor(codec.std).view(-1, 1, 1)
    torch.testing.assert_close(scene.median, (median - mean) / std)
    expected = ((rows.arrays - median) / std).square().mean(0).sqrt()
    torch.testing.assert_close(scene.deviation, expected.clamp(min=LEAST_DEVIATION))
    assert scene.rests is not None and measure_scene(rows, codec, median, with_rests=False).rests is None


def test_the_foreground_share_counts_the_frames_in_which_a_cell_has_left_the_median() -> None:
    contract = tiny_contract()
    rows = random_rows(contract)
    scene = measure_scene(rows, contract.codec, torch.zeros(contract.codec.array_shape))
    share = foreground_share(rows, contract.codec, scene, threshold=0.8)
    latents = normalise(rows.gather(torch.arange(len(rows.actions))), contract.codec)
    expected = torch.zeros(share.shape)
    for latent in latents:
        expected += ((latent - scene.median).abs() > 0.8).any(0)
    torch.testing.assert_close(share, expected / len(latents))
    assert float(share.min()) > 0 and float(share.max()) < 1


def test_what_comes_suddenly_and_seldom_is_a_surprise_and_what_moves_is_none() -> None:
    contract = tiny_contract()
    rows = random_rows(contract, lengths=(1100,))  # more than are looked at together
    codec = replace(contract.codec, mean=(0.0, 0.0), std=(1.0, 1.0))
    arrays = torch.zeros_like(rows.arrays)
    for row, column in enumerate(range(6), start=5):
        arrays[row, 1, 4, column] = 3.0  # comes in row 5, moves a cell a frame, is gone after row 10
    arrays[300:, 1, 1, 1] = 3.0  # stays from row 300 on, then turns into something else, such as a digit
    arrays[500:, 1, 1, 1] = -1.0
    arrays[1024, 0, 6, 1] = 3.0  # in the first row of the second part, gone in the next
    arrays[1050:, 0, 1, 6] = 1.5  # too little
    arrays[::8, 0, 7, 7] = 3.0  # blinks: too often to be rare
    found = surprises(replace(rows, arrays=arrays), codec, threshold=1.0)
    assert found.nonzero().flatten().tolist() == [5, 300, 500, 1024]


def test_a_constant_cell_keeps_a_little_doubt() -> None:
    rows = random_rows(tiny_contract())
    rows = replace(rows, arrays=torch.zeros_like(rows.arrays))
    scene = measure_scene(rows, tiny_codec_contract(), rows.arrays[0])
    assert torch.all(scene.deviation == LEAST_DEVIATION)


def test_it_travels_with_the_world_folder(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    settings = {**pipeline.world_contract.settings, "scene_prior": True}
    world = tiny_pipeline(settings=settings)
    world.scene = random_scene(world.world_contract.codec.array_shape)
    world.save_pretrained(tmp_path / "world")
    loaded = GameNGenPipeline.from_pretrained(tmp_path / "world")
    assert loaded.scene is not None and torch.equal(loaded.scene.deviation, world.scene.deviation)
    assert loaded.scene.rests is None, "as of worlds that were made before scenes had them"
    resting = resting_scene(world.world_contract.codec.array_shape)
    write_scene(tmp_path, resting)
    read = read_scene(tmp_path).rests
    assert resting.rests is not None and read is not None
    assert torch.equal(read.values, resting.rests.values) and torch.equal(read.deviation, resting.rests.deviation)
    assert read.groups is None, "as of worlds that were made before cells rested together"
    groups = torch.arange(resting.median[0].numel()).view(resting.median.shape[1:])
    write_scene(tmp_path, replace(resting, rests=replace(resting.rests, groups=groups)))
    together = read_scene(tmp_path).rests
    assert together is not None and together.groups is not None and torch.equal(together.groups, groups)
    loaded.save_pretrained(tmp_path / "again")
    assert torch.equal(read_scene(tmp_path / "again").median, world.scene.median)
    (tmp_path / "again" / "scene.safetensors").unlink()
    with pytest.raises(ValueError, match="scene.safetensors is missing"):  # the manifest lists it
        GameNGenPipeline.from_pretrained(tmp_path / "again")
    (tmp_path / "again" / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match="scene.safetensors is missing"):
        GameNGenPipeline.from_pretrained(tmp_path / "again")


def test_a_world_with_a_scene_does_not_play_without_it() -> None:
    contract = tiny_contract(scene_prior=True)
    with pytest.raises(ValueError, match="scene.safetensors is missing"):
        Denoiser(tiny_unet(contract), contract)


def test_written_and_read_it_is_the_same(tmp_path: Path) -> None:
    scene = random_scene((2, 3, 4))
    write_scene(tmp_path, scene)
    read = read_scene(tmp_path)
    assert torch.equal(read.median, scene.median) and torch.equal(read.deviation, scene.deviation)
