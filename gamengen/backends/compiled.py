"""The compiled backend: torch.compile, with CUDA graphs on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from gamengen.backends.eager import torch_threads
from gamengen.pipeline import GameNGenPipeline


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
        self.pipeline, self.num_worlds = pipeline, num_worlds
        self.num_threads = num_threads or torch.get_num_threads()
        self._inputs: dict[str, list[Tensor]] = {}
        mode = "reduce-overhead" if pipeline.unet.device.type == "cuda" else None
        self._network = torch.compile(pipeline.denoiser.network, fullgraph=True, dynamic=False, mode=mode)
        self._decode = torch.compile(self._decode_batch, fullgraph=True, dynamic=False, mode=mode)
        self._warm_up()

    def network(
        self, noisy: Tensor, timesteps: Tensor, context: Tensor, actions: Tensor, noise_bucket: Tensor
    ) -> Tensor:
        """As `Denoiser.network`, within the rounding of another order of operations."""
        inputs = (noisy, timesteps, context, actions, noise_bucket)
        parts = [self._run("network", part) for part in self._parts(inputs)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def decode(self, latents: Tensor) -> Tensor:
        """As `GameNGenPipeline.decode_latents`, within a rounding step."""
        parts = [self._run("decode", part) for part in self._parts((latents,))]
        return torch.cat(parts)[: len(latents)]

    def _run(self, which: str, inputs: tuple[Tensor, ...]) -> Tensor:
        kept = self._inputs.setdefault(which, [])
        if not kept:
            with torch.inference_mode(False):
                kept += [torch.zeros(value.shape, dtype=value.dtype, device=value.device) for value in inputs]
        for place, value in zip(kept, inputs, strict=True):
            place.copy_(value)
        with torch_threads(self.num_threads):
            # A graph's output is overwritten by its next run.
            return (self._network if which == "network" else self._decode)(*kept).clone()

    def _parts(self, inputs: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
        """The batch in parts of `num_worlds` rows, the last one filled up with rows that nobody reads."""
        count = len(inputs[0])
        missing = -count % self.num_worlds
        if missing:
            inputs = tuple(torch.cat([value, value[:1].expand(missing, *value.shape[1:])]) for value in inputs)
        return list(zip(*(value.split(self.num_worlds) for value in inputs), strict=True))

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
                f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}); it needs a C++ "
                "compiler such as g++ on a CPU and Triton on a GPU. Install one, or take the backend torch or onnx"
            ) from error


def example_inputs(pipeline: GameNGenPipeline, num_worlds: int) -> tuple[Tensor, ...]:
    """Inputs of `Backend.network`, of the right shapes and types and of no meaning; the first is also a latent."""
    contract = pipeline.world_contract
    device, dtype = pipeline.unet.device, pipeline.unet.dtype
    generator = torch.Generator().manual_seed(0)
    shape, length = contract.codec.array_shape, contract.context_length
    context = torch.randn((num_worlds, length + 1, *shape), generator=generator).to(device, dtype)
    actions = torch.full((num_worlds, length), contract.game.noop_action, device=device)
    last = torch.full((num_worlds,), pipeline.schedule.num_timesteps - 1, device=device)
    return context[:, -1], last, context[:, :-1], actions, torch.zeros_like(last)
