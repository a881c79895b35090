"""The file that is pushed as pipeline.py gives the frames of the package, bit for bit, and imports nothing of it."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from gamengen.diffusion.latent_world import LatentWorld
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.diffusion.rests import Rests
from gamengen.diffusion.scene import Scene
from tests.worlds import tiny_pipeline, tiny_starts

SOURCE = Path(__file__).resolve().parent.parent / "gamengen/hub/standalone_pipeline.py"
ACTIONS = [1, 2, 0, 1]


def test_it_imports_nothing_of_the_package() -> None:
    nodes = list(ast.walk(ast.parse(SOURCE.read_text())))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    assert len(modules) > 10 and not any(module.startswith("gamengen") for module in modules)


def world_folder(folder: Path, scene: str, **settings: Any) -> Path:
    """A tiny world, one of whose start states is younger than the context.

    scene: none, median (as worlds were made before scenes had rests), rests (of cells alone), groups of them, or
    those of a world whose network sees noise at the last timestep and which has a palette.
    """
    pipeline = tiny_pipeline(**settings)
    contract = pipeline.world_contract
    if scene != "none":
        later = {"noise_planes": True, "palette": [[70, 0, 0], [0, 75, 0]]}
        more = {"scene_prior": True} | (later if scene == "noise" else {})
        contract = replace(contract, settings={**contract.settings, **more})
        pipeline = tiny_pipeline(settings["prediction_type"], settings=contract.settings)
        shape = contract.codec.array_shape
        torch.manual_seed(1)
        pipeline.scene = Scene(torch.randn(shape), torch.rand(shape) + 0.05)
        if scene in ("rests", "groups", "noise"):
            values = torch.randn((3, *shape))
            values[:, :, :3], values[2, :, :, 4:] = torch.inf, torch.inf  # rows without any, columns with two
            groups = torch.arange(shape[1] * shape[2]).view(shape[1:])
            groups[4:6, 1:4] = groups[4, 1]
            together = None if scene == "rests" else groups
            pipeline.scene = replace(pipeline.scene, rests=Rests(values, 0.1 + torch.rand(shape), together))
        torch.nn.init.normal_(pipeline.unet.conv_out.weight, std=0.1)
    pipeline.start_states = [*tiny_starts(1), *tiny_starts(1, frames=2, seed=5)]
    pipeline.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("prediction_type", "scene", "start", "options"),
    [
        ("v_prediction", "median", 1, {"num_inference_steps": 3}),
        ("v_prediction", "none", 0, {"num_inference_steps": 2, "noise_level": 0.4}),
        ("v_prediction", "rests", 0, {"num_inference_steps": 1, "guidance_scale": 1.5, "noise_level": 0.1}),
        ("flow", "groups", 0, {"num_inference_steps": 2}),
        ("v_prediction", "noise", 0, {"num_inference_steps": 1}),
        ("v_prediction", "noise", 1, {"num_inference_steps": 3, "guidance_scale": 1.5}),
        ("epsilon", "median", 0, {"num_inference_steps": 2}),
        ("sample", "groups", 1, {"num_inference_steps": 1}),
    ],
)
def test_it_dreams_the_same_frames(
    tmp_path: Path, prediction_type: str, scene: str, start: int, options: dict[str, Any]
) -> None:
    folder = world_folder(tmp_path / "world", scene, prediction_type=prediction_type)
    ours = LatentWorld(GameNGenPipeline.from_pretrained(folder), 1, **options)
    ours.reset([ours.pipeline.start_states[start]], [7])
    expected = np.stack([ours.step([action]).frames[0] for action in ACTIONS])
    theirs = DiffusionPipeline.from_pretrained(folder, custom_pipeline=str(SOURCE), trust_remote_code=True)
    assert type(theirs).__name__ == "DreamPipeline" and not isinstance(theirs, GameNGenPipeline)
    clip = theirs(ACTIONS, start=start, seed=7, **options)
    assert clip.dtype == np.uint8 and np.array_equal(clip, expected)
    assert not np.array_equal(clip[0], clip[1])


def test_it_refuses_what_it_cannot_play(tmp_path: Path) -> None:
    folder = world_folder(tmp_path / "world", "none", prediction_type="v_prediction")
    dream = DiffusionPipeline.from_pretrained(folder, custom_pipeline=str(SOURCE), trust_remote_code=True)
    with pytest.raises(ValueError, match="call reset first"):
        dream.step(0)
    with pytest.raises(ValueError, match="start 2: this world has the start states 0 to 1"):
        dream.reset(start=2)
    dream.reset()
    with pytest.raises(ValueError, match="action 3: expected 0 to 2"):
        dream.step(3)
    with pytest.raises(ValueError, match="noise_level: expected 0 to 0.7"):
        dream.step(0, noise_level=0.9)
    with pytest.raises(ValueError, match="num_inference_steps"):
        dream.step(0, num_inference_steps=0)
