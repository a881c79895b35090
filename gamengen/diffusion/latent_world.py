"""The first World: a GameNGenPipeline in a real-time loop, B worlds batched in one forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gamengen.backends.choice import make_backend
from gamengen.backends.eager import torch_threads
from gamengen.contract import WorldContract, check_actions
from gamengen.diffusion.denoiser import MAX_INFERENCE_STEPS, Denoiser
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.diffusion.ring import Ring
from gamengen.latents.windows import start_window
from gamengen.noise import play_noise
from gamengen.world import Option, StartState, WorldStep, check_option

DEFAULT_STEPS = 4
"""Source: GameNGen (arXiv 2408.14837), section 3.3.2."""


@dataclass(frozen=True)
class LatentState:
    """Snapshot of some worlds: everything that their next frames depend on."""

    context: Tensor
    actions: Tensor
    seeds: tuple[int, ...]
    frame_numbers: tuple[int, ...]


class LatentWorld:
    """Plays a latent diffusion world.

    Own frames are never encoded again: only latents feed back (GameNGen, section 3.2). What stays the same from frame
    to frame is made once: the ring of latents, the levels of the timesteps, the figures of the codec. On a GPU the CPU
    waits for nothing but the finished frames.

    Args:
        num_worlds: B, games stepped together.
        device, dtype: where and in what the network runs; latents between steps stay float32. dtype None is float32,
            and bfloat16 for the backends `compile` and `auto` on a GPU.
        backend, num_threads, cache_dir, progress: as `loading.load_world` takes them.
        num_inference_steps: None takes what the world was trained to be played with, `default_steps`.
    Raises:
        ValueError: an option, a backend or a number that this world does not have.
        ImportError: the backend's extra is not installed. RuntimeError: the backend cannot be made ready here.
    """

    def __init__(
        self,
        pipeline: GameNGenPipeline,
        num_worlds: int = 1,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        backend: str = "torch",
        num_threads: int | None = None,
        cache_dir: str | Path | None = None,
        progress: Callable[[str], None] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        noise_level: float = 0.0,
    ) -> None:
        if num_worlds < 1:
            raise ValueError(f"num_worlds: expected at least 1, got {num_worlds}")
        self.device = torch.device(device)
        fast = self.device.type == "cuda" and backend in ("auto", "compile")
        self.dtype = dtype or (torch.bfloat16 if fast else torch.float32)
        self.pipeline = pipeline.to(self.device)
        if self.dtype != pipeline.unet.dtype:  # a cast to the same type still warns
            pipeline.to(dtype=self.dtype)
        self.pipeline.unet.to(memory_format=torch.channels_last).eval()
        self.pipeline.vae.eval()
        self._num_worlds = num_worlds
        length, shape = self.contract.context_length, self.contract.codec.array_shape
        self._context = Ring(num_worlds, length, shape, self.device)
        self._actions = torch.full((num_worlds, length), self.contract.game.noop_action)
        self._seeds = [0] * num_worlds
        self._frame_numbers = [-1] * num_worlds  # -1: never reset
        self._staging: dict[str, Tensor] = {}
        steps = default_steps(self.contract) if num_inference_steps is None else num_inference_steps
        self._options = {
            "num_inference_steps": Option(1, "denoising steps a frame", minimum=1, maximum=MAX_INFERENCE_STEPS),
            "guidance_scale": Option(
                1.0,
                "guidance on the context frames; 1 is off, other values need a world that was trained with dropout",
                minimum=0.0, maximum=10.0,
            ),
            "noise_level": Option(
                0.0, "noise added to the context, in latent units",
                minimum=0.0, maximum=float(self.contract.settings["max_noise_level"]),
            ),
        }  # fmt: skip
        self.set_option("num_inference_steps", steps)
        self.set_option("guidance_scale", guidance_scale)
        self.set_option("noise_level", noise_level)
        self.backend, self.backend_choice = make_backend(
            pipeline,
            backend,
            num_worlds=num_worlds,
            num_inference_steps=steps,
            num_threads=num_threads,
            cache_dir=cache_dir,
            progress=progress,
        )
        self._denoiser = Denoiser(pipeline.unet, self.contract, pipeline.scene, self.backend.network)

    @property
    def contract(self) -> WorldContract:
        contract: WorldContract = self.pipeline.world_contract
        return contract

    @property
    def num_worlds(self) -> int:
        return self._num_worlds

    @property
    def options(self) -> Mapping[str, Option]:
        return self._options

    def set_option(self, name: str, value: float) -> None:
        """Change a setting from the next step on; ValueError says what is legal."""
        old = self._options.get(name)
        kind = type(old.value) if old is not None else float
        # A comparison with nan is always false: it would pass every range.
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number or kind(value) != value:
            raise ValueError(
                f"option {name}: expected {'a whole number' if kind is int else 'a number'}, got {value!r}"
            )
        check_option(self._options, name, value)
        self._options[name] = replace(self._options[name], value=kind(value))

    def reset(self, starts: Sequence[StartState], seeds: Sequence[int], slots: Sequence[int] | None = None) -> None:
        """Encode the start states' frames, once, into the slots' contexts."""
        slots = self._slots(slots)
        if not len(starts) == len(seeds) == len(slots):
            raise ValueError(
                f"reset: {len(starts)} start states, {len(seeds)} seeds and {len(slots)} slots; expected equal"
            )
        length = self.contract.context_length
        # All of them before the first slot changes: a start state that does not fit leaves the worlds as they were.
        windows = [start_window(start, self.contract.game, length) for start in starts]
        for (frames, actions), seed, slot in zip(windows, seeds, slots, strict=True):
            # One world at a time: the same arithmetic whatever stands beside it.
            self._context.put([slot], self._encode(frames).unsqueeze(0))
            self._actions[slot, :-1] = actions
            self._seeds[slot], self._frame_numbers[slot] = int(seed), 0

    def reset_latents(self, context: Tensor, actions: Tensor, seeds: Sequence[int]) -> None:
        """Start all worlds from stored latents instead of pixels.

        Args:
            context: (B, L, C, h, w) raw latents, as shards hold them.
            actions: int64 (B, L - 1) between them.
        Raises:
            ValueError: a shape that does not fit, or an action outside the table.
        """
        expected = {
            "context": tuple(self._context.window.shape),
            "actions": (self.num_worlds, self._actions.shape[1] - 1),
        }
        for name, value in (("context", context), ("actions", actions)):
            if tuple(value.shape) != expected[name]:
                raise ValueError(f"reset_latents: expected {name} {expected[name]}, got {tuple(value.shape)}")
        if len(seeds) != self.num_worlds:
            raise ValueError(f"reset_latents: expected {self.num_worlds} seeds, got {len(seeds)}")
        check_actions(actions.flatten().tolist(), self.contract.game, "reset_latents")
        mean, std = self.pipeline.statistics(self.device)
        self._context.put(range(self.num_worlds), (context.to(self.device).float() - mean) / std)
        self._actions[:, :-1] = actions
        self._seeds, self._frame_numbers = [int(s) for s in seeds], [0] * self.num_worlds

    @torch.inference_mode()
    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        """One frame of every world."""
        check_actions(actions, self.contract.game, "step")
        if len(actions) != self.num_worlds:
            raise ValueError(f"step: expected {self.num_worlds} actions, one a world, got {len(actions)}")
        if min(self._frame_numbers) < 0:
            raise ValueError(f"step: worlds {[i for i, n in enumerate(self._frame_numbers) if n < 0]} were never reset")
        self._actions[:, -1] = torch.as_tensor(np.asarray(actions, dtype=np.int64))
        latent = self._next_latent()
        frames = self.backend.decode(latent.to(self.dtype))
        self._context.add(latent)
        self._actions[:, :-1] = self._actions[:, 1:].clone()
        self._frame_numbers = [n + 1 for n in self._frame_numbers]
        return WorldStep(frames.cpu().numpy())

    def _next_latent(self) -> Tensor:
        options = {name: option.value for name, option in self._options.items()}
        noise = play_noise(self._seeds, self._frame_numbers)
        shape = self.contract.codec.array_shape
        context_noise = None
        if options["noise_level"] > 0:
            drawn = noise.normal("context", (self.contract.context_length, *shape))
            context_noise = self._upload("context noise", drawn).to(self.dtype)
        latent: Tensor = self.pipeline(
            self._context.window.to(self.dtype),
            self._upload("actions", self._actions),
            self._upload("noise", noise.normal("target", shape)).to(self.dtype),
            context_noise=context_noise,
            denoiser=self._denoiser,
            **options,
        )
        return latent

    def _upload(self, name: str, value: Tensor) -> Tensor:
        """A CPU tensor on the device. A GPU copies it from pinned memory, kept for the name, while the CPU goes on."""
        if self.device.type != "cuda":
            return value.to(self.device)
        if name not in self._staging:
            self._staging[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        # The step that read the last value has ended: its frames were waited for.
        return self._staging[name].copy_(value).to(self.device, non_blocking=True)

    def _encode(self, frames: Tensor) -> Tensor:
        with torch_threads(self.backend.num_threads):
            latents: Tensor = self.pipeline.encode_frames(frames.to(self.device))
            return latents

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """Real frames uint8 (N, H, W, 3) through the codec and back: the best that this world can show."""
        with torch.inference_mode():
            latents = self._encode(torch.as_tensor(frames))
            decoded: np.ndarray = self.backend.decode(latents.to(self.dtype)).cpu().numpy()
            return decoded

    def snapshot(self, slots: Sequence[int] | None = None) -> LatentState:
        """Copy the state of some worlds; `restore` puts it back, into any slots of the same number."""
        slots = self._slots(slots)
        return LatentState(
            self._context.window[slots].clone(),
            self._actions[slots].clone(),
            tuple(self._seeds[s] for s in slots),
            tuple(self._frame_numbers[s] for s in slots),
        )

    def restore(self, state: LatentState, slots: Sequence[int] | None = None) -> None:
        """Continue from a snapshot: the same frames follow the same actions."""
        slots = self._slots(slots)
        if len(slots) != len(state.seeds):
            raise ValueError(f"restore: the snapshot holds {len(state.seeds)} worlds, {len(slots)} slots were given")
        self._context.put(slots, state.context)
        self._actions[slots] = state.actions
        for row, slot in enumerate(slots):
            self._seeds[slot], self._frame_numbers[slot] = state.seeds[row], state.frame_numbers[row]

    def close(self) -> None:
        """Nothing is held open."""

    def _slots(self, slots: Sequence[int] | None) -> list[int]:
        chosen = list(range(self.num_worlds)) if slots is None else [int(s) for s in slots]
        if any(not 0 <= s < self.num_worlds for s in chosen):
            raise ValueError(f"slots {chosen}: expected 0 to {self.num_worlds - 1}")
        return chosen


def default_steps(contract: WorldContract) -> int:
    """Denoising steps that a world is played with unless told otherwise: its own setting, 4 in worlds from before."""
    return int(contract.settings.get("num_inference_steps", DEFAULT_STEPS))
