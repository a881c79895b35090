"""What train_unet looks at while it trains: held-out loss, next frames at 1 and 4 steps, a short rollout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gamengen.diffusion.loss import LatentDiffusionLoss
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.latents.windows import Windows
from gamengen.noise import Noise, key_of, training_noise
from gamengen.training.loop import Modules

ROLLOUT_FRAMES = 16


class Validation:
    """`validate` for `training.train`. The same windows and the same noise every time.

    Args:
        pipeline: holds the UNet that is being trained.
        windows: of the validation split.
        num_windows: how many are looked at, spread evenly over the split.
    """

    def __init__(
        self, pipeline: GameNGenPipeline, windows: Windows, loss_fn: LatentDiffusionLoss, num_windows: int, seed: int
    ) -> None:
        if len(windows) == 0:
            raise ValueError(
                "the validation split is empty: record more episodes, at least one is held out for validation"
            )
        if num_windows < 1:
            raise ValueError(f"num_windows: expected at least 1, got {num_windows}")
        self.pipeline, self.loss_fn, self.windows, self.seed = pipeline, loss_fn, windows, seed
        self.scalars: dict[str, float] = {}
        """Of the newest call."""
        self.positions = torch.linspace(0, len(windows) - 1, min(num_windows, len(windows))).round().long()

    def __call__(self, modules: Modules, step: int) -> Mapping[str, Any]:
        """Scalars, and `rollout` uint8 (N, H, W, 3): one row of frames each for recorded and dreamt.

        PSNR is dB of the mean squared error, against what the codec makes of the true frame.
        """
        unet = cast(UNet2DConditionModel, modules["unet"])
        batch = self.windows.at(self.positions)
        device = unet.device
        values = {name: value.to(device) for name, value in batch.tensors().items()}
        noise = training_noise(self.seed, 0, range(len(self.positions)), device)
        results: dict[str, Any] = {"loss": float(self.loss_fn({"unet": unet}, values, noise).per_sample.mean())}
        length = self.pipeline.world_contract.context_length
        context = self.loss_fn.normalise(values["context"][:, -length:])
        actions = values["actions"][:, -length:]
        truth = self._decode(self.loss_fn.normalise(values["targets"]))
        previous = self._decode(context[:, -1])
        for steps in (1, 4):
            start = Noise([key_of("validation", self.seed, i) for i in range(len(context))]).normal(
                "target", context.shape[2:]
            )
            latent = self.pipeline(context, actions, start.to(device), num_inference_steps=steps)
            results[f"psnr_{steps}_step"] = psnr_db(self._decode(latent), truth)
        results["psnr_copy_last"] = psnr_db(previous, truth)
        self.scalars = dict(results)
        results["rollout"] = self._rollout(device)
        return results

    def summary(self) -> str:
        """The newest figures in one line."""
        return "  ".join(f"{name} {value:.4g}" for name, value in self.scalars.items())

    def _decode(self, latents: Tensor) -> np.ndarray:
        frames: np.ndarray = self.pipeline.decode_latents(latents).cpu().numpy()
        return frames

    def _one_episode(self) -> tuple[int, int]:
        """First position and number of windows that follow each other in one episode, near the middle of the split."""
        firsts = self.windows.firsts
        middle = int(self.positions[len(self.positions) // 2])
        episode = (firsts == firsts[middle]).nonzero().flatten()
        count = min(ROLLOUT_FRAMES, len(episode))
        return min(middle, int(episode[-1]) + 1 - count), count

    def _rollout(self, device: torch.device) -> np.ndarray:
        """Recorded frames above dreamt ones, from one window on, with the recorded actions."""
        first, count = self._one_episode()
        length = self.pipeline.world_contract.context_length
        batch = self.windows.at(torch.arange(first, first + count))
        truth = self.loss_fn.normalise(batch.targets.to(device))
        context = self.loss_fn.normalise(batch.context[:1, -length:].to(device))
        dreamt = []
        for n in range(count):
            noise = Noise([key_of("rollout", self.seed, n)]).normal("target", context.shape[2:]).to(device)
            actions = batch.actions[n : n + 1, -length:].to(device)
            latent = self.pipeline(context, actions, noise, num_inference_steps=4)
            context = torch.cat([context[:, 1:], latent.unsqueeze(1)], dim=1)
            dreamt.append(latent)
        shown = slice(None, None, max(1, count // 8))
        rows = [np.concatenate(list(self._decode(v[shown])), axis=1) for v in (truth, torch.cat(dreamt))]
        return np.concatenate(rows, axis=0)[None]


def psnr_db(frames: np.ndarray, truth: np.ndarray) -> float:
    """dB of the mean squared error over all pixels of uint8 frames of equal shape."""
    mse = float(np.mean((frames.astype(np.float32) - truth.astype(np.float32)) ** 2))
    return float(10 * np.log10(255.0**2 / max(mse, 1e-6)))
