"""The compiled backend: torch.compile, with CUDA graphs on a GPU."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from gamengen.backends.eager import torch_threads
from gamengen.backends.example import example_inputs
from gamengen.diffusion.pipeline import GameNGenPipeline


class CompiledBackend:
    """Both networks through torch.compile, for one batch size: a larger batch runs in parts of that size.

    Inputs are copied into tensors that stay where they are: a CUDA graph reads from fixed addresses, and nothing about
    an input (its strides, how it was made) can cause compilation in the middle of a game.

    Args:
        num_worlds: B.
        num_threads: of the CPU; None takes PyTorch's number of now.
    Raises:
        RuntimeError: there is no compiler, or the network cannot be compiled.
    """

    name = "compile"

    def __init__(self, pipeline: GameNGenPipeline, num_worlds: int = 1, num_threads: int | None = None) -> None:
        device = pipeline.unet.device.type
        if device == "cpu":
            check_compiler()
        self.pipeline, self.num_worlds = pipeline, num_worlds
        self.num_threads = num_threads or torch.get_num_threads()
        self._inputs: dict[Callable[..., Tensor], list[Tensor]] = {}
        mode = "reduce-overhead" if device == "cuda" else None
        self._network = torch.compile(pipeline.denoiser.network, fullgraph=True, dynamic=False, mode=mode)
        self._decode = torch.compile(self._decode_batch, fullgraph=True, dynamic=False, mode=mode)
        self._warm_up()

    def network(
        self, noisy: Tensor, timesteps: Tensor, context: Tensor, actions: Tensor, noise_bucket: Tensor
    ) -> Tensor:
        """As `Denoiser.network`, within the rounding of another order of operations."""
        return self._in_parts(self._network, (noisy, timesteps, context, actions, noise_bucket))

    def decode(self, latents: Tensor) -> Tensor:
        """As `GameNGenPipeline.decode_latents`, within a rounding step."""
        return self._in_parts(self._decode, (latents,))

    def _in_parts(self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
        """A function's output for any batch, `num_worlds` rows at a time, the last part filled up and cut again."""
        count = len(inputs[0])
        missing = -count % self.num_worlds
        if missing:
            inputs = tuple(torch.cat([value, value[:1].expand(missing, *value.shape[1:])]) for value in inputs)
        parts = zip(*(value.split(self.num_worlds) for value in inputs), strict=True)
        outputs = [self._run(function, part) for part in parts]
        return torch.cat(outputs)[:count] if len(outputs) > 1 else outputs[0][:count]

    def _run(self, function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Tensor:
        if function not in self._inputs:
            with torch.inference_mode(False):
                self._inputs[function] = [
                    torch.zeros(value.shape, dtype=value.dtype, device=value.device) for value in inputs
                ]
        places = self._inputs[function]
        for place, value in zip(places, inputs, strict=True):
            place.copy_(value)
        with torch_threads(self.num_threads):
            return function(*places).clone()  # a graph's output is overwritten by its next run

    def _decode_batch(self, latents: Tensor) -> Tensor:
        return self.pipeline.decode_tensors(latents)

    def _warm_up(self) -> None:
        """Compile now, before anyone waits for a frame."""
        pipeline, contract = self.pipeline, self.pipeline.world_contract
        example = example_inputs(pipeline, self.num_worlds)
        try:
            with torch.inference_mode():
                for _ in range(3):  # compile, record the CUDA graph, replay it
                    self.network(*example)
                    self.decode(example[0])
        except Exception as error:  # a compiler fails in many ways, all of them the user's to hear about
            raise RuntimeError(
                f"backend compile: {contract.game.env_id} could not be compiled ({type(error).__name__}: "
                f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}); it needs a "
                "working C++ compiler on a CPU and Triton on a GPU. Take the backend torch or onnx"
            ) from error


def check_compiler() -> None:
    """Raise RuntimeError when there is no C++ compiler: torch.compile would say so only after a minute of work."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise RuntimeError(
            f"backend compile needs the C++ compiler {compiler!r}, which is not installed (CXX names another one): "
            "install it, or take the backend torch or onnx"
        )
