"""gamengen.diffusion.latent_world.

The same game from the same start, alone or beside others, whatever was done in between.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gamengen.diffusion.latent_world import LatentWorld, default_steps
from gamengen.latents.windows import start_window
from gamengen.noise import play_noise
from gamengen.world import StartState, World
from tests.worlds import LENGTH, tiny_pipeline, tiny_starts

SEEDS = [7, 8, 9]
STARTS = tiny_starts(3)
ACTIONS = np.random.default_rng(1).integers(0, 3, (6, 3))
"""(T, B)."""


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return tiny_pipeline()


def make_world(pipeline: Any, count: int = 3, **options: Any) -> LatentWorld:
    return LatentWorld(pipeline, count, **{"num_inference_steps": 2, **options})


def latents(world: LatentWorld) -> Tensor:
    """The newest latent of each world: what is compared where rounding to pixels would hide a difference."""
    return world.snapshot().context[:, -1]


def play(world: LatentWorld, actions: np.ndarray = ACTIONS) -> tuple[np.ndarray, Tensor]:
    """(T, B, H, W, 3) frames and (T, B, C, h, w) latents."""
    frames, states = [], []
    for row in actions:
        frames.append(world.step(row).frames)
        states.append(latents(world))
    return np.stack(frames), torch.stack(states)


@pytest.fixture(scope="module", params=[{}, {"guidance_scale": 1.5, "noise_level": 0.2}], ids=["plain", "guided"])
def options(request: pytest.FixtureRequest) -> dict[str, float]:
    return dict(request.param)


def started(pipeline: Any, **options: Any) -> LatentWorld:
    world = make_world(pipeline, **options)
    world.reset(STARTS, SEEDS)
    return world


def test_is_a_world(pipeline: Any) -> None:
    world = make_world(pipeline)
    assert isinstance(world, World)
    assert world.num_worlds == 3 and world.contract is pipeline.world_contract


def test_frames_are_fresh_uint8_images(pipeline: Any) -> None:
    world = started(pipeline)
    first = world.step(ACTIONS[0])
    assert first.frames.shape == (3, 16, 16, 3) and first.frames.dtype == np.uint8
    assert first.rewards is None and first.terminated is None
    kept = first.frames.copy()
    world.step(ACTIONS[1])
    assert np.array_equal(first.frames, kept)
    first.frames[:] = 0  # whatever the caller does with it
    assert np.array_equal(play(started(pipeline))[0][0], kept)


def test_the_same_seed_twice_is_the_same_game_and_another_is_not(pipeline: Any, options: dict[str, float]) -> None:
    world = started(pipeline, **options)
    frames, states = play(world)
    world.reset(STARTS, SEEDS)  # the same object, and a new one
    for again in (play(world), play(started(pipeline, **options))):
        assert np.array_equal(again[0], frames) and torch.equal(again[1], states)
    world.reset(STARTS, [s + 1 for s in SEEDS])
    assert not torch.allclose(play(world)[1], states, atol=1e-3)


def test_actions_matter(pipeline: Any) -> None:
    other = ACTIONS.copy()
    other[0, 1] = (other[0, 1] + 1) % 3
    one, two = play(started(pipeline))[1], play(started(pipeline), other)[1]
    assert torch.allclose(one[:, [0, 2]], two[:, [0, 2]], atol=1e-4), "each world has its own action"
    assert not torch.allclose(one[0, 1], two[0, 1], atol=1e-3)


def test_batched_equals_single(pipeline: Any, options: dict[str, float]) -> None:
    together = play(started(pipeline, **options))[1]
    for b in range(3):
        world = make_world(pipeline, 1, **options)
        world.reset([STARTS[b]], [SEEDS[b]])
        alone = play(world, ACTIONS[:, b : b + 1])[1]
        torch.testing.assert_close(alone[:, 0], together[:, b], rtol=0, atol=1e-4)


def test_a_step_is_the_pipeline_on_the_window_of_the_last_frames_and_actions(pipeline: Any) -> None:
    """Independently: latents feed back as they are, actions end with the one that causes the frame."""
    world = started(pipeline, guidance_scale=1.5, noise_level=0.2)
    _, states = play(world)
    for b in range(3):
        frames, between = start_window(STARTS[b], world.contract.game, LENGTH)
        context, actions = pipeline.encode_frames(frames), between.tolist()
        for t in range(len(ACTIONS)):
            actions.append(int(ACTIONS[t, b]))
            noise = play_noise([SEEDS[b]], [t])
            latent = pipeline(
                context[-LENGTH:].unsqueeze(0),
                torch.tensor([actions[-LENGTH:]]),
                noise.normal("target", context.shape[1:]),
                context_noise=noise.normal("context", (LENGTH, *context.shape[1:])),
                num_inference_steps=2,
                guidance_scale=1.5,
                noise_level=0.2,
            )
            torch.testing.assert_close(latent[0], states[t, b], rtol=0, atol=1e-4)
            context = torch.cat([context, latent])


@pytest.mark.parametrize("steps", [1, 4])
def test_the_loop_equals_a_naive_one_bit_for_bit(pipeline: Any, options: dict[str, float], steps: int) -> None:
    """Ring, kept factors and kept tensors change no bit of what the pipeline gives on a context that is made anew."""
    options = {**options, "num_inference_steps": steps}
    world = started(pipeline, **options)
    windows = [start_window(start, world.contract.game, LENGTH) for start in STARTS]
    context = torch.stack([pipeline.encode_frames(frames) for frames, _ in windows])
    actions = torch.stack([actions for _, actions in windows])
    for t, row in enumerate(ACTIONS):
        actions = torch.cat([actions, torch.as_tensor(row).unsqueeze(1)], dim=1)
        noise = play_noise(SEEDS, [t] * 3)
        latent = pipeline(
            context[:, -LENGTH:].contiguous(),
            actions[:, -LENGTH:].contiguous(),
            noise.normal("target", context.shape[2:]),
            context_noise=noise.normal("context", (LENGTH, *context.shape[2:])),
            **options,
        )
        step = world.step(row)
        assert np.array_equal(step.frames, pipeline.decode_latents(latent).numpy())
        assert torch.equal(latents(world), latent)
        context = torch.cat([context, latent.unsqueeze(1)], dim=1)


def test_own_frames_are_never_encoded_again(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels that go back through the encoder drift, and cost as much as a denoising step."""
    encoded: list[int] = []
    original = pipeline.codec.encode
    monkeypatch.setattr(pipeline.codec, "encode", lambda frames: encoded.append(len(frames)) or original(frames))
    world = started(pipeline)
    assert encoded == [LENGTH] * 3, "the start states, once"
    play(world)
    assert encoded == [LENGTH] * 3


def test_snapshot_and_restore_continue_the_same(pipeline: Any, options: dict[str, float]) -> None:
    world = started(pipeline, **options)
    play(world, ACTIONS[:2])
    state = world.snapshot()
    expected = play(world, ACTIONS[2:])
    for target in (world, make_world(pipeline, **options)):  # the same object, and one that was never reset
        target.restore(state)
        found = play(target, ACTIONS[2:])
        assert np.array_equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    world.restore(state)  # what was played since has not changed the snapshot
    assert np.array_equal(play(world, ACTIONS[2:])[0], expected[0])


def test_a_snapshot_goes_into_any_slots(pipeline: Any) -> None:
    world = started(pipeline)
    play(world, ACTIONS[:2])
    state = world.snapshot([1])
    expected = play(world, ACTIONS[2:])[1][:, 1]
    world.reset(STARTS, SEEDS)
    world.restore(state, [2])
    actions = ACTIONS[2:].copy()
    actions[:, 2] = ACTIONS[2:, 1]
    torch.testing.assert_close(play(world, actions)[1][:, 2], expected, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="holds 1 worlds, 2 slots were given"):
        world.restore(state, [0, 1])


def test_resetting_a_slot_leaves_the_others(pipeline: Any) -> None:
    undisturbed = play(started(pipeline))[1]
    world = started(pipeline)
    play(world, ACTIONS[:3])
    world.reset([STARTS[0]], [99], slots=[1])
    found = play(world, ACTIONS[3:])[1]
    assert torch.equal(found[:, [0, 2]], undisturbed[3:, [0, 2]])
    fresh = make_world(pipeline, 1)
    fresh.reset([STARTS[0]], [99])
    torch.testing.assert_close(found[:, 1], play(fresh, ACTIONS[3:, 1:2])[1][:, 0], rtol=0, atol=1e-4)


def test_a_start_state_that_does_not_fit_changes_nothing(pipeline: Any) -> None:
    world = started(pipeline)
    expected = play(started(pipeline))[1]
    wrong = replace(STARTS[1], actions=np.array([0, 9]))
    with pytest.raises(ValueError, match="action 9"):
        world.reset([STARTS[2], wrong, STARTS[0]], [1, 2, 3])
    assert torch.equal(play(world)[1], expected)
    with pytest.raises(ValueError, match="2 start states, 3 seeds and 3 slots"):
        world.reset(STARTS[:2], SEEDS)
    with pytest.raises(ValueError, match=r"slots \[3\]: expected 0 to 2"):
        world.reset(STARTS[:1], [0], slots=[3])


def test_starting_from_stored_latents_equals_starting_from_pixels(pipeline: Any) -> None:
    """The readme of a public reproduction warned that one is worse than the other."""
    windows = [start_window(start, pipeline.world_contract.game, LENGTH) for start in STARTS]
    world = make_world(pipeline)
    stored = torch.stack([pipeline.codec.encode(frames) for frames, _ in windows])
    assert stored.dtype == torch.float16
    world.reset_latents(stored, torch.stack([actions for _, actions in windows]), SEEDS)
    found, expected = play(world), play(started(pipeline))
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-4)
    assert int(np.abs(found[0].astype(int) - expected[0]).max()) <= 1


def test_stored_latents_that_do_not_fit_are_refused(pipeline: Any) -> None:
    """One context would be spread over all worlds."""
    world = make_world(pipeline)
    context, actions = torch.zeros(3, LENGTH, 2, 8, 8), torch.zeros(3, LENGTH - 1, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"context \(3, 3, 2, 8, 8\), got \(1, 3, 2, 8, 8\)"):
        world.reset_latents(context[:1], actions, SEEDS)
    with pytest.raises(ValueError, match=r"actions \(3, 2\), got \(3, 3\)"):
        world.reset_latents(context, torch.zeros(3, 3, dtype=torch.int64), SEEDS)
    with pytest.raises(ValueError, match="expected 3 seeds, got 1"):
        world.reset_latents(context, actions, [1])
    with pytest.raises(ValueError, match="action -1"):
        world.reset_latents(context, actions - 1, SEEDS)


@pytest.mark.parametrize("kept", [1, 2])
def test_a_short_start_state_is_padded_by_the_rule_of_training(pipeline: Any, kept: int) -> None:
    start = tiny_starts(1, frames=kept)[0]
    padded = StartState(
        np.concatenate([start.frames[:1]] * (LENGTH - kept) + [start.frames]),
        np.concatenate([np.zeros(LENGTH - kept, np.int64), start.actions]),
    )
    results = []
    for state in (start, padded):
        world = make_world(pipeline, 1)
        world.reset([state], [0])
        results.append(play(world, ACTIONS[:, :1])[1])
    assert torch.equal(*results)


def test_options_are_checked_and_change_the_next_step(pipeline: Any) -> None:
    world = started(pipeline)
    assert set(world.options) == {"num_inference_steps", "guidance_scale", "noise_level"}
    assert world.options["num_inference_steps"].value == 2
    expected = play(started(pipeline, num_inference_steps=1))[1]
    world.set_option("num_inference_steps", 1)
    assert torch.equal(play(world)[1], expected)
    wrong = [
        ("num_inference_steps", 0, "expected 1 to 64, got 0"),
        ("num_inference_steps", 2.5, "expected a whole number, got 2.5"),
        ("num_inference_steps", True, "expected a whole number"),
        ("guidance_scale", float("nan"), "expected a number, got nan"),
        ("guidance_scale", -1.0, "expected 0.0 to 10.0, got -1.0"),
        ("noise_level", 0.9, "expected 0.0 to 0.7, got 0.9"),
        ("noise_level", "0.1", "expected a number, got '0.1'"),
        ("speed", 1, "no option 'speed'; it has: guidance_scale"),
    ]
    with pytest.raises(ValueError, match="expected a whole number, got 2.5"):
        started(pipeline, num_inference_steps=2.5)
    before = dict(world.options)
    for name, value, message in wrong:
        with pytest.raises(ValueError, match=message):
            world.set_option(name, value)
    assert dict(world.options) == before
    world.set_option("num_inference_steps", np.int64(3))  # what a slider or an array gives
    world.set_option("guidance_scale", 2)
    assert type(world.options["num_inference_steps"].value) is int
    assert type(world.options["guidance_scale"].value) is float
    with pytest.raises(ValueError, match="noise_level"):
        make_world(pipeline, noise_level=1.0)


def test_steps_that_cannot_be_made_are_refused(pipeline: Any) -> None:
    world = make_world(pipeline)
    with pytest.raises(ValueError, match=r"worlds \[0, 1, 2\] were never reset"):
        world.step([0, 0, 0])
    world.reset(STARTS[:2], SEEDS[:2], slots=[0, 1])
    with pytest.raises(ValueError, match=r"worlds \[2\] were never reset"):
        world.step([0, 0, 0])
    world.reset(STARTS, SEEDS)
    expected = play(started(pipeline))[1]
    with pytest.raises(ValueError, match="action 3 at position 1 is not in the action table.*0 NOOP, 1 LEFT, 2 RIGHT"):
        world.step([0, 3, 0])
    with pytest.raises(ValueError, match="expected 3 actions, one a world, got 2"):
        world.step([0, 1])
    assert torch.equal(play(world)[1], expected), "a refused step leaves the world as it was"
    with pytest.raises(ValueError, match="num_worlds: expected at least 1, got 0"):
        make_world(pipeline, 0)


def test_reconstruct_is_the_codec_there_and_back(pipeline: Any) -> None:
    world = make_world(pipeline)
    frames = np.concatenate([start.frames for start in STARTS])
    found = world.reconstruct(frames)
    assert found.shape == frames.shape and found.dtype == np.uint8
    expected = pipeline.codec.decode(pipeline.codec.encode(torch.as_tensor(frames))).numpy()
    assert int(np.abs(found.astype(int) - expected).max()) <= 1


def test_half_precision_keeps_its_state_in_float32() -> None:
    world = make_world(tiny_pipeline(), dtype=torch.bfloat16)
    world.reset(STARTS, SEEDS)
    _, states = play(world)
    expected = play(started(tiny_pipeline()))[1]
    assert states.dtype == torch.float32
    torch.testing.assert_close(states[0], expected[0], rtol=0.1, atol=0.15)


def test_a_world_is_played_with_as_many_steps_as_it_was_made_for() -> None:
    """A world for 1-step play shows ghosts at 4."""
    for setting, expected in (({}, 4), ({"num_inference_steps": 1}, 1), ({"num_inference_steps": 3}, 3)):
        pipeline = tiny_pipeline()
        contract = replace(pipeline.world_contract, settings={**pipeline.world_contract.settings, **setting})
        world = LatentWorld(tiny_pipeline(settings=contract.settings), 1)
        assert world.options["num_inference_steps"].value == expected
        assert default_steps(world.contract) == expected
