"""gamengen.backends.compiled: the reference's outputs, without a compilation in the middle of a game."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch

from gamengen.backends.compiled import CompiledBackend
from gamengen.backends.example import example_inputs
from gamengen.diffusion.latent_world import LatentWorld
from tests.worlds import tiny_pipeline, tiny_starts

ACTIONS = np.random.default_rng(1).integers(0, 3, (6, 2))


@pytest.fixture
def eager_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile as far as its graph: whole, of fixed shapes, but run op by op; nothing is compiled."""
    compiler = torch.compile

    def compiled(function: Any, **settings: Any) -> Any:
        return compiler(function, backend="eager", **{**settings, "mode": None})

    monkeypatch.setattr(torch, "compile", compiled)


def game(world: LatentWorld) -> tuple[np.ndarray, torch.Tensor]:
    world.reset(tiny_starts(2), [3, 4])
    frames = [world.step(actions).frames for actions in ACTIONS]
    return np.stack(frames).astype(int), world.snapshot().context


def check_play(world: LatentWorld) -> None:
    """The same games as the reference's, at every setting, compiled before the first frame and never again."""
    reference = LatentWorld(world.pipeline, 2)
    assert world.backend_choice.name == "compile"
    with torch._dynamo.config.patch(error_on_recompile=True):
        for options in (
            {"num_inference_steps": 1},
            {"num_inference_steps": 4},
            {"num_inference_steps": 2, "guidance_scale": 1.5, "noise_level": 0.2},
        ):
            for each in (world, reference):
                for name, value in options.items():
                    each.set_option(name, value)
            found, expected = game(world), game(reference)
            assert np.abs(found[0] - expected[0]).max() <= 1
            torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-4)


def check_parts(backend: CompiledBackend) -> None:
    """Batches of other sizes than the compiled one."""
    pipeline = backend.pipeline
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        for count in (1, 2, 5):
            inputs = example_inputs(pipeline, count)
            expected = pipeline.denoiser.network(*inputs)
            torch.testing.assert_close(backend.network(*inputs), expected, rtol=0, atol=1e-4)
            frames = backend.decode(inputs[0])
            assert frames.shape == (count, 16, 16, 3)
            assert int((frames.int() - pipeline.decode_latents(inputs[0]).int()).abs().max()) <= 1


def test_the_graph_is_whole_and_compiled_once(eager_compiler: None) -> None:
    world = LatentWorld(tiny_pipeline(), 2, backend="compile")
    check_play(world)
    assert isinstance(world.backend, CompiledBackend)
    check_parts(world.backend)


def test_without_a_compiler_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match=r"needs the C\+\+ compiler 'no-such-compiler', which is not installed"):
        CompiledBackend(tiny_pipeline())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU needs g++")
def test_compiled_for_this_machine_it_plays_the_same_game() -> None:
    check_play(LatentWorld(tiny_pipeline(), 2, backend="compile"))


@pytest.mark.gpu
def test_on_a_gpu_graphs_are_replayed_in_half_precision() -> None:
    """Outputs of CUDA graphs are overwritten by their next run: what is kept must be a copy."""
    worlds = [LatentWorld(tiny_pipeline(), 2, device="cuda", backend="compile") for _ in range(2)]
    assert worlds[0].dtype == torch.bfloat16
    first, second = (game(world) for world in worlds)
    assert np.array_equal(first[0], second[0]) and torch.equal(first[1], second[1])
    reference = game(LatentWorld(tiny_pipeline(), 2, device="cuda"))
    assert np.abs(first[0][0] - reference[0][0]).mean() < 4
