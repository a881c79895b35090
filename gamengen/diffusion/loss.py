"""The first world's loss: denoise the next latent, weighted towards what moves, on contexts as play will see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
import tyro
from diffusers import UNet2DConditionModel
from torch import Tensor

from gamengen.contract import WorldContract
from gamengen.diffusion.denoiser import Denoiser
from gamengen.diffusion.energy import energy_score
from gamengen.diffusion.scene import Scene, normalise
from gamengen.diffusion.schedule import Schedule, clean_and_noise, prediction_target
from gamengen.noise import MAX_NOISE_LEVEL, Noise, add_context_noise, drop_context, noise_bucket
from gamengen.training.loop import Batch, LossOutput, Modules

USUAL_SHARE = 0.1
"""A cell that is foreground in a tenth of all frames has rarity 1."""
REACH = 2
"""Cells that something may move from one frame to the next, as in `scene.surprises`."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """How contexts are corrupted and errors weighted."""

    max_noise_level: Annotated[float, tyro.conf.arg(aliases=("--noise_aug_max",))] = MAX_NOISE_LEVEL
    clean_context_share: float = 0.3
    """Share of samples whose context gets no noise: what play sees."""
    context_dropout: Annotated[float, tyro.conf.arg(aliases=("--conditioning_dropout_prob",))] = 0.1
    """Share of samples whose context frames are all zero, for guidance. Actions are never dropped."""
    terminal_share: float = 0.5
    """Share of samples at the last timestep, the only one that 1-step play uses."""
    play_steps: tuple[int, ...] = (2, 4, 8)
    """The other samples are at the timesteps that play with these numbers of steps uses; empty: at any timestep."""
    moving_weight: float = 10.0
    """Extra weight of latent cells that moved or are not what the scene expects."""
    moving_threshold: float = 1.0
    """What counts as different, in standard deviations of the latents."""
    rarity_limit: float = 6.0
    """The extra weight grows, at most by this factor, where something is rarer than in a tenth of all frames, and
    falls where it is more often there; 1: the same weight everywhere."""
    change_weight: float = 1.0
    """Of a cell that rests and changes, such as a digit that turns, in multiples of one that stays: above 1 it is
    predicted to change where that is less likely than not."""
    self_rollout_steps: int = 1
    """At most k of the newest context frames may be the model's own 1-step predictions (k)."""
    self_rollout_share: float = 0.5
    """Share of samples whose newest context frames are replaced so: 1 to k of them, each number as often."""
    loss_type: Literal["l2", "huber", "energy"] = "l2"
    """Of a cell's error over its channels. l2: what is uncertain, such as where a ball bounces to, becomes the mean of
    all that it may be, a few faint balls. huber: beyond `huber_c` only how far counts, not its square, and the likelier
    one of two becomes the prediction. energy: each noise gives one of them, as often as it comes
    (`energy.energy_score`); weights are then a matter of the context alone, and the world's network sees noise."""
    huber_c: float = 1.0
    """Standard deviations of the latents."""
    snr_gamma: float | None = None
    """min-SNR weighting; refused with zero terminal SNR, where it is 0 exactly at the timestep of 1-step play."""
    noise_offset: float = 0.0
    """Noise that is constant over a channel, added to the noise. Source: crosslabs.org, offset noise."""
    input_perturbation: float = 0.0
    """Extra noise on the network's input only. Source: arXiv 2301.11706."""

    def __post_init__(self) -> None:
        for name in ("clean_context_share", "context_dropout", "terminal_share", "self_rollout_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name}: expected a share in [0, 1], got {getattr(self, name)}")
        if self.huber_c <= 0:
            raise ValueError(f"huber_c: expected more than 0, got {self.huber_c}")
        if self.change_weight <= 0:
            raise ValueError(f"change_weight: expected more than 0, got {self.change_weight}")
        if self.rarity_limit < 1:
            raise ValueError(f"rarity_limit: expected a factor of at least 1, got {self.rarity_limit}")
        if any(steps < 2 for steps in self.play_steps):
            raise ValueError(f"play_steps: expected numbers of steps from 2 up, got {self.play_steps}")
        if self.self_rollout_steps < 0:
            raise ValueError(f"self_rollout_steps: expected at least 0, got {self.self_rollout_steps}")


class LatentDiffusionLoss:
    """`loss_fn` for `training.train`.

    A batch is `windows.WindowBatch.tensors()`, raw latents: context (B, L + k, C, h, w), targets (B, C, h, w), and
    actions int64 and border bool (B, L + k), where k is `self_rollout_steps`.

    Args:
        scene: median and deviation of the training split's normalised latents.
        foreground_share: float (h, w), how often each cell is not what the scene expects (`scene.foreground_share`);
            without it all cells count as equally rare.
    """

    def __init__(
        self,
        config: LossConfig,
        contract: WorldContract,
        schedule: Schedule,
        scene: Scene,
        foreground_share: Tensor | None = None,
    ) -> None:
        if config.snr_gamma is not None and float(schedule.signal[-1]) < 1e-4:
            raise ValueError(
                "snr_gamma weights the last timestep with 0 under zero terminal SNR, and 1-step play uses no other; "
                "leave it out or train with --prediction_type epsilon"
            )
        told = {"max_noise_level": config.max_noise_level, "prediction_type": schedule.prediction_type}
        for name, value in told.items():
            if contract.settings[name] != value:
                raise ValueError(
                    f"{name}: training is told {value!r}, the contract promises play {contract.settings[name]!r}"
                )
        if config.loss_type == "energy":
            if float(schedule.signal[-1]) > 0:
                raise ValueError(
                    f"loss_type energy judges what pure noise becomes; with {schedule.prediction_type} the last "
                    "timestep still shows the frame: train with --prediction_type v_prediction"
                )
            if contract.settings["scene_prior"] and not contract.settings.get("noise_planes"):
                raise ValueError("loss_type energy: the contract's settings need noise_planes, play shows noise too")
        self.config, self.contract, self.schedule = config, contract, schedule
        self.scene = scene
        self.rests = torch.zeros(contract.codec.array_shape[1:], dtype=torch.bool)
        if scene.rests is not None:
            self.rests = scene.rests.values[0].isfinite().all(0).cpu()
        share = (
            torch.full(contract.codec.array_shape[1:], USUAL_SHARE) if foreground_share is None else foreground_share
        )
        self.rarity = (USUAL_SHARE / share.clamp(min=1e-6)).sqrt().clamp(max=config.rarity_limit)
        if config.rarity_limit == 1.0:
            self.rarity = torch.ones_like(self.rarity)
        last = schedule.num_timesteps - 1
        used = sorted(t for steps in config.play_steps for t in schedule.sampling_timesteps(steps) if t != last)
        # All timesteps, the last one too, where no number of steps is named.
        self.timesteps = torch.tensor(used or range(last + 1))

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw latents (..., C, h, w), any dtype -> float32, about unit variance."""
        return normalise(raw, self.contract.codec)

    def __call__(self, modules: Modules, batch: Batch, noise: Noise) -> LossOutput:
        unet = modules["unet"]
        assert isinstance(unet, UNet2DConditionModel)
        denoiser = Denoiser(unet, self.contract, self.scene)
        frames = self.normalise(batch["context"])
        actions, target = batch["actions"], self.normalise(batch["targets"])
        length = self.contract.context_length
        context = self.self_rollout(denoiser, frames, actions, batch["border"], noise)
        newest = context[:, -1]
        context, bucket = self.corrupt(context, noise)
        error, terminal, clean = self.denoising_error(
            denoiser, context, actions[:, -length:], bucket, target, noise
        )  # fmt: skip
        if self.config.loss_type == "energy":
            spread = self.spread(denoiser, context, actions[:, -length:], bucket, clean, terminal, noise)
            weights = self.context_weights(newest)
            per_sample = energy_score(error, spread, terminal, weights, self.config.huber_c)
        else:
            weights = self.cell_weights(target, frames[:, -1])
            cells = error if self.config.loss_type == "l2" else pseudo_huber(error, self.config.huber_c)
            per_sample = (cells * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))
        mse = error.detach().mean((1, 2, 3))
        return LossOutput(per_sample, {"mse": mse, "mse_last_step": mse.where(terminal, torch.nan)})

    def self_rollout(self, denoiser: Denoiser, frames: Tensor, actions: Tensor, border: Tensor, noise: Noise) -> Tensor:
        """The context (B, L, C, h, w), with its newest 1 to k frames predicted by the model itself in some samples.

        The first frame of an episode and its copies at the border stay: play never predicts them.

        Source: DIAMOND (arXiv 2405.12399) trains on its own predictions as context; here 1-step and detached.
        """
        k, length = self.config.self_rollout_steps, self.contract.context_length
        if k == 0 or self.config.self_rollout_share == 0:
            return frames[:, -length:]
        # What is left of a draw below the share is even again, and says from which step on.
        drawn = noise.uniform("self_rollout") / self.config.self_rollout_share
        begins = torch.where(drawn < 1.0, (drawn * k).long(), k)
        frames = frames.clone()
        with torch.no_grad():
            for step in range(k):
                newest = length + step  # row of the frame that is predicted
                # After a copy of the first frame comes the first itself.
                replaced = (begins <= step) & ~border[:, newest - 1]
                # Only those are predicted: the others would be thrown away. One at least, on every rank: where ranks
                # share the weights (FSDP), all of them must call the network equally often.
                chosen = replaced.nonzero().flatten() if bool(replaced.any()) else torch.zeros_like(actions[0, :1])
                bucket = torch.zeros_like(chosen)
                start = noise.normal(f"self_rollout_{step}", frames.shape[2:])[chosen]
                predicted = self.predict_clean(
                    denoiser, frames[chosen, step:newest], actions[chosen, step:newest], bucket, start
                )
                kept = replaced[chosen].view(-1, 1, 1, 1)
                frames[chosen, newest] = torch.where(kept, predicted, frames[chosen, newest])
        return frames[:, -length:]

    def predict_clean(
        self, denoiser: Denoiser, context: Tensor, actions: Tensor, bucket: Tensor, start: Tensor
    ) -> Tensor:
        """One-step prediction (B, C, h, w) from pure noise."""
        last = self.schedule.num_timesteps - 1
        timesteps = torch.full((len(context),), last, device=context.device)
        output = denoiser(start, timesteps, context, actions, bucket).float()
        signal, scale = float(self.schedule.signal[last]), float(self.schedule.noise_scale[last])
        return clean_and_noise(self.schedule.prediction_type, output, start, signal, scale)[0]

    def corrupt(self, context: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Add noise of a random level, or drop the context; gives the context and its noise bucket (B,)."""
        level = noise.uniform("noise_level") * self.config.max_noise_level
        level = torch.where(noise.uniform("clean") < self.config.clean_context_share, torch.zeros_like(level), level)
        context = add_context_noise(context, level, noise.normal("context", context.shape[1:]))
        dropped = noise.uniform("dropout") < self.config.context_dropout
        bucket = noise_bucket(level, int(self.contract.settings["num_noise_buckets"]), self.config.max_noise_level)
        # The null context of guidance is zeros with bucket 0, in training as in play.
        return drop_context(context, dropped), torch.where(dropped, torch.zeros_like(bucket), bucket)

    def denoising_error(
        self, denoiser: Denoiser, context: Tensor, actions: Tensor, bucket: Tensor, target: Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Squared error (B, C, h, w) of the prediction; bool (B,), which samples were at the last timestep; and the
        clean frame (B, C, h, w) that the prediction means."""
        count = self.schedule.num_timesteps
        chosen = (noise.uniform("timestep") * len(self.timesteps)).long().clamp(max=len(self.timesteps) - 1)
        timesteps = self.timesteps.to(chosen.device)[chosen]
        terminal = noise.uniform("terminal") < self.config.terminal_share
        timesteps = torch.where(terminal, count - 1, timesteps)
        signal, scale = self.schedule.levels(timesteps)
        added = noise.normal("target", target.shape[1:])
        if self.config.noise_offset:
            added = added + self.config.noise_offset * noise.normal("offset", (target.shape[1], 1, 1))
        seen = added
        if self.config.input_perturbation:
            seen = added + self.config.input_perturbation * noise.normal("perturbation", target.shape[1:])
        noisy = signal * target + scale * seen
        output = denoiser(noisy, timesteps, context, actions, bucket).float()
        wanted = prediction_target(self.schedule.prediction_type, target, added, signal, scale)
        error = (output - wanted) ** 2 * denoiser.loss_weight(timesteps)
        if self.config.snr_gamma is not None:
            snr = (signal / scale) ** 2
            weight = snr.clamp(max=self.config.snr_gamma) / snr
            # Error of the noise per error of the output.
            per_output = {"epsilon": torch.ones_like(snr), "v_prediction": snr / (snr + 1), "sample": snr}
            error = error * weight * per_output[self.schedule.prediction_type]
        kind = self.schedule.prediction_type
        return error, terminal, clean_and_noise(kind, output, noisy, signal, scale)[0]

    def spread(
        self,
        denoiser: Denoiser,
        context: Tensor,
        actions: Tensor,
        bucket: Tensor,
        clean: Tensor,
        terminal: Tensor,
        noise: Noise,
    ) -> Tensor:
        """Squared difference (B, C, h, w) of the predictions at the last timestep from others, of another noise and
        without gradient."""
        # One at least, on every rank, as in `self_rollout`.
        chosen = terminal.nonzero().flatten() if bool(terminal.any()) else torch.zeros_like(actions[0, :1])
        start = noise.normal("other", clean.shape[1:])[chosen]
        with torch.no_grad():
            other = self.predict_clean(denoiser, context[chosen], actions[chosen], bucket[chosen], start)
        return (clean - clean.detach().index_copy(0, chosen, other)) ** 2

    def cell_weights(self, target: Tensor, newest: Tensor) -> Tensor:
        """(B, 1, h, w): 1, plus `moving_weight` times rarity where the target left the newest frame or is not what the
        scene expects after it.

        And everywhere where the scene rests: a digit that weighed more when it turns would be predicted to turn when
        that is unlikely. A ball may: two faint ones are better than none.
        """
        expected = self.scene.to(target.device).after(newest).median
        moved, foreground = (
            (target - other).abs().amax(1, keepdim=True) > self.config.moving_threshold for other in (newest, expected)
        )
        rests = self.rests.to(target.device)
        weighs = (moved | foreground | rests) * torch.where(rests & moved, self.config.change_weight, 1.0)
        return 1.0 + self.config.moving_weight * self.rarity.to(target.device) * weighs

    def context_weights(self, newest: Tensor) -> Tensor:
        """(B, 1, h, w): 1, plus `moving_weight` times rarity within `REACH` cells of what is not scenery in the newest
        frame (B, C, h, w), and where the scene rests: there it may change."""
        scene = self.scene.to(newest.device)
        foreground = (newest - scene.after(newest).median).abs().amax(1, keepdim=True) > self.config.moving_threshold
        near = F.max_pool2d(foreground.float(), 2 * REACH + 1, stride=1, padding=REACH)
        near = torch.maximum(near, self.rests.to(newest.device).float())
        return 1.0 + self.config.moving_weight * self.rarity.to(newest.device) * near


def pseudo_huber(error: Tensor, c: float) -> Tensor:
    """Squared errors (B, C, h, w) -> (B, 1, h, w): their mean over the channels where a cell's error is far below c,
    2 c times its length (over C) where it is far above.

    Source: Charbonnier et al. 1994; for models that play in one step, Song and Dhariwal, arXiv 2310.14189.
    """
    length = error.sum(1, keepdim=True)
    return 2 * c * ((length + c**2).sqrt() - c) / error.shape[1]
