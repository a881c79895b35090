"""A world's two networks as ONNX files."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from gamengen.backends.example import example_inputs
from gamengen.diffusion.pipeline import GameNGenPipeline

NETWORK_FILE = "network.onnx"
DECODER_FILE = "decoder.onnx"
NETWORK_INPUTS = ("noisy", "timesteps", "context", "actions", "noise_bucket")
OPSET = 18


class _Network(nn.Module):
    """`Denoiser.network` as a module, for the exporter."""

    def __init__(self, pipeline: GameNGenPipeline) -> None:
        super().__init__()
        self.unet = pipeline.unet
        self.denoiser = pipeline.denoiser

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.denoiser.network(*inputs)


class _Decoder(nn.Module):
    """`GameNGenPipeline.decode_tensors` as a module: latents to rounded pixels in one graph."""

    def __init__(self, pipeline: GameNGenPipeline) -> None:
        super().__init__()
        self.vae = pipeline.vae
        self.pipeline = (pipeline,)  # in a tuple: not a module of this one

    def forward(self, latents: Tensor) -> Tensor:
        return self.pipeline[0].decode_tensors(latents)


def export_networks(pipeline: GameNGenPipeline, folder: Path) -> None:
    """Write `network.onnx` and `decoder.onnx`, for any number of worlds.

    One graph a network, not one a frame: what stands between two steps costs next to nothing, and so every number of
    steps, guidance and batch size plays from the same two files.

    Args:
        pipeline: float32, on the CPU.
    """
    inputs = example_inputs(pipeline, 2)
    _export(_Network(pipeline), inputs, NETWORK_INPUTS, "output", folder / NETWORK_FILE)
    _export(_Decoder(pipeline), inputs[:1], ("latents",), "frames", folder / DECODER_FILE)


def _export(module: nn.Module, inputs: tuple[Tensor, ...], names: tuple[str, ...], output: str, file: Path) -> None:
    from torch.jit import TracerWarning  # type: ignore[attr-defined]

    with warnings.catch_warnings(), torch.no_grad():
        # Shape checks become constants in a trace, which is right here; and the tracing exporter is the older one of
        # two. It gives the same graph in 3 seconds that the newer one gives in 12 (measured, 8 million parameters).
        warnings.simplefilter("ignore", TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module.eval(),
            inputs,
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(names),
            output_names=[output],
            dynamic_axes={name: {0: "worlds"} for name in (*names, output)},
        )
