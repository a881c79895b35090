"""gamengen.diffusion.denoiser.

Actions in order, the newest one for itself, and shapes that are checked before the network.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gamengen.diffusion.denoiser import (
    Denoiser,
    DenoiserConfig,
    build_unet,
    check_unet,
    sinusoidal_positions,
    world_settings,
)
from gamengen.diffusion.pipeline import align_weights
from gamengen.diffusion.scene import Scene
from tests.worlds import LENGTH, tiny_codec_contract, tiny_contract, tiny_unet

CONTRACT = tiny_contract()
SHAPE = CONTRACT.codec.array_shape


def inputs(batch: int = 1, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "noisy": torch.randn((batch, *SHAPE), generator=generator),
        "timesteps": torch.randint(0, 1000, (batch,), generator=generator),
        "context": torch.randn((batch, LENGTH, *SHAPE), generator=generator),
        "actions": torch.randint(0, 3, (batch, LENGTH), generator=generator),
        "noise_bucket": torch.randint(0, 10, (batch,), generator=generator),
    }


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return Denoiser(tiny_unet(CONTRACT), CONTRACT)


def output(denoiser: Denoiser, **changes: Tensor) -> Tensor:
    with torch.no_grad():
        return denoiser(**{**inputs(), **changes})


def test_the_network_is_tiny_and_stock(denoiser: Denoiser) -> None:
    assert type(denoiser.unet) is UNet2DConditionModel
    assert sum(p.numel() for p in denoiser.unet.parameters()) < 100_000


def test_permuting_the_history_changes_the_output(denoiser: Denoiser) -> None:
    """Actions as an unordered bag of tokens cannot say which one is now. The newest action stays in its place here."""
    one = output(denoiser, actions=torch.tensor([[1, 2, 0]]))
    other = output(denoiser, actions=torch.tensor([[2, 1, 0]]))
    assert float((one - other).abs().max()) > 1e-5


@pytest.mark.parametrize("position", range(LENGTH))
def test_every_action_alone_changes_the_output(denoiser: Denoiser, position: int) -> None:
    actions = torch.tensor([[1, 1, 1]])
    changed = actions.clone()
    changed[0, position] = 2
    assert float((output(denoiser, actions=actions) - output(denoiser, actions=changed)).abs().max()) > 1e-5


def test_the_newest_action_and_the_bucket_stand_beside_the_time(denoiser: Denoiser) -> None:
    tokens, condition = denoiser.condition(torch.tensor([[0, 1, 2]]), torch.tensor([4]))
    assert condition.shape == (1, 10 + 3) and condition.nonzero().tolist() == [[0, 4], [0, 12]]
    assert tokens[0, :, :3].argmax(-1).tolist() == [0, 1, 2]
    assert torch.equal(tokens[0, :, 3:], sinusoidal_positions(LENGTH))


@pytest.mark.parametrize("name", ["noisy", "timesteps", "context", "noise_bucket"])
def test_every_input_matters(denoiser: Denoiser, name: str) -> None:
    other = inputs(seed=1)[name]
    assert not torch.equal(other, inputs()[name])
    assert float((output(denoiser) - output(denoiser, **{name: other})).abs().max()) > 1e-5


def test_positions_tell_64_frames_apart() -> None:
    positions = sinusoidal_positions(64)
    distances = torch.cdist(positions, positions) + torch.eye(64)
    assert float(distances.min()) > 0.1
    # Distance to the newest frame: a longer context leaves the newest positions as they are.
    assert torch.equal(positions[-4:], sinusoidal_positions(4))


def test_gradient_reaches_every_parameter() -> None:
    unet = tiny_unet(CONTRACT)
    Denoiser(unet, CONTRACT)(**inputs(4)).square().sum().backward()
    silent = [name for name, p in unet.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert not silent


def test_batch_equals_singles(denoiser: Denoiser) -> None:
    values = inputs(5)
    with torch.no_grad():
        together = denoiser(**values)
        for b in range(5):
            alone = denoiser(**{name: value[b : b + 1] for name, value in values.items()})
            torch.testing.assert_close(alone[0], together[b], rtol=0, atol=1e-5)


def test_save_and_load_are_bit_equal(denoiser: Denoiser, tmp_path: Path) -> None:
    denoiser.unet.save_pretrained(tmp_path)
    loaded = UNet2DConditionModel.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    align_weights(loaded)
    assert torch.equal(output(Denoiser(loaded, CONTRACT)), output(denoiser))


def test_the_same_seed_builds_the_same_network() -> None:
    values = zip(tiny_unet(CONTRACT).parameters(), tiny_unet(CONTRACT).parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in values)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("actions", torch.zeros((1, 2), dtype=torch.int64), r"actions: expected \(1, 3\), got \(1, 2\)"),
        ("context", torch.zeros((1, 2, *SHAPE)), r"context: expected \(1, 3, 2, 8, 8\), got \(1, 2, 2, 8, 8\)"),
        ("context", torch.zeros((1, 6, 8, 8)), r"context: expected \(1, 3, 2, 8, 8\), got \(1, 6, 8, 8\)"),
        ("noisy", torch.zeros((1, 3, 8, 8)), r"noisy: expected \(1, 2, 8, 8\), got \(1, 3, 8, 8\)"),
    ],
)
def test_wrong_shapes_are_refused_with_both_figures(denoiser: Denoiser, name: str, value: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        denoiser(**{**inputs(), name: value})


def test_a_network_of_another_contract_is_refused_with_both_figures() -> None:
    unet = tiny_unet(CONTRACT)
    check_unet(unet, CONTRACT)
    with pytest.raises(ValueError, match="in_channels is 17, expected 22"):
        Denoiser(unet, tiny_contract(length=LENGTH + 1))
    with pytest.raises(ValueError, match="out_channels is 2, expected 3"):
        Denoiser(unet, tiny_contract(tiny_codec_contract(channels=3)))
    codec = CONTRACT.codec
    more_actions = replace(codec, game=replace(codec.game, actions=codec.game.actions * 2))
    with pytest.raises(ValueError, match="encoder_hid_dim is 19, expected 22; time_cond_proj_dim is 13, expected 16"):
        Denoiser(unet, tiny_contract(more_actions))


def test_levels_that_do_not_divide_are_refused_with_the_legal_number() -> None:
    contract = tiny_contract(tiny_codec_contract(size=12))
    config = DenoiserConfig(block_out_channels=(8,) * 4, norm_num_groups=4)
    with pytest.raises(ValueError, match="4 levels, latents of 12x12 can be halved 2 times: use at most 3 levels"):
        build_unet(config, contract)
    for levels in (1, 2, 3):
        unet = build_unet(replace(config, block_out_channels=(8,) * levels, layers_per_block=1), contract)
        values = {"noisy": torch.zeros(1, 2, 12, 12), "context": torch.zeros(1, LENGTH, 2, 12, 12)}
        assert Denoiser(unet, contract)(**{**inputs(), **values}).shape == (1, 2, 12, 12)


@pytest.mark.parametrize("attention_levels", [-1, 3])
def test_more_attention_than_levels_is_refused(attention_levels: int) -> None:
    config = DenoiserConfig(block_out_channels=(8, 8), attention_levels=attention_levels, norm_num_groups=4)
    with pytest.raises(ValueError, match=f"attention_levels: expected 0 to 2, one a level, got {attention_levels}"):
        build_unet(config, CONTRACT)


def test_half_precision_runs(denoiser: Denoiser) -> None:
    unet = tiny_unet(CONTRACT).to(torch.bfloat16)
    values = {name: v.bfloat16() if v.is_floating_point() else v for name, v in inputs().items()}
    with torch.no_grad():
        half = Denoiser(unet, CONTRACT)(**values)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), output(denoiser), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("scene_prior", [False, True])
def test_one_timestep_for_all_equals_one_each_bit_for_bit(scene_prior: bool) -> None:
    """The factors that are kept for a timestep are those that would be made for it."""
    contract = replace(CONTRACT, settings={**CONTRACT.settings, "scene_prior": scene_prior})
    shape = contract.codec.array_shape
    scene = Scene(torch.randn(shape), 0.1 + torch.rand(shape))
    unet = tiny_unet(contract)
    torch.nn.init.normal_(unet.conv_out.weight)
    denoiser = Denoiser(unet, contract, scene)
    values = inputs(2)
    with torch.no_grad():
        for timestep in (999, 499, 999, 1):
            each = denoiser(**{**values, "timesteps": torch.tensor([timestep, timestep])})
            assert torch.equal(denoiser(**{**values, "timesteps": timestep}), each)
        assert not torch.equal(each, denoiser(**{**values, "timesteps": 999}))


def test_kept_factors_may_be_trained_with() -> None:
    """They are made in the middle of play, in inference mode, whose tensors no gradient may pass."""
    contract = replace(CONTRACT, settings={**CONTRACT.settings, "scene_prior": True})
    shape = contract.codec.array_shape
    denoiser = Denoiser(tiny_unet(contract), contract, Scene(torch.randn(shape), 0.1 + torch.rand(shape)))
    values = {**inputs(1), "timesteps": 999}
    with torch.inference_mode():
        denoiser(**values)
    denoiser(**values).square().sum().backward()


def test_another_network_runs_in_place_of_the_unet() -> None:
    denoiser = Denoiser(tiny_unet(CONTRACT), CONTRACT)
    values, seen = inputs(2), []

    def network(*arguments: torch.Tensor) -> torch.Tensor:
        seen.append([tuple(argument.shape) for argument in arguments])
        return denoiser.network(*arguments) * 2

    with torch.no_grad():
        doubled = Denoiser(denoiser.unet, CONTRACT, network=network)(**{**values, "timesteps": 7})
        expected = denoiser(**{**values, "timesteps": torch.tensor([7, 7])})
    torch.testing.assert_close(doubled, expected * 2)
    assert seen[0][1] == (2,), "a network gets one timestep a sample"


def test_at_the_last_timestep_the_network_sees_one_number_a_channel_of_the_noise() -> None:
    settings = {**CONTRACT.settings, "scene_prior": True}
    scene = Scene(torch.randn(SHAPE), 0.1 + torch.rand(SHAPE))
    values = {**inputs(64), "timesteps": torch.tensor([999, 499] * 32)}
    seen = {}
    for planes in (False, True):
        contract = replace(CONTRACT, settings={**settings, "noise_planes": True} if planes else settings)

        def network(noisy: Tensor, *rest: Tensor, planes: bool = planes) -> Tensor:
            seen[planes] = noisy
            return noisy

        Denoiser(tiny_unet(contract), contract, scene, network=network)(**values)
    assert torch.equal(seen[True][1::2], seen[False][1::2])
    last = seen[True][::2]
    assert not seen[False][::2].any() and torch.equal(last, last[:, :, :1, :1].expand_as(last))
    numbers = last[:, :, 0, 0]
    assert float(numbers.std()) == pytest.approx(1.0, abs=0.25) and abs(float(numbers.mean())) < 0.4
    torch.testing.assert_close(numbers, values["noisy"][::2].flatten(2).sum(2) / (SHAPE[1] * SHAPE[2]) ** 0.5)


@pytest.mark.parametrize("steps", [0, 65])
def test_steps_that_no_world_can_be_played_with_are_refused_before_the_training(steps: int) -> None:
    with pytest.raises(ValueError, match=f"num_inference_steps: expected 1 to 64, got {steps}"):
        world_settings(0.7, "v_prediction", num_inference_steps=steps)
