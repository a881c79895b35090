"""A dreamt game, played with diffusers alone. This file is pushed as `pipeline.py` beside the weights of a world:

    dream = DiffusionPipeline.from_pretrained(repo, custom_pipeline=repo, trust_remote_code=True)
    dream.reset(start=0, seed=0)
    frame = dream.step(2)  # uint8 (H, W, 3): what follows action 2
    clip = dream([2, 2, 0, 3])  # (4, H, W, 3), from the start

It imports nothing of the package that made the world, and gives the same frames; `gamengen` has the rest (training,
evaluation, a player in the browser, many games at once).
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
)
from huggingface_hub import hf_hub_download
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

FORMAT_VERSION = 1
POSITION_CHANNELS = 16
PALETTE_REACH = 64**2
_SNAPSHOT = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/?$")


class DreamPipeline(DiffusionPipeline):
    """One game: the last L latents and actions, and the step to the next frame.

    Args:
        contract: of the world, as its model_index.json holds it.
    """

    model_cpu_offload_seq = "unet->vae"

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | AutoencoderTiny,
        scheduler: DDIMScheduler | FlowMatchEulerDiscreteScheduler,
        contract: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if contract is None or contract.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"expected the contract of a world, format version {FORMAT_VERSION}, got {contract}")
        self.register_modules(unet=unet, vae=vae, scheduler=scheduler)
        self.register_to_config(contract=contract)
        # Read from a file of any alignment, weights may give other last bits than from memory of PyTorch's own.
        for module in (unet, vae):
            for parameter in module.parameters():
                parameter.data = parameter.data.clone()
            module.to(memory_format=torch.channels_last).eval()
        self.folder = Path(str(unet.config["_name_or_path"])).parent
        self.contract, self.settings, self.codec = contract, contract["settings"], contract["codec"]
        self.game, self.length = self.codec["game"], int(contract["context_length"])
        self.scene = load_file(self.file("scene.safetensors")) if self.settings["scene_prior"] else None
        self.signal, self.noise_scale = _levels(scheduler)
        self.seed, self.frame_number = 0, -1
        self.set_progress_bar_config(disable=True)

    def file(self, name: str) -> Path:
        """A file of the world's folder; diffusers downloads the components only, so the rest is fetched here."""
        path = self.folder / name
        match = _SNAPSHOT.search(self.folder.as_posix())
        if path.is_file() or match is None:
            return path
        owner, repository, commit = match.groups()
        return Path(hf_hub_download(f"{owner}/{repository}", name, revision=commit, cache_dir=self.folder.parents[2]))

    @torch.inference_mode()
    def reset(self, start: int = 0, seed: int = 0) -> None:
        """Begin at one of the world's start states; the same seed and actions give the same frames."""
        frames, actions = self.start_state(start)
        missing = self.length - len(frames)
        if missing > 0:  # before the first frame stands the first frame, reached by doing nothing
            frames = np.concatenate([frames[:1].repeat(missing, axis=0), frames])
            actions = [self.game["noop_action"]] * missing + actions
        pixels = torch.from_numpy(frames[-self.length :]).to(self._execution_device).movedim(-1, -3).float()
        self.context = self.encode(pixels.div(127.5).sub(1.0)).unsqueeze(0)
        noop = [self.game["noop_action"]]  # replaced by the first step's action
        self.actions = torch.tensor([(actions + noop)[-self.length :]], device=self._execution_device)
        self.seed, self.frame_number = seed, 0

    @torch.inference_mode()
    def step(
        self, action: int, *, num_inference_steps: int | None = None, guidance_scale: float = 1, noise_level: float = 0
    ) -> np.ndarray:
        """The next frame, uint8 (H, W, 3).

        Args:
            action: an id of the action table, `contract["codec"]["game"]["actions"]`.
            num_inference_steps: as many as the settings say when None, 4 if they do not.
            guidance_scale: how much more the past counts; 1 is off.
            noise_level: noise added to the context, at most `max_noise_level` of the settings.
        Raises:
            ValueError: no such action or noise level, or `reset` was not called.
        """
        table = [entry["meaning"] for entry in self.game["actions"]]
        if not 0 <= action < len(table):
            raise ValueError(f"action {action}: expected 0 to {len(table) - 1}, for {table}")
        if not 0.0 <= noise_level <= self.settings["max_noise_level"]:
            raise ValueError(f"noise_level: expected 0 to {self.settings['max_noise_level']}, got {noise_level}")
        if self.frame_number < 0:
            raise ValueError("step: call reset first")
        self.actions[0, -1] = action
        context = self.context.to(self.unet.dtype)
        if noise_level > 0:
            context = context + noise_level * self.noise("context", context.shape[1:]).to(context)
        steps = self.settings.get("num_inference_steps", 4) if num_inference_steps is None else num_inference_steps
        latent = self.sample(context, noise_level, steps, guidance_scale)
        self.context = torch.cat([self.context[:, 1:], latent.float().unsqueeze(1)], dim=1)
        self.actions = self.actions.roll(-1, dims=1)
        self.frame_number += 1
        pixels = self.decode(latent).float().add(1.0).mul(127.5).clamp(0.0, 255.0).round().to(torch.uint8)
        frame: np.ndarray = pixels[0].movedim(0, -1).cpu().numpy()
        if self.settings.get("palette"):  # pixels near one of the game's few colours become it
            colours = np.array(self.settings["palette"], dtype=np.int64)
            far = ((frame[..., None, :].astype(np.int64) - colours) ** 2).sum(-1)
            frame = np.where(far.min(-1)[..., None] <= PALETTE_REACH, colours[far.argmin(-1)], frame).astype(np.uint8)
        return frame

    def __call__(self, actions: Sequence[int], *, start: int = 0, seed: int = 0, **options: Any) -> np.ndarray:
        """A clip from a start state, uint8 (T, H, W, 3), a frame an action; options are those of `step`."""
        self.reset(start, seed)
        return np.stack([self.step(action, **options) for action in actions])

    def start_state(self, number: int) -> tuple[np.ndarray, list[int]]:
        """Frames uint8 (K, H, W, 3) of a recorded moment and the K - 1 actions between them."""
        try:
            import pyarrow.parquet as pq
        except ImportError as error:
            raise ImportError("the start states of a world are a parquet file: pip install pyarrow") from error
        rows = pq.read_table(self.file("start_states.parquet"), columns=["index_in_stream", "image", "action"])
        numbers = rows.column("index_in_stream").to_pylist()
        if number not in numbers:
            raise ValueError(f"start {number}: this world has the start states 0 to {max(numbers)}")
        mine = rows.slice(numbers.index(number), numbers.count(number))
        images = [Image.open(io.BytesIO(image["bytes"])) for image in mine.column("image").to_pylist()]
        return np.stack([np.array(image.convert("RGB")) for image in images]), mine.column("action").to_pylist()[:-1]

    def encode(self, pixels: Tensor) -> Tensor:
        """(N, 3, H, W) in [-1, 1] -> normalised latents (N, C, h, w)."""
        top, bottom, left, right = self.codec["padding"]
        pixels = F.pad(pixels, (left, right, top, bottom), mode="replicate") if any(self.codec["padding"]) else pixels
        patch = self.codec["patch_size"]
        patches = F.pixel_unshuffle(pixels, patch) if patch > 1 else pixels
        encoded = self.vae.encode(patches.to(self.vae.dtype).contiguous(memory_format=torch.channels_last))
        latents = encoded.latents if isinstance(self.vae, AutoencoderTiny) else encoded.latent_dist.mode()
        mean, std = self.statistics(latents.device)
        normalised: Tensor = (latents.to(torch.float16).float() - mean) / std  # rounded as those that were learnt from
        return normalised

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (N, C, h, w) -> (N, 3, H, W), nominally in [-1, 1]."""
        mean, std = self.statistics(latents.device)
        raw = (latents * std + mean).to(self.vae.dtype).contiguous(memory_format=torch.channels_last)
        patch, (top, bottom, left, right) = self.codec["patch_size"], self.codec["padding"]
        values = self.vae.decode(raw).sample
        values = F.pixel_shuffle(values, patch) if patch > 1 else values
        cropped: Tensor = values[..., top : values.shape[-2] - bottom, left : values.shape[-1] - right]
        return cropped

    def statistics(self, device: torch.device) -> list[Tensor]:
        """Mean and standard deviation of raw latents, (C, 1, 1) each."""
        return [torch.tensor(self.codec[name], device=device).view(-1, 1, 1) for name in ("mean", "std")]

    def sample(self, context: Tensor, noise_level: float, num_steps: int, guidance_scale: float) -> Tensor:
        """DDIM without noise of its own, or Euler steps of rectified flow: both re-mix clean sample and noise."""
        if not 1 <= num_steps <= len(self.signal):
            raise ValueError(f"num_inference_steps: expected 1 to {len(self.signal)}, got {num_steps}")
        spaced = np.round(np.arange(len(self.signal), 0, -len(self.signal) / num_steps)).astype(int) - 1
        timesteps = [int(t) for t in spaced[:num_steps]]
        noisy = self.noise("target", context.shape[2:]).to(context)
        for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
            if guidance_scale == 1.0:
                output = self.predict(noisy, t, context, [noise_level])
            else:
                both = torch.cat([context, torch.zeros_like(context)])
                output, without = self.predict(torch.cat([noisy, noisy]), t, both, [noise_level, 0.0]).chunk(2)
                output = without + guidance_scale * (output - without)
            clean, residual = _split(self.settings["prediction_type"], output, noisy, self.level(t))
            signal, noise_scale = (1.0, 0.0) if following is None else self.level(following)
            noisy = signal * clean + noise_scale * residual
        return noisy

    def level(self, timestep: int) -> tuple[float, float]:
        """Factors of the clean sample and of the noise."""
        return float(self.signal[timestep]), float(self.noise_scale[timestep])

    def predict(self, noisy: Tensor, timestep: int, context: Tensor, noise_levels: list[float]) -> Tensor:
        """What the network says of noisy latents (B, C, h, w), the scene's share added."""
        device, count = noisy.device, int(self.settings["num_noise_buckets"])
        levels = torch.tensor(noise_levels, device=device)
        buckets = (levels / self.settings["max_noise_level"] * count).floor().long().clamp(0, count - 1)
        one_hot = F.one_hot(self.actions, len(self.game["actions"])).float().expand(len(noisy), -1, -1)
        distance = torch.arange(self.length - 1, -1, -1, dtype=torch.float32).unsqueeze(1)
        frequencies = torch.exp(-math.log(100.0) * torch.arange(0, POSITION_CHANNELS, 2) / POSITION_CHANNELS)
        positions = torch.cat([(distance * frequencies).sin(), (distance * frequencies).cos()], dim=1).to(device)
        tokens = torch.cat([one_hot, positions.expand(len(noisy), -1, -1)], dim=-1)
        condition = torch.cat([F.one_hot(buckets, count).float(), one_hot[:, -1]], dim=-1)
        signal, noise_scale = (torch.tensor([x]).view(1, 1, 1, 1).to(device) for x in self.level(timestep))
        planes = [noisy, context.flatten(1, 2)]
        if self.scene is not None:
            median = self.scene["median"].to(noisy)
            mean, deviation = self.after(context[:, -1])
            total = signal**2 * deviation**2 + noise_scale**2
            difference = signal * deviation**2 / total * (noisy - signal * mean)
            clean, spread = mean + difference, (deviation / total.sqrt()).sqrt()
            if self.settings.get("noise_planes") and timestep == len(self.signal) - 1:  # chooses one of several futures
                difference = (noisy.mean((2, 3), keepdim=True) * math.sqrt(noisy[0, 0].numel())).expand_as(noisy)
            planes = [difference.to(noisy), (context - median).flatten(1, 2), median.expand(len(noisy), -1, -1, -1)]
        if self.settings["action_planes"]:
            planes.append(one_hot.flatten(1)[:, :, None, None].to(noisy.dtype).expand(-1, -1, *noisy.shape[2:]))
        output: Tensor = self.unet(
            torch.cat(planes, dim=1).contiguous(memory_format=torch.channels_last),
            torch.full((len(noisy),), timestep, device=device),
            encoder_hidden_states=tokens.to(noisy.dtype),
            timestep_cond=condition.to(noisy.dtype),
            return_dict=False,
        )[0]
        if self.scene is None:
            return output
        # The network predicts only what the scene and what rests in the newest frame do not tell.
        kind = self.settings["prediction_type"]
        told = {"epsilon": noisy - signal * clean, "flow": noisy - clean, "v_prediction": signal * noisy - clean}
        scale = {"epsilon": signal, "sample": noise_scale}.get(kind, torch.ones_like(signal))
        known = told[kind] / noise_scale if kind in told else clean
        return (known + scale * spread * output).to(noisy.dtype)

    def after(self, newest: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (B, C, h, w) of what is expected after the newest frame: a cell that rests at one of a few
        recorded values stays at the nearest; elsewhere it is the median."""
        assert self.scene is not None
        scene = {name: value.to(newest.device) for name, value in self.scene.items()}
        if "rests" not in scene:
            return scene["median"], scene["deviation"]
        distance = (newest.float().unsqueeze(1) - scene["rests"]).square().sum(2)  # (B, K, h, w)
        if "rest_groups" in scene:  # cells that rest together, such as the parts of a digit
            groups, flat = scene["rest_groups"].flatten(), distance.flatten(2)
            distance = torch.zeros_like(flat).index_add_(2, groups, flat)[:, :, groups].view_as(distance)
        least, which = distance.min(1, keepdim=True)
        index = which.unsqueeze(2).expand(-1, 1, *newest.shape[1:])
        value = scene["rests"].expand(len(newest), *scene["rests"].shape).gather(1, index).squeeze(1)
        rests = least.isfinite()
        mean = torch.where(rests, value, scene["median"])
        return mean, torch.where(rests, scene["rest_deviation"], scene["deviation"])

    def noise(self, name: str, shape: Sequence[int]) -> Tensor:
        """Standard normal (1, *shape): a function of the seed, the frame's number and the name alone, from the CPU."""
        key = _key(_key("play", self.seed, self.frame_number), name)
        generator = torch.Generator().manual_seed(key)
        return torch.empty(tuple(shape)).normal_(generator=generator).unsqueeze(0)


def _key(*counters: int | str) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for counter in counters:
        data = counter.encode() if isinstance(counter, str) else b""
        digest.update(b"s" + struct.pack("<q", len(data)) + data if data else b"i" + struct.pack("<q", counter))
    return int.from_bytes(digest.digest(), "little") >> 1


def _levels(scheduler: DDIMScheduler | FlowMatchEulerDiscreteScheduler) -> tuple[Tensor, Tensor]:
    """float64 (N,) factors of the clean sample and of the noise at every timestep."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        count = scheduler.config["num_train_timesteps"]
        sigma = torch.arange(1, count + 1, dtype=torch.float64) / count
        return 1.0 - sigma, sigma
    alphas = scheduler.alphas_cumprod.double()
    return alphas.sqrt(), (1.0 - alphas).sqrt()


def _split(kind: str, output: Tensor, noisy: Tensor, level: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """The clean sample and the noise that a prediction implies."""
    signal, noise_scale = level
    if kind == "v_prediction":
        return signal * noisy - noise_scale * output, noise_scale * noisy + signal * output
    if kind == "flow":
        return noisy - noise_scale * output, noisy + signal * output
    if kind == "epsilon":
        return (noisy - noise_scale * output) / signal, output
    return output, (noisy - signal * output) / noise_scale
