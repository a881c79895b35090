"""gamengen.backends.onnx: the reference's outputs, at every batch size and number of threads."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gamengen.backends.cache import exported
from gamengen.backends.example import example_inputs
from gamengen.backends.onnx import OnnxBackend
from gamengen.diffusion.latent_world import LatentWorld
from gamengen.diffusion.pipeline import GameNGenPipeline
from tests.worlds import tiny_pipeline, tiny_pipeline_with_scene, tiny_starts

pytest.importorskip("onnxruntime", reason="needs the extra onnx")
ACTIONS = np.random.default_rng(1).integers(0, 3, (8, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tiny_pipeline(), tmp_path_factory.getbasetemp() / "exports", lambda text: None)


@pytest.fixture(scope="module")
def cache(folder: Path) -> Path:
    """Shared with the other tests of this session that play through ONNX Runtime."""
    return folder.parent.parent


@pytest.mark.parametrize(("num_worlds", "num_threads"), [(1, 1), (2, 1), (5, 1), (2, 2)])
def test_it_agrees_with_the_reference(folder: Path, num_worlds: int, num_threads: int) -> None:
    pipeline, backend = tiny_pipeline(), OnnxBackend(folder, num_threads)
    assert backend.num_threads == num_threads
    inputs = example_inputs(pipeline, num_worlds)
    with torch.no_grad():
        expected, frames = pipeline.denoiser.network(*inputs), pipeline.decode_latents(inputs[0])
    torch.testing.assert_close(backend.network(*inputs), expected, rtol=0, atol=1e-4)
    decoded = backend.decode(inputs[0])
    assert decoded.dtype == torch.uint8 and decoded.shape == frames.shape
    assert int((decoded.int() - frames.int()).abs().max()) <= 1


@pytest.mark.parametrize(
    "options",
    [
        {"num_inference_steps": 1},
        {"num_inference_steps": 2},
        {"num_inference_steps": 8},
        {"num_inference_steps": 4, "guidance_scale": 1.5, "noise_level": 0.2},
    ],
    ids=["1 step", "2 steps", "8 steps", "guided"],
)
def test_a_world_dreams_the_same_game(options: dict[str, float], cache: Path) -> None:
    check_same_game(tiny_pipeline(), options, cache)


def test_the_games_own_colours_are_part_of_the_graph(tmp_path: Path) -> None:
    settings = {**tiny_pipeline().world_contract.settings, "palette": [[70, 0, 0], [0, 75, 0]]}
    pipeline = tiny_pipeline(settings=settings)
    backend = OnnxBackend(exported(pipeline, tmp_path, lambda text: None), 1)
    latents = example_inputs(pipeline, 3)[0] * 3
    expected, plain = pipeline.decode_latents(latents), tiny_pipeline().decode_latents(latents)
    found = backend.decode(latents)
    assert found.dtype == torch.uint8
    # A pixel that is off by one before may lie on the other side of what counts as near.
    assert float((found != expected).any(-1).float().mean()) < 0.02
    assert 0.05 < float((expected != plain).any(-1).float().mean()) < 1.0


@pytest.mark.parametrize("steps", [1, 4])
def test_a_world_with_a_scene_dreams_the_same_game(steps: int, cache: Path) -> None:
    """The scene is part of the graph, and the number of worlds still free: the example has two, a game one."""
    pipeline = tiny_pipeline_with_scene()
    for num_worlds in (2, 1):
        check_same_game(pipeline, {"num_inference_steps": steps}, cache, num_worlds)


def check_same_game(pipeline: GameNGenPipeline, options: dict[str, float], cache: Path, num_worlds: int = 2) -> None:
    games = []
    for backend in ("torch", "onnx"):
        world = LatentWorld(pipeline, num_worlds, backend=backend, cache_dir=cache, **options)
        assert world.backend_choice.name == backend
        world.reset(tiny_starts(num_worlds), [3, 4][:num_worlds])
        frames = [world.step(actions[:num_worlds]).frames for actions in ACTIONS]
        games.append((np.stack(frames).astype(int), world.snapshot().context))
    assert np.abs(games[0][0] - games[1][0]).max() <= 1
    torch.testing.assert_close(games[0][1], games[1][1], rtol=0, atol=1e-4)


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install \"gamengen\[onnx\]\""):
        OnnxBackend(folder)
