"""gamengen.backends.export: two valid files, for any number of worlds, without a word of warning."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from gamengen.backends.export import DECODER_FILE, NETWORK_FILE, NETWORK_INPUTS, export_networks
from tests.worlds import tiny_pipeline

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, pipeline = tmp_path_factory.mktemp("export"), tiny_pipeline()
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what the exporter warns of is dealt with, not shown to players
        export_networks(pipeline, folder)
    after = pipeline.unet.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items()), "the world is left as it was"
    assert not pipeline.unet.training and not pipeline.vae.training
    return folder


def shapes(values: object) -> dict[str, list[object]]:
    """Axis sizes, a name where an axis is free."""
    return {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in values  # type: ignore[attr-defined]
    }


def test_the_files_are_valid_and_free_in_the_number_of_worlds_alone(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == [DECODER_FILE, NETWORK_FILE]
    network, decoder = (onnx.load(folder / name) for name in (NETWORK_FILE, DECODER_FILE))
    for model in (network, decoder):
        onnx.checker.check_model(model, full_check=True)
    latent = ["worlds", 2, 8, 8]
    assert shapes(network.graph.input) == {
        "noisy": latent,
        "timesteps": ["worlds"],
        "context": ["worlds", 3, 2, 8, 8],
        "actions": ["worlds", 3],
        "noise_bucket": ["worlds"],
    }
    assert tuple(shapes(network.graph.input)) == NETWORK_INPUTS
    assert shapes(network.graph.output)["output"][0] == "worlds"
    assert shapes(decoder.graph.input) == {"latents": latent}
    assert decoder.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8, "rounded in the graph"
