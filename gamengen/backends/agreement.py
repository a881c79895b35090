"""Does a fast backend dream what the reference dreams? Measured a step at a time, and over a hundred own frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gamengen.backends.eager import Backend
from gamengen.backends.example import example_inputs
from gamengen.diffusion.denoiser import Denoiser
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.latents.windows import start_window
from gamengen.noise import Noise, key_of, play_noise

NUM_FRAMES = 100
MAX_STEP_ERROR = 1e-4
"""Of a normalised latent, after one step from the same context."""
MAX_HALF_ERROR = 0.1
"""In place of `MAX_STEP_ERROR` where both run in half precision: a few of its rounding steps."""
MAX_PSNR_CHANGE = 0.1
"""dB."""
CHECK_EVERY = 10
"""Frames between two checks of a single step; the reference walks on by itself."""


@dataclass(frozen=True)
class Agreement:
    """How far a backend is from the reference."""

    step_error: float
    """Largest difference of a latent after one step from the reference's own context, over the dream."""
    psnr_change: float
    """dB: difference between the two dreams' mean PSNR against the start state's newest frame. Not the PSNR between
    the dreams: where a ball bounces, a rounding error may send it the other way, in both directions alike."""
    num_frames: int

    def check(self, name: str) -> None:
        """Raise ValueError when the backend is not the same game."""
        if not (self.step_error <= MAX_STEP_ERROR and self.psnr_change <= MAX_PSNR_CHANGE):
            raise ValueError(
                f"backend {name} does not agree with the reference: a step differs by {self.step_error:.2g}, expected "
                f"at most {MAX_STEP_ERROR}; the PSNR of {self.num_frames} frames by {self.psnr_change:.3f} dB, "
                f"expected at most {MAX_PSNR_CHANGE}. It is not used: take the backend torch, and report this world"
            )


@torch.inference_mode()
def measure_agreement(
    pipeline: GameNGenPipeline,
    reference: Backend,
    other: Backend,
    num_frames: int = NUM_FRAMES,
    progress: Callable[[str], None] | None = None,
) -> Agreement:
    """Dream the same game with both, one step a frame, from the world's first start state.

    Args:
        pipeline: float32. A world without start states begins in noise.
    """
    first, actions = _start(pipeline, num_frames)
    length = pipeline.world_contract.context_length
    contexts = {"reference": first, "other": first}
    shown = pipeline.decode_latents(first[:, -1]).float()
    step_error, psnr = 0.0, {"reference": 0.0, "other": 0.0}
    for t in range(num_frames):
        window = actions[:, t : t + length]
        if t % CHECK_EVERY == 0:
            if progress is not None:
                progress(f"comparing {other.name} with the reference: frame {t} of {num_frames}")
            same = [_next(pipeline, b, contexts["reference"], window, t) for b in (reference, other)]
            step_error = max(step_error, _largest(same[0] - same[1]))
        for name, backend in (("reference", reference), ("other", other)):
            latent = _next(pipeline, backend, contexts[name], window, t)
            contexts[name] = torch.cat([contexts[name][:, 1:], latent.unsqueeze(1)], dim=1)
            difference = backend.decode(latent).float() - shown
            psnr[name] += _psnr(difference) / num_frames
    return Agreement(step_error, abs(psnr["reference"] - psnr["other"]), num_frames)


@torch.inference_mode()
def check_step(pipeline: GameNGenPipeline, backend: Backend, num_worlds: int) -> float:
    """The largest difference of the network's output for a batch of this size; also warms the backend up.

    Raises:
        ValueError: it is larger than rounding explains.
    """
    inputs = example_inputs(pipeline, num_worlds)
    error = _largest(backend.network(*inputs).float() - pipeline.denoiser.network(*inputs).float())
    limit = MAX_STEP_ERROR if inputs[0].dtype == torch.float32 else MAX_HALF_ERROR
    if error > limit:
        raise ValueError(
            f"backend {backend.name} does not agree with the reference: the network's output for {num_worlds} worlds "
            f"differs by {error:.2g}, expected at most {limit}; take the backend torch, and report this world"
        )
    backend.decode(inputs[0])
    return error


def _start(pipeline: GameNGenPipeline, num_frames: int) -> tuple[Tensor, Tensor]:
    """The context (1, L, C, h, w) and actions (1, L - 1 + num_frames), random and held for a few frames each."""
    contract = pipeline.world_contract
    generator = torch.Generator().manual_seed(key_of("agreement"))
    played = torch.randint(0, contract.game.num_actions, (num_frames // 4 + 1,), generator=generator)
    played = played.repeat_interleave(4)[:num_frames]
    if pipeline.start_states:
        frames, before = start_window(pipeline.start_states[0], contract.game, contract.context_length)
        context = pipeline.encode_frames(frames)
    else:
        context = Noise([key_of("agreement")]).normal(
            "context", (contract.context_length, *contract.codec.array_shape)
        )[0]
        before = torch.full((contract.context_length - 1,), contract.game.noop_action)
    return context.unsqueeze(0), torch.cat([before, played]).unsqueeze(0)


def _next(pipeline: GameNGenPipeline, backend: Backend, context: Tensor, actions: Tensor, t: int) -> Tensor:
    denoiser = Denoiser(pipeline.unet, pipeline.world_contract, pipeline.scene, backend.network)
    noise = play_noise([0], [t]).normal("target", context.shape[2:])
    latent: Tensor = pipeline(context, actions, noise, num_inference_steps=1, denoiser=denoiser)
    return latent


def _largest(difference: Tensor) -> float:
    """nan counts as infinitely far."""
    return float(difference.abs().max().nan_to_num(nan=float("inf")))


def _psnr(difference: Tensor) -> float:
    """Of pixels of 0 to 255; that of a quarter of a rounding step at most."""
    return float(10 * torch.log10(255.0**2 / difference.square().mean().clamp(min=1 / 16)))
