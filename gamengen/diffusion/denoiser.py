"""The action-conditioned denoiser: a stock UNet2DConditionModel, what goes into it, and how one is built.

Past frames are concatenated to the noisy one in channels, all as differences from what stands still, which comes as an
input of its own: at the last timestep, the only one of 1-step play, nothing then stands between the network and the
context (noise as it is would fill every cell). Actions go in three times, always in order: as planes
beside the frames, as tokens `one_hot(action) ++ position` for cross-attention, and the newest one beside the noise
bucket in `timestep_cond`, which is added to the time embedding (a bag of unordered tokens cannot say which action is
*now*).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from gamengen.codecs.palette import Palette
from gamengen.contract import WorldContract
from gamengen.diffusion.scene import Scene, loss_weight, preconditioning
from gamengen.diffusion.schedule import PredictionType, Schedule, build_scheduler, read_schedule
from gamengen.noise import NUM_NOISE_BUCKETS

POSITION_CHANNELS = 16
MAX_INFERENCE_STEPS = 64
"""Denoising steps a frame, at most."""
KEPT_LEVELS = 128
"""Timesteps whose factors are kept: those of 1, 2, 4 ... 64 steps."""

Network = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(noisy, timesteps (B,), context, actions, noise_bucket) as `Denoiser.network` takes them -> the UNet's own output."""


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """Shape of a UNet built from scratch."""

    block_out_channels: tuple[int, ...] = (64, 96, 128)
    """Channels of each level, finest first."""
    layers_per_block: int = 2
    attention_levels: int = 1
    """Coarsest levels that get self- and cross-attention."""
    attention_head_dim: int = 8
    """Heads of each attention layer (diffusers' name for their number)."""
    cross_attention_dim: int = 64
    norm_num_groups: int = 8


class Denoiser:
    """A UNet and the way to call it; holds no weights of its own.

    Args:
        unet: stock model whose config fits the contract (checked).
        scene: needed when the contract's settings say `scene_prior`.
        network: runs in place of the UNet and gives the same, such as a compiled one.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        contract: WorldContract,
        scene: Scene | None = None,
        network: Network | None = None,
    ) -> None:
        check_unet(unet, contract)
        self.unet = unet
        self.length, self.shape = contract.context_length, contract.codec.array_shape
        self.num_actions = contract.game.num_actions
        self.num_buckets = int(contract.settings["num_noise_buckets"])
        self.positions = sinusoidal_positions(contract.context_length).to(unet.device)
        self.action_planes = bool(contract.settings["action_planes"])
        # Worlds from before it was a setting have none.
        self.noise_planes = bool(contract.settings.get("noise_planes", False))
        if contract.settings["scene_prior"] and scene is None:
            raise ValueError("this world was trained with a scene: its scene.safetensors is missing")
        self.prediction_type: PredictionType = contract.settings["prediction_type"]
        self.schedule = default_schedule(self.prediction_type)
        # On the network's device once: from the host it would be copied for every frame.
        self.scene = scene.to(unet.device) if scene is not None and contract.settings["scene_prior"] else None
        self._network = network or self.network
        self._levels: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(
        self, noisy: Tensor, timesteps: Tensor | int, context: Tensor, actions: Tensor, noise_bucket: Tensor
    ) -> Tensor:
        """The prediction (B, C, h, w), of the contract's prediction type.

        With a scene the UNet sees how far everything is from the median and only predicts what the scene does not tell
        (`scene.preconditioning`).

        Args:
            noisy: (B, C, h, w) at the level of `timesteps`.
            timesteps: int64 (B,), or one for all: then nothing is read back from the device, and its factors are kept.
            context: (B, L, C, h, w) normalised latents, oldest first, with noise of the bucket's level.
            actions: int64 (B, L), the last one causes the target.
            noise_bucket: int64 (B,).
        Raises:
            ValueError: a shape that does not fit the contract.
        """
        expected = {"noisy": (len(noisy), *self.shape), "context": (len(noisy), self.length, *self.shape)}
        expected["actions"] = (len(noisy), self.length)
        for name, value in (("noisy", noisy), ("context", context), ("actions", actions)):
            if value.shape != expected[name]:
                raise ValueError(f"{name}: expected {expected[name]}, got {tuple(value.shape)}")
        each = torch.full((len(noisy),), timesteps, device=noisy.device) if isinstance(timesteps, int) else timesteps
        if self.scene is None:
            return self._network(noisy, each, context, actions, noise_bucket)
        scene = self.scene.to(noisy.device)
        levels = (
            self._kept_levels(timesteps, noisy.device) if isinstance(timesteps, int) else self.schedule.levels(each)
        )
        factors = preconditioning(*levels, scene.after(context[:, -1]))
        seen = factors.difference(noisy).to(noisy.dtype)
        if self.noise_planes:
            last = (each == self.schedule.num_timesteps - 1).view(-1, 1, 1, 1)
            seen = torch.where(last, noise_planes(noisy), seen)
        output = self._network(seen, each, context - scene.median.to(context.dtype), actions, noise_bucket)
        return factors(self.prediction_type, output, noisy).to(noisy.dtype)

    def network(
        self, noisy: Tensor, timesteps: Tensor, context: Tensor, actions: Tensor, noise_bucket: Tensor
    ) -> Tensor:
        """The UNet's own output (B, C, h, w): tensors in and out, for those who compile or export it.

        With a scene, `noisy` and `context` are what `__call__` makes of its own: differences from the median, which is
        the last input.
        """
        tokens, condition = self.condition(actions, noise_bucket)
        planes = [noisy, context.flatten(1, 2)]
        if self.scene is not None:
            planes.append(self.scene.median.to(noisy).expand_as(noisy))
        if self.action_planes:
            one_hot = tokens[:, :, : self.num_actions].flatten(1)[:, :, None, None]
            planes.append(one_hot.to(noisy.dtype).expand(-1, -1, *noisy.shape[2:]))
        output: Tensor = self.unet(
            torch.cat(planes, dim=1).contiguous(memory_format=torch.channels_last),
            timesteps,
            encoder_hidden_states=tokens.to(noisy.dtype),
            timestep_cond=condition.to(noisy.dtype),
            return_dict=False,
        )[0]
        return output

    def _kept_levels(self, timestep: int, device: torch.device) -> tuple[Tensor, Tensor]:
        key = (timestep, device)
        if key not in self._levels:
            if len(self._levels) >= KEPT_LEVELS:
                self._levels.clear()
            with torch.inference_mode(False):  # kept tensors must be ordinary ones: training may use them
                signal, noise_scale = self.schedule.levels(torch.tensor([timestep]))
                self._levels[key] = signal.to(device), noise_scale.to(device)
        return self._levels[key]

    def loss_weight(self, timesteps: Tensor) -> Tensor:
        """float32 (B, 1, 1, 1): how much a squared error counts, 1 at the last timestep."""
        if self.scene is None:
            return torch.ones((len(timesteps), 1, 1, 1), device=timesteps.device)
        return loss_weight(*self.schedule.levels(timesteps), self.scene.to(timesteps.device))

    def condition(self, actions: Tensor, noise_bucket: Tensor) -> tuple[Tensor, Tensor]:
        """Action tokens (B, L, A + positions) and the vector (B, buckets + A) for the time embedding, float32."""
        one_hot = F.one_hot(actions, self.num_actions).float()
        positions = self.positions.to(actions.device).expand(actions.shape[0], -1, -1)
        bucket = F.one_hot(noise_bucket, self.num_buckets).float()
        return torch.cat([one_hot, positions], dim=-1), torch.cat([bucket, one_hot[:, -1]], dim=-1)


def noise_planes(noise: Tensor) -> Tensor:
    """What the network sees of pure noise (B, C, h, w) where it is to choose one of several futures by it: one standard
    normal number a channel, the same in every cell, so that all cells choose the same future.

    Source: a noise of few numbers for the whole picture makes neighbours agree, FGN (arXiv 2506.10772), section 2.
    """
    height, width = noise.shape[2:]
    return (noise.mean((2, 3), keepdim=True) * math.sqrt(height * width)).expand_as(noise)


@functools.cache
def default_schedule(prediction_type: PredictionType) -> Schedule:
    """The levels that a world of this prediction type is trained with."""
    return read_schedule(build_scheduler(prediction_type))


def sinusoidal_positions(length: int) -> Tensor:
    """(length, 16) fixed sines and cosines of the distance to the newest frame. Source: arXiv 1706.03762, 3.5."""
    distance = torch.arange(length - 1, -1, -1, dtype=torch.float32).unsqueeze(1)
    frequencies = torch.exp(-math.log(100.0) * torch.arange(0, POSITION_CHANNELS, 2) / POSITION_CHANNELS)
    return torch.cat([(distance * frequencies).sin(), (distance * frequencies).cos()], dim=1)


def build_unet(config: DenoiserConfig, contract: WorldContract) -> UNet2DConditionModel:
    """A UNet from scratch for a world.

    Raises:
        ValueError: the latent size cannot be halved often enough; names the number of levels that can. Or more levels
            with attention than there are levels.
    """
    channels, height, width = contract.codec.array_shape
    levels = len(config.block_out_channels)
    if not 0 <= config.attention_levels <= levels:
        raise ValueError(f"attention_levels: expected 0 to {levels}, one a level, got {config.attention_levels}")
    if height % 2 ** (levels - 1) or width % 2 ** (levels - 1):
        fitting = next(n for n in range(levels, 0, -1) if not (height % 2 ** (n - 1) or width % 2 ** (n - 1)))
        raise ValueError(
            f"block_out_channels has {levels} levels, latents of {height}x{width} can be halved {fitting - 1} times: "
            f"use at most {fitting} levels or pad the frames to a larger multiple"
        )
    plain = levels - config.attention_levels
    unet = UNet2DConditionModel(
        sample_size=(height, width),
        in_channels=in_channels(contract),
        out_channels=channels,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",) * config.attention_levels,
        up_block_types=("CrossAttnUpBlock2D",) * config.attention_levels + ("UpBlock2D",) * plain,
        mid_block_type="UNetMidBlock2DCrossAttn" if config.attention_levels else None,
        attention_head_dim=config.attention_head_dim,
        cross_attention_dim=config.cross_attention_dim,
        norm_num_groups=config.norm_num_groups,
        encoder_hid_dim=contract.game.num_actions + POSITION_CHANNELS,
        encoder_hid_dim_type="text_proj",
        time_cond_proj_dim=int(contract.settings["num_noise_buckets"]) + contract.game.num_actions,
    )
    if contract.settings["scene_prior"]:
        # Begin as the scene, exactly.
        torch.nn.init.zeros_(unet.conv_out.weight)
        torch.nn.init.zeros_(unet.conv_out.bias)
    return unet


def in_channels(contract: WorldContract) -> int:
    """What the UNet takes: the noisy frame, L context frames and, where the contract says so, the scene's median and a
    plane for every action of every frame."""
    planes = contract.game.num_actions * contract.context_length if contract.settings["action_planes"] else 0
    arrays = contract.context_length + 1 + bool(contract.settings["scene_prior"])
    return contract.codec.array_shape[0] * arrays + planes


def world_settings(
    max_noise_level: float,
    prediction_type: str,
    scene_prior: bool = True,
    action_planes: bool = True,
    noise_planes: bool = False,
    palette: Palette | None = None,
    num_inference_steps: int | None = None,
) -> dict[str, object]:
    """The `settings` of a latent diffusion world's contract; what came later stands there only where it is used.

    Raises:
        ValueError: denoising steps that no world can be played with.
    """
    if num_inference_steps is not None and not 1 <= num_inference_steps <= MAX_INFERENCE_STEPS:
        raise ValueError(f"num_inference_steps: expected 1 to {MAX_INFERENCE_STEPS}, got {num_inference_steps}")
    later: dict[str, object] = {
        "noise_planes": noise_planes,
        "palette": palette,
        "num_inference_steps": num_inference_steps,
    }
    return {name: value for name, value in later.items() if value} | {
        "scene_prior": scene_prior,
        "action_planes": action_planes,
        "num_noise_buckets": NUM_NOISE_BUCKETS,
        "max_noise_level": max_noise_level,
        "prediction_type": prediction_type,
    }


def check_unet(unet: UNet2DConditionModel, contract: WorldContract) -> None:
    """Raise ValueError when a UNet's input and output do not fit the contract, naming both figures.

    A wrong width of `timestep_cond` or of the action tokens would otherwise surface deep inside the network, and a
    missing projection would be ignored silently.
    """
    channels = contract.codec.array_shape[0]
    expected = {
        "in_channels": in_channels(contract),
        "out_channels": channels,
        "encoder_hid_dim": contract.game.num_actions + POSITION_CHANNELS,
        "time_cond_proj_dim": int(contract.settings["num_noise_buckets"]) + contract.game.num_actions,
    }
    wrong = [f"{k} is {unet.config[k]}, expected {v}" for k, v in expected.items() if unet.config[k] != v]
    if wrong:
        raise ValueError(
            f"this UNet was not made for {contract.game.env_id} with {contract.context_length} context frames, "
            f"{channels} latent channels and {contract.game.num_actions} actions: " + "; ".join(wrong)
        )
