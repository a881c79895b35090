"""The ONNX backend: both networks through ONNX Runtime, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gamengen.backends.export import DECODER_FILE, NETWORK_FILE, NETWORK_INPUTS


def import_onnxruntime() -> Any:
    """The onnxruntime module; ImportError says which extra brings it."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('backend onnx needs ONNX Runtime: pip install "gamengen[onnx]"') from error
    return onnxruntime


class OnnxBackend:
    """Exported networks through ONNX Runtime; float32, any batch size.

    Args:
        folder: of `export_networks`.
        num_threads: None takes PyTorch's number of now.
    """

    name = "onnx"

    def __init__(self, folder: Path, num_threads: int | None = None) -> None:
        self.num_threads = num_threads or torch.get_num_threads()
        self._network = _session(folder / NETWORK_FILE, self.num_threads)
        self._decoder = _session(folder / DECODER_FILE, self.num_threads)

    def network(
        self, noisy: Tensor, timesteps: Tensor, context: Tensor, actions: Tensor, noise_bucket: Tensor
    ) -> Tensor:
        """As `Denoiser.network`, within 1e-4 (checked when the network was exported)."""
        inputs = (noisy, timesteps, context, actions, noise_bucket)
        feed = {name: value.numpy() for name, value in zip(NETWORK_INPUTS, inputs, strict=True)}
        return torch.from_numpy(self._network.run(None, feed)[0])

    def decode(self, latents: Tensor) -> Tensor:
        """As `GameNGenPipeline.decode_latents`, within a rounding step."""
        return torch.from_numpy(self._decoder.run(None, {"latents": latents.numpy()})[0])


def _session(file: Path, num_threads: int) -> Any:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the core from the game, the browser and each other. Measured on 2 shared
    # cores: 25 ms a step with waiting threads asleep, 39 with spinning ones.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
