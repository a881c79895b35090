"""gamengen.diffusion.loss.

What contexts training sees, what the network is asked for, and that a batch is only its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from gamengen.diffusion.denoiser import Denoiser
from gamengen.diffusion.energy import energy_score
from gamengen.diffusion.loss import LatentDiffusionLoss, LossConfig, pseudo_huber
from gamengen.diffusion.rests import Rests
from gamengen.diffusion.scene import Scene, normalise
from gamengen.diffusion.schedule import build_scheduler, read_schedule
from gamengen.latents.windows import Windows
from gamengen.noise import Noise, training_noise
from gamengen.training.loop import Batch
from tests.worlds import LENGTH, flat_scene, random_rows, tiny_contract, tiny_unet

PLAIN = LossConfig(
    clean_context_share=1.0, context_dropout=0.0, terminal_share=0.0, moving_weight=0.0, self_rollout_steps=0
)
"""Nothing but denoising."""


def make_loss(config: LossConfig = PLAIN, kind: Any = "v_prediction") -> LatentDiffusionLoss:
    contract = tiny_contract(prediction_type=kind, max_noise_level=config.max_noise_level)
    shape = contract.codec.array_shape
    scene = Scene(normalise(torch.zeros(shape), contract.codec), torch.ones(shape))
    return LatentDiffusionLoss(config, contract, read_schedule(build_scheduler(kind)), scene)


def make_batch(loss: LatentDiffusionLoss, size: int = 8) -> dict[str, Tensor]:
    """Windows of random rows, some of them at the border."""
    windows = Windows(random_rows(loss.contract), loss.contract.game, LENGTH, extra=loss.config.self_rollout_steps)
    batch = windows.at(torch.arange(size) * len(windows) // size)
    return batch.tensors()


def rows_of(batch: Batch, rows: Sequence[int]) -> dict[str, Tensor]:
    return {name: value[list(rows)] for name, value in batch.items()}


def per_sample(loss: LatentDiffusionLoss, batch: Batch, indices: Sequence[int], step: int = 5, seed: int = 1) -> Tensor:
    with torch.no_grad():
        return loss({"unet": tiny_unet(loss.contract)}, batch, training_noise(seed, step, indices)).per_sample


class Recorder(torch.nn.Module):
    """Takes the place of a Denoiser: notes what it is given, answers with a constant."""

    def __init__(self, answer: float = 0.0) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, ...]] = []
        self.answer = answer

    def loss_weight(self, timesteps: Tensor) -> Tensor:
        return torch.ones((len(timesteps), 1, 1, 1))

    def forward(self, *inputs: Tensor) -> Tensor:
        self.calls.append(inputs)
        return torch.full_like(inputs[0], self.answer)


def test_a_sample_does_not_depend_on_the_batch_it_stands_in() -> None:
    """Same (seed, step, index): same loss, whatever the split into micro-batches and ranks."""
    loss = make_loss(LossConfig())
    batch = make_batch(loss)
    together = per_sample(loss, batch, range(8))
    assert torch.equal(per_sample(loss, batch, range(8)), together)
    for rows in ([0, 1, 2, 3], [4, 5], [6], [7, 2]):
        torch.testing.assert_close(per_sample(loss, rows_of(batch, rows), rows), together[rows], rtol=1e-5, atol=1e-5)
    halves = [per_sample(loss, rows_of(batch, rows), rows).mean() for rows in ([0, 1, 2, 3], [4, 5, 6, 7])]
    torch.testing.assert_close(torch.stack(halves).mean(), together.mean(), rtol=1e-5, atol=1e-6)
    for other in ({"step": 6}, {"seed": 2}):
        assert not torch.allclose(per_sample(loss, batch, range(8), **other), together)


def test_moving_cells_weigh_more_and_weights_are_normalised_within_each_sample() -> None:
    loss = make_loss(replace(PLAIN, moving_weight=10.0))
    still = torch.zeros(2, *loss.contract.codec.array_shape)
    target = still.clone()
    target[0, 1, 3, 4] = 1.5  # more than a standard deviation away, in one channel of one cell
    weights = loss.cell_weights(target, still)
    # Both from the newest frame and from the median scene (0.2 standard deviations and less from `still`).
    assert weights[0, 0, 3, 4] == 11.0 and int((weights != 1).sum()) == 1
    left = loss.cell_weights(still, target)
    assert left[0, 0, 3, 4] == 11.0, "the cell that something has left moved as well"
    there = loss.cell_weights(target, target)
    assert there[0, 0, 3, 4] == 11.0, "what stands still but is not scenery"
    # A constant error gives the same loss whatever moved.
    batch = make_batch(loss)
    denoiser_output = per_sample(loss, batch, range(8))
    plain = per_sample(make_loss(), batch, range(8))
    assert not torch.allclose(denoiser_output, plain)
    assert float(denoiser_output.mean()) == pytest.approx(float(plain.mean()), rel=0.5)


def test_latents_are_normalised_by_the_contract() -> None:
    loss = make_loss()
    raw = torch.randn(2, 3, *loss.contract.codec.array_shape)
    normal = loss.normalise(raw.half())
    for channel, (mean, std) in enumerate(zip(loss.contract.codec.mean, loss.contract.codec.std, strict=True)):
        torch.testing.assert_close(normal[:, :, channel], (raw[:, :, channel] - mean) / std, rtol=0, atol=2e-3)
    assert normal.dtype == torch.float32


def corrupted(config: LossConfig, count: int = 2000) -> tuple[Tensor, Tensor, Tensor]:
    loss = make_loss(config)
    context = torch.ones(count, LENGTH, *loss.contract.codec.array_shape)
    noisy, bucket = loss.corrupt(context, training_noise(0, 0, range(count)))
    return noisy, bucket, (noisy - context).std((1, 2, 3, 4))


def test_the_bucket_names_the_level_of_the_noise_that_was_added() -> None:
    noisy, bucket, std = corrupted(replace(PLAIN, clean_context_share=0.0))
    lower, upper = bucket * 0.07, (bucket + 1) * 0.07
    assert bool(((std > lower * 0.8) & (std < upper * 1.2)).all())
    counts = torch.bincount(bucket, minlength=10)
    assert len(counts) == 10 and int(counts.min()) > 150 and int(counts.max()) < 250  # equally wide buckets
    assert not noisy.isnan().any()


def test_clean_contexts_stay_as_they_are_and_are_called_clean() -> None:
    noisy, bucket, std = corrupted(replace(PLAIN, clean_context_share=0.3))
    clean = std == 0
    assert float(clean.float().mean()) == pytest.approx(0.3, abs=0.04)
    assert not bucket[clean].any()
    assert bool((noisy[clean] == 1).all())


def test_dropout_zeroes_whole_contexts_of_some_samples_and_calls_them_clean() -> None:
    noisy, bucket, std = corrupted(replace(PLAIN, clean_context_share=0.0, context_dropout=0.1))
    dropped = ~noisy.flatten(1).any(1)
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.03)
    assert not bucket[dropped].any(), "the null that guidance shows in play has bucket 0"
    kept = noisy[~dropped]
    assert bool((kept != 0).flatten(1).all()), "no part of a context is dropped"


def test_dropout_leaves_the_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = make_loss(replace(PLAIN, context_dropout=1.0))
    batch, recorder = make_batch(loss), Recorder()
    monkeypatch.setattr("gamengen.diffusion.loss.Denoiser", lambda *_: recorder)
    loss({"unet": tiny_unet(loss.contract)}, batch, training_noise(0, 0, range(8)))
    noisy, _, context, actions, bucket = recorder.calls[-1]
    assert not context.any() and not bucket.any()
    assert torch.equal(actions, batch["actions"])
    assert noisy.flatten(1).any(1).all(), "the noisy slot is not dropped"


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_terminal_share_of_samples_is_at_the_last_timestep(share: float) -> None:
    loss = make_loss(replace(PLAIN, terminal_share=share, play_steps=()))
    recorder, count = Recorder(), 1000
    target = torch.zeros(count, *loss.contract.codec.array_shape)
    context = torch.zeros(count, LENGTH, *loss.contract.codec.array_shape)
    _, terminal, _ = loss.denoising_error(
        recorder, context, torch.zeros(count, LENGTH), torch.zeros(count), target, training_noise(0, 0, range(count))
    )
    timesteps = recorder.calls[0][1]
    assert float(terminal.float().mean()) == pytest.approx(share, abs=0.05)
    assert bool((timesteps[terminal] == 999).all())
    rest = timesteps[~terminal]
    if len(rest):
        counts = torch.histc(rest.float(), 10, 0, 1000)
        assert int(counts.min()) > len(rest) * 0.06 and int(rest.max()) < 1000 and int(rest.min()) >= 0


def test_the_other_samples_are_at_the_timesteps_that_play_uses() -> None:
    loss = make_loss(replace(PLAIN, terminal_share=0.5, play_steps=(2, 4)))
    recorder, count = Recorder(), 2000
    shape = loss.contract.codec.array_shape
    context, actions = torch.zeros(count, LENGTH, *shape), torch.zeros(count, LENGTH)
    noise = training_noise(0, 0, range(count))
    loss.denoising_error(recorder, context, actions, torch.zeros(count), torch.zeros(count, *shape), noise)
    values, counts = recorder.calls[0][1].unique(return_counts=True)
    # DDIM with trailing spacing: 2 steps are 999, 499 and 4 steps 999, 749, 499, 249; 499 is in both.
    assert values.tolist() == [249, 499, 749, 999]
    torch.testing.assert_close(counts / count, torch.tensor([0.125, 0.25, 0.125, 0.5]), atol=0.04, rtol=0)


def test_what_is_rare_weighs_more_and_what_is_usual_less() -> None:
    plain = make_loss(replace(PLAIN, moving_weight=10.0))
    shape = plain.contract.codec.array_shape
    share = torch.full(shape[1:], 0.1)
    share[0, 0], share[0, 1], share[0, 2] = 0.025, 0.4, 0.0
    loss = LatentDiffusionLoss(
        replace(PLAIN, moving_weight=10.0, rarity_limit=4.0), plain.contract, plain.schedule, plain.scene, share
    )
    weights = loss.cell_weights(torch.full((1, *shape), 9.0), torch.zeros((1, *shape)))[0, 0]
    assert weights[0, :4].tolist() == pytest.approx([21.0, 6.0, 41.0, 11.0])
    still = loss.cell_weights(torch.zeros((1, *shape)), torch.zeros((1, *shape)))
    assert bool((still == 1).all()), "a cell where nothing is has no rarity"
    unlimited = LatentDiffusionLoss(
        replace(PLAIN, moving_weight=10.0, rarity_limit=1.0), plain.contract, plain.schedule, plain.scene, share
    )
    everywhere = unlimited.cell_weights(torch.full((1, *shape), 9.0), torch.zeros((1, *shape)))
    assert bool((everywhere == 11).all())


@pytest.mark.parametrize(("flag", "value"), [("rarity_limit", 0.5), ("play_steps", (1, 4))])
def test_weights_and_steps_that_cannot_be_are_refused(flag: str, value: Any) -> None:
    with pytest.raises(ValueError, match=flag):
        LossConfig(**{flag: value})


def test_the_last_timestep_has_a_figure_of_its_own_over_the_samples_that_have_it() -> None:
    """The same names in every call: ranks that log different ones would wait for each other for ever."""
    for share, known in ((0.0, 0), (1.0, 8)):
        loss = make_loss(replace(PLAIN, terminal_share=share))
        logs = loss({"unet": tiny_unet(loss.contract)}, make_batch(loss), training_noise(0, 0, range(8))).logs
        assert set(logs) == {"mse", "mse_last_step"}
        assert int((~logs["mse_last_step"].isnan()).sum()) == known
        assert not any(value.requires_grad for value in logs.values())


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon", "sample", "flow"])
def test_prediction_targets_equal_those_written_by_hand(kind: str) -> None:
    loss = make_loss(kind=kind)
    recorder, answer = Recorder(0.25), 0.25
    target = torch.randn(16, *loss.contract.codec.array_shape)
    context, noise = torch.zeros(16, LENGTH, *target.shape[1:]), training_noise(3, 4, range(16))
    error, *_ = loss.denoising_error(recorder, context, torch.zeros(16, LENGTH), torch.zeros(16), target, noise)
    timesteps, added = recorder.calls[0][1], noise.normal("target", target.shape[1:])
    if kind == "flow":
        sigma = ((timesteps + 1) / 1000).view(-1, 1, 1, 1)
        noisy, wanted = (1 - sigma) * target + sigma * added, added - target
    else:
        scheduler = build_scheduler(kind)  # type: ignore[arg-type]
        noisy = scheduler.add_noise(target, added, timesteps)
        velocity = scheduler.get_velocity(target, added, timesteps)
        wanted = {"v_prediction": velocity, "epsilon": added, "sample": target}[kind]
    torch.testing.assert_close(recorder.calls[0][0], noisy, rtol=0, atol=1e-5)
    torch.testing.assert_close(error, (answer - wanted) ** 2, rtol=1e-4, atol=1e-4)


def test_offset_noise_is_added_to_the_noise_and_constant_over_a_channel() -> None:
    loss = make_loss(replace(PLAIN, noise_offset=0.5, terminal_share=1.0))
    recorder, noise = Recorder(), training_noise(0, 0, range(4))
    target = torch.zeros(4, *loss.contract.codec.array_shape)
    loss.denoising_error(recorder, target.unsqueeze(1), torch.zeros(4, 1), torch.zeros(4), target, noise)
    offset = recorder.calls[0][0] - noise.normal("target", target.shape[1:])
    assert float(offset.flatten(2).std(-1).max()) < 1e-6 and float(offset.abs().max()) > 0.05


def test_input_perturbation_changes_the_input_only() -> None:
    plain, perturbed = make_loss(), make_loss(replace(PLAIN, input_perturbation=0.1))
    target = torch.randn(4, *plain.contract.codec.array_shape)
    results = []
    for loss in (plain, perturbed):
        recorder = Recorder()
        noise = training_noise(0, 0, range(4))
        context = target.unsqueeze(1)
        error, *_ = loss.denoising_error(recorder, context, torch.zeros(4, 1), torch.zeros(4), target, noise)
        results.append((recorder.calls[0][0], error))
    assert torch.equal(results[0][1], results[1][1])
    assert not torch.allclose(results[0][0], results[1][0])


@pytest.mark.parametrize("kind", ["v_prediction", "sample", "flow"])
def test_min_snr_is_refused_where_it_is_zero_at_the_only_timestep_of_one_step_play(kind: str) -> None:
    with pytest.raises(ValueError, match="snr_gamma weights the last timestep with 0"):
        make_loss(replace(PLAIN, snr_gamma=5.0), kind)


def test_min_snr_weighs_as_its_paper_says() -> None:
    plain, weighted = make_loss(kind="epsilon"), make_loss(replace(PLAIN, snr_gamma=5.0), "epsilon")
    target = torch.randn(64, *plain.contract.codec.array_shape)
    recorder, errors = Recorder(), []
    for loss in (plain, weighted):
        noise = training_noise(0, 0, range(64))
        errors.append(
            loss.denoising_error(recorder, target.unsqueeze(1), torch.zeros(64, 1), torch.zeros(64), target, noise)[0]
        )
    alphas = build_scheduler("epsilon").alphas_cumprod[recorder.calls[0][1]]
    snr = alphas / (1 - alphas)
    expected = torch.minimum(snr, torch.tensor(5.0)) / snr
    torch.testing.assert_close(
        (errors[1] / errors[0]).flatten(1), expected.view(-1, 1).expand(-1, 128), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("k", [1, 2])
def test_self_rollout_replaces_exactly_the_newest_frames_by_what_the_model_makes_of_the_right_window(k: int) -> None:
    loss = make_loss(replace(PLAIN, self_rollout_steps=k, self_rollout_share=0.7))
    unet, batch, count = tiny_unet(loss.contract), make_batch(loss), 8
    noise = training_noise(0, 0, range(count))
    frames, actions = loss.normalise(batch["context"]), batch["actions"]
    assert frames.shape[1] == LENGTH + k
    real = torch.zeros_like(batch["border"])
    context = loss.self_rollout(Denoiser(unet, loss.contract), frames, actions, real, noise)
    assert context.shape == (count, LENGTH, *frames.shape[2:]) and not context.requires_grad
    own = (context != frames[:, -LENGTH:]).flatten(2).any(2)  # (B, L): the model's
    numbers = own.sum(1)
    assert set(numbers.tolist()) == set(range(k + 1)), "some samples none, some of them one, some more"
    for b, number in enumerate(numbers.tolist()):
        assert own[b].tolist() == [False] * (LENGTH - number) + [True] * number, "the older frames stay recorded ones"
    # Independently: one sample at a time, with the network itself and the formula of 1-step play.
    for b, number in enumerate(numbers.tolist()):
        past = list(frames[b])
        for step in range(k - number, k):
            start = Noise([noise.keys[b]]).normal(f"self_rollout_{step}", frames.shape[2:])
            seen = torch.stack(past[step : step + LENGTH])
            tokens, condition = Denoiser(unet, loss.contract).condition(
                actions[b : b + 1, step : step + LENGTH], torch.tensor([0])
            )
            with torch.no_grad():
                named = torch.nn.functional.one_hot(actions[b, step : step + LENGTH], loss.contract.game.num_actions)
                planes = named.float().view(1, -1, 1, 1).expand(-1, -1, *start.shape[2:])
                stacked = torch.cat([start, seen.flatten(0, 1).unsqueeze(0), planes], dim=1)
                velocity = unet(stacked, torch.tensor([999]), tokens, timestep_cond=condition).sample
            past[LENGTH + step] = -velocity[0]
        torch.testing.assert_close(context[b, -k:], torch.stack(past[LENGTH:]), rtol=0, atol=1e-5)


def test_the_share_of_samples_and_the_number_of_their_own_frames_are_as_asked() -> None:
    loss = make_loss(replace(PLAIN, self_rollout_steps=2, self_rollout_share=0.6))
    batch, count = make_batch(loss), 3000
    frames = loss.normalise(batch["context"])[:1].expand(count, -1, -1, -1, -1)
    actions, real = batch["actions"][:1].expand(count, -1), torch.zeros((count, frames.shape[1]), dtype=torch.bool)
    denoiser = Denoiser(tiny_unet(loss.contract), loss.contract)
    context = loss.self_rollout(denoiser, frames, actions, real, training_noise(0, 0, range(count)))
    numbers = (context != frames[:, -LENGTH:]).flatten(2).any(2).sum(1)
    shares = [float((numbers == number).double().mean()) for number in range(3)]
    assert shares == pytest.approx([0.4, 0.3, 0.3], abs=0.03)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_self_rollout_never_predicts_the_first_frame_or_its_copies(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In play they are real: a world that learnt to start from its own guess of them would drift from the start."""
    loss = make_loss(replace(PLAIN, self_rollout_steps=k, self_rollout_share=1.0))
    windows = Windows(random_rows(loss.contract), loss.contract.game, LENGTH, extra=k)
    batch = windows.at(torch.arange(len(windows)))
    frames = loss.normalise(batch.context)
    denoiser, noise = Denoiser(tiny_unet(loss.contract), loss.contract), training_noise(0, 0, range(len(windows)))
    monkeypatch.setattr(noise, "uniform", lambda name, shape=(): torch.zeros(len(windows)))  # all k frames
    context = loss.self_rollout(denoiser, frames, batch.actions, batch.border, noise)
    changed = (context != frames[:, -LENGTH:]).flatten(2).any(2)
    age = windows.targets - windows.firsts  # frames of the episode before the target
    for row in range(LENGTH):
        after_first = age - (LENGTH - row)  # 0 for the first frame itself, below for its copies
        expected = (after_first > 0) if row >= LENGTH - k else torch.zeros_like(after_first, dtype=torch.bool)
        assert torch.equal(changed[:, row], expected), row
    assert not changed[age == 1].any() and bool(changed[age > LENGTH + k][:, -1].all())


def test_what_is_late_stays_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that stand still were not dreamt: what the model makes of them is the target, not a part of the past."""
    loss = make_loss(replace(PLAIN, self_rollout_steps=2, self_rollout_share=1.0))
    windows = Windows(random_rows(loss.contract), loss.contract.game, LENGTH, extra=2)
    kept = torch.tensor([1, 2, 3])
    batch = windows.at(torch.tensor([12, 12, 12]), kept)
    frames = loss.normalise(batch.context)
    denoiser, noise = Denoiser(tiny_unet(loss.contract), loss.contract), training_noise(0, 0, range(3))
    monkeypatch.setattr(noise, "uniform", lambda name, shape=(): torch.zeros(3))  # both frames
    context = loss.self_rollout(denoiser, frames, batch.actions, batch.border, noise)
    changed = (context != frames[:, -LENGTH:]).flatten(2).any(2)
    assert changed[:, :-2].any() == 0 and changed[:, -2:].tolist() == [[False, False], [False, True], [True, True]]


def test_the_network_is_called_equally_often_whatever_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ranks share the weights each call gathers them: a rank that calls less often than another hangs the run."""
    loss = make_loss(replace(PLAIN, self_rollout_steps=2, self_rollout_share=0.3))
    unet, calls = tiny_unet(loss.contract), []
    unet.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    batch = make_batch(loss, 2)
    counts = set()
    for step in range(30):
        calls.clear()
        loss({"unet": unet}, batch, training_noise(0, step, range(2)))
        counts.add(len(calls))
    assert counts == {3}


def test_the_huber_loss_is_the_mean_square_of_small_errors_and_the_length_of_large_ones() -> None:
    error = torch.zeros(1, 8, 1, 2)
    error[0, :, 0, 0], error[0, 3, 0, 1] = 1e-4, 900.0
    small, large = pseudo_huber(error, 0.5).flatten().tolist()
    assert small == pytest.approx(1e-4, rel=1e-3)
    assert large == pytest.approx(2 * 0.5 * (30.0 - 0.5) / 8, rel=1e-3)


def test_what_is_uncertain_becomes_the_mean_under_squares_and_the_likelier_under_huber() -> None:
    """A brick of size 10 that goes in six of ten equal moments: the prediction with the least loss."""
    gone = 10.0 * (torch.arange(10) < 6).float().view(1, 10, 1, 1, 1)
    error = (torch.linspace(0, 10, 1001).view(-1, 1, 1, 1, 1) - gone).square().expand(-1, -1, 8, 1, 1)
    squared = error.mean((1, 2, 3, 4))
    huber = pseudo_huber(error.flatten(0, 1), LossConfig().huber_c).view(1001, 10).mean(1)
    assert int(squared.argmin()) / 1000 == pytest.approx(0.6) and int(huber.argmin()) / 1000 > 0.95


def test_the_loss_takes_the_type_that_it_is_told() -> None:
    batch = make_batch(make_loss(PLAIN))
    found = {}
    for kind in ("l2", "huber"):
        loss = make_loss(replace(PLAIN, loss_type=kind, huber_c=0.5))
        found[kind] = loss({"unet": tiny_unet(loss.contract)}, batch, training_noise(0, 0, range(8)))
    assert torch.equal(found["l2"].logs["mse"], found["huber"].logs["mse"]), "what is shown is the same"
    assert bool((found["huber"].per_sample < found["l2"].per_sample).all())


def make_energy_loss(**settings: Any) -> LatentDiffusionLoss:
    """Of a world with a scene in whose first rows of cells something rests."""
    plain = make_loss()
    contract = replace(
        plain.contract, settings={**plain.contract.settings, "scene_prior": True, "noise_planes": True}
    )  # fmt: skip
    shape = contract.codec.array_shape
    values = torch.full((2, *shape), torch.inf)
    values[0, :, :2], values[1, :, :2] = 0.0, 20.0
    scene = Scene(torch.zeros(shape), torch.ones(shape), Rests(values, torch.ones(shape)))
    config = replace(PLAIN, loss_type="energy", moving_weight=10.0, rarity_limit=1.0, **settings)
    return LatentDiffusionLoss(config, contract, plain.schedule, scene)


def test_where_the_scene_rests_a_change_weighs_no_more_than_its_absence() -> None:
    """A past bug: digits turned without a point, because the one frame in a hundred in which they turn weighed 61
    times what the others did."""
    loss = make_energy_loss()
    shape = loss.contract.codec.array_shape
    still, turned = torch.zeros(1, *shape), torch.zeros(1, *shape)
    turned[:, :, 1, 2], turned[:, :, 6, 2] = 20.0, 20.0
    calm, changed = loss.cell_weights(still, still)[0, 0], loss.cell_weights(turned, still)[0, 0]
    assert torch.equal(calm[:2], changed[:2]) and bool((calm[:2] == 11).all())
    assert calm[6, 2] == 1 and changed[6, 2] == 11, "elsewhere, such as where a ball may be, it does"
    more = LatentDiffusionLoss(
        replace(loss.config, change_weight=4.0), loss.contract, loss.schedule, loss.scene
    ).cell_weights(turned, still)[0, 0]
    assert more[1, 2] == 41 and more[1, 3] == 11 and more[6, 2] == 11


def test_the_energy_score_compares_two_noises_of_one_context() -> None:
    """Independently: both predictions by the network itself, and the score from their frames."""
    loss = make_energy_loss(terminal_share=1.0)
    unet, batch, noise = tiny_unet(loss.contract), make_batch(loss), training_noise(0, 0, range(8))
    torch.nn.init.normal_(unet.conv_out.weight, std=0.5)
    found = loss({"unet": unet}, batch, noise).per_sample
    context, actions = loss.normalise(batch["context"]), batch["actions"]
    target = loss.normalise(batch["targets"])
    denoiser = Denoiser(unet, loss.contract, loss.scene)
    clean = []
    with torch.no_grad():
        for name in ("target", "other"):
            start = noise.normal(name, target.shape[1:])
            clean.append(-denoiser(start, 999, context, actions, torch.zeros(8, dtype=torch.long)))
    assert float((clean[0] - clean[1]).abs().amax((1, 2, 3)).min()) > 0.01, "it sees the noise"
    wanted = energy_score(
        (clean[0] - target) ** 2, (clean[0] - clean[1]) ** 2, torch.ones(8, dtype=torch.bool),
        loss.context_weights(context[:, -1]), 1.0,
    )  # fmt: skip
    torch.testing.assert_close(found.detach(), wanted, rtol=1e-4, atol=1e-6)


def test_weights_of_the_energy_score_know_nothing_of_what_was_recorded() -> None:
    """A digit that turns in one of a hundred frames would be predicted to turn if it weighed a hundred times more."""
    loss = make_energy_loss(terminal_share=1.0)
    shape = loss.contract.codec.array_shape
    newest = torch.zeros(1, *shape)
    newest[0, 0, 6, 5] = 5.0
    weights = loss.context_weights(newest)[0, 0]
    assert bool((weights[:2] == 11).all()), "where the scene rests it may change"
    assert bool((weights[4:, 3:8] == 11).all()) and weights[3, 5] == 1 and weights[5, 2] == 1
    batch, noise = make_batch(loss), training_noise(0, 0, range(8))
    calls = []
    loss.context_weights = lambda newest: calls.append(newest) or torch.ones(8, 1, *shape[1:])  # type: ignore[method-assign]
    for change in (0.0, 3.0):
        loss({"unet": tiny_unet(loss.contract)}, batch | {"targets": batch["targets"] + change}, noise)
    assert torch.equal(*calls)


def test_the_energy_score_is_refused_where_noise_is_not_all_that_is_seen_or_not_seen_at_all() -> None:
    with pytest.raises(ValueError, match="with epsilon the last timestep still shows the frame"):
        make_loss(replace(PLAIN, loss_type="energy"), "epsilon")
    loss = make_energy_loss()
    contract = replace(loss.contract, settings={**loss.contract.settings, "noise_planes": False})
    with pytest.raises(ValueError, match="need noise_planes"):
        LatentDiffusionLoss(loss.config, contract, loss.schedule, loss.scene)


def test_no_gradient_flows_through_the_predicted_context() -> None:
    """The gradient is that of a context of constants."""
    loss = make_loss(replace(PLAIN, self_rollout_steps=1, self_rollout_share=1.0))
    unet, batch = tiny_unet(loss.contract), make_batch(loss)
    noise = training_noise(0, 0, range(8))
    loss({"unet": unet}, batch, noise).per_sample.mean().backward()
    gradients = [p.grad.clone() for p in unet.parameters()]
    unet.zero_grad()
    with torch.no_grad():
        frames = loss.normalise(batch["context"])
        context = loss.self_rollout(Denoiser(unet, loss.contract), frames, batch["actions"], batch["border"], noise)
    context, bucket = loss.corrupt(context.clone(), noise)
    target = loss.normalise(batch["targets"])
    actions = batch["actions"][:, -LENGTH:]
    error, *_ = loss.denoising_error(Denoiser(unet, loss.contract), context, actions, bucket, target, noise)
    error.mean().backward()
    for gradient, parameter in zip(gradients, unet.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_self_rollout_under_autocast_leaves_the_weights_their_gradient() -> None:
    """Autocast caches its casts of the weights; one made without gradient must not serve the forward that trains."""
    loss = make_loss(replace(PLAIN, self_rollout_steps=1))
    unet = tiny_unet(loss.contract)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss({"unet": unet}, make_batch(loss), training_noise(0, 0, range(8))).per_sample.mean().backward()
    assert not [name for name, p in unet.named_parameters() if p.grad is None or not bool(p.grad.any())]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"context_dropout": 1.5}, r"context_dropout: expected a share in \[0, 1\], got 1.5"),
        ({"terminal_share": -0.1}, "terminal_share: expected a share"),
        ({"change_weight": 0.0}, "change_weight: expected more than 0, got 0.0"),
        ({"huber_c": 0.0}, "huber_c: expected more than 0, got 0.0"),
        ({"self_rollout_steps": -1}, "self_rollout_steps: expected at least 0, got -1"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig(**setting)


def test_training_otherwise_than_the_contract_promises_is_refused() -> None:
    """Play would tell the network buckets of another width, or read its output as something else."""
    schedule = read_schedule(build_scheduler("v_prediction"))
    scene = flat_scene(tiny_contract())
    with pytest.raises(ValueError, match="max_noise_level: training is told 0.5, the contract promises play 0.7"):
        LatentDiffusionLoss(LossConfig(max_noise_level=0.5), tiny_contract(), schedule, scene)
    with pytest.raises(ValueError, match="prediction_type: training is told 'v_prediction'.*'flow'"):
        LatentDiffusionLoss(LossConfig(), tiny_contract(prediction_type="flow"), schedule, scene)
