"""GameNGenPipeline: a world folder on disk, of stock diffusers components, with its contract and start states."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
)
from torch import Tensor

from gamengen.codecs.autoencoder import AutoencoderCodec, align_weights, portable_config
from gamengen.codecs.palette import nearest_colours
from gamengen.contract import WorldContract, to_dict, world_from_dict
from gamengen.dataset.start_states import read_start_states, write_start_states
from gamengen.diffusion.denoiser import Denoiser, check_unet
from gamengen.diffusion.sampler import sample, stacked_denoise
from gamengen.diffusion.scene import Scene, read_scene, write_scene
from gamengen.diffusion.schedule import read_schedule
from gamengen.durable import publish_folder, read_json, write_json, writing
from gamengen.frames import to_frames
from gamengen.hub.repository import resolve
from gamengen.hub.world_card import UNNAMED, WorldFacts, read_world_facts, write_world_card
from gamengen.hub.world_push import push_world
from gamengen.manifest import verify_if_listed, write_manifest
from gamengen.noise import NUM_NOISE_BUCKETS, add_context_noise, noise_bucket
from gamengen.world import StartState

KIND = "latent_diffusion"
START_STATES_FILE = "start_states.parquet"


class GameNGenPipeline(DiffusionPipeline):
    """The next frame of a game from past frames and actions.

    Args:
        unet: the denoiser, trained by `scripts/train_unet.py`.
        vae: the codec's autoencoder, decoder fine-tuned or not.
        scheduler: DDIM (zero terminal SNR, trailing) or rectified flow.
        contract: `WorldContract` as plain JSON values.
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
        # The default is for diffusers alone: from_pretrained takes an argument without one for a component.
        if contract is None:
            raise ValueError(
                "a GameNGenPipeline needs the contract of its world; load world folders with from_pretrained"
            )
        self.register_modules(unet=unet, vae=vae, scheduler=scheduler)
        self.register_to_config(contract=contract)
        self.world_contract: WorldContract = world_from_dict(contract)
        codec = self.world_contract.codec
        self.codec = AutoencoderCodec(vae, codec.game, codec.patch_size, codec.padding)
        if self.codec.contract.fingerprint != self.world_contract.codec.fingerprint:
            raise ValueError(
                f"the VAE's encoder has fingerprint {self.codec.contract.fingerprint}, "
                f"the world was trained on latents of {self.world_contract.codec.fingerprint}: "
                "use the VAE that made the shards, or its fine-tuned decoder"
            )
        self.schedule = read_schedule(scheduler)
        check_unet(unet, self.world_contract)
        self.scene: Scene | None = None
        self.facts = WorldFacts()
        self._denoiser: Denoiser | None = None
        self._statistics: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self.start_states: list[StartState] = []

    @property
    def denoiser(self) -> Denoiser:
        """The UNet with all that it is called with; made when it is first needed, after the scene was read."""
        if self._denoiser is None:
            self._denoiser = Denoiser(self.unet, self.world_contract, self.scene)
        return self._denoiser

    @torch.no_grad()
    def __call__(
        self,
        context: Tensor,
        actions: Tensor,
        noise: Tensor,
        *,
        num_inference_steps: int = 4,
        guidance_scale: float = 1.0,
        noise_level: float = 0.0,
        context_noise: Tensor | None = None,
        denoiser: Denoiser | None = None,
    ) -> Tensor:
        """The next latent.

        Args:
            context: (B, L, C, h, w) normalised latents, oldest first.
            actions: int64 (B, L); the last one causes the result.
            noise: (B, C, h, w) standard normal, the sampler's start.
            noise_level: standard deviation of noise added to the context, told to the network as its bucket.
            context_noise: (B, L, C, h, w) standard normal; needed when noise_level > 0.
            denoiser: one over a faster network; the pipeline's own when None.
        Returns:
            (B, C, h, w) normalised latent; `decode_latents` makes a frame of it.
        Raises:
            ValueError: a shape that does not fit the contract, or a noise level that the network was not trained on.
        """
        settings = self.world_contract.settings
        if not 0.0 <= noise_level <= settings["max_noise_level"]:
            raise ValueError(f"noise_level: expected 0 to {settings['max_noise_level']}, got {noise_level}")
        level = torch.full((len(context),), noise_level, device=context.device)
        if noise_level > 0:
            if context_noise is None:
                raise ValueError(
                    "noise_level > 0 needs context_noise: the network expects noise of the level it is told"
                )
            context = add_context_noise(context, level, context_noise)
        bucket = noise_bucket(
            level, int(settings.get("num_noise_buckets", NUM_NOISE_BUCKETS)), settings["max_noise_level"]
        )
        denoise = stacked_denoise(denoiser or self.denoiser, context, actions, bucket, guidance_scale)
        return sample(denoise, self.schedule, noise, num_inference_steps)

    @torch.no_grad()
    def encode_frames(self, frames: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) -> normalised latents (N, C, h, w), float32, with the rounding of stored latents."""
        mean, std = self.statistics(frames.device)
        return (self.codec.encode(frames).float() - mean) / std

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Normalised latents (N, C, h, w) -> uint8 frames (N, H, W, 3)."""
        mean, std = self.statistics(latents.device)
        return self.in_palette(self.codec.decode(latents * std + mean))

    def decode_tensors(self, latents: Tensor) -> Tensor:
        """`decode_latents` of one batch with nothing but tensors' arithmetic, for those who compile or export it."""
        mean, std = self.statistics(latents.device)
        return self.in_palette(to_frames(self.codec.decode_float(latents * std + mean)))

    def in_palette(self, frames: Tensor) -> Tensor:
        """uint8 frames (N, H, W, 3) in the colours of the game, if its contract names them."""
        palette = self.world_contract.settings.get("palette")
        return frames if palette is None else nearest_colours(frames, palette)

    def statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The contract's mean and standard deviation of raw latents, (C, 1, 1) each; made once a device."""
        if device not in self._statistics:
            codec = self.world_contract.codec
            assert codec.mean is not None and codec.std is not None
            with torch.inference_mode(False):  # kept tensors must be ordinary ones
                mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in (codec.mean, codec.std))
            self._statistics[device] = (mean, std)
        return self._statistics[device]

    def save_pretrained(self, save_directory: str | os.PathLike[str], *, repo_id: str = UNNAMED, **kwargs: Any) -> None:
        """Write the world folder: components, contract, start states, card; all or nothing, no absolute paths inside.

        Args:
            repo_id: where on the Hub it will stand, for the card.
        Raises:
            ValueError: the folder holds anything but a world: what is there would be lost.
        """
        if kwargs.pop("push_to_hub", False):
            raise ValueError("save_pretrained(push_to_hub=True) would upload half a world; call push_to_hub instead")
        final = Path(save_directory)
        check_replaceable(final)
        unfinished = final.with_name(final.name + ".tmp")
        shutil.rmtree(unfinished, ignore_errors=True)
        with writing(final, unfinished):
            super().save_pretrained(unfinished, **kwargs)
            for config in [*unfinished.glob("*/config.json"), unfinished / "model_index.json"]:
                write_json(config, portable_config(read_json(config)))
            write_start_states(unfinished / START_STATES_FILE, self.start_states, self.world_contract.game)
            if self.scene is not None:
                write_scene(unfinished, self.scene)
            write_manifest(unfinished)
            # After the manifest: a card may be edited on the Hub.
            parts = {"unet": self.unet, "vae": self.vae}
            parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
            write_world_card(unfinished, self.world_contract, parameters, self.facts, repo_id)
            publish_folder(unfinished, final)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, token: str | None = None, variant: str | None = None,
        commit_message: str = "Upload world",
    ) -> str:  # fmt: skip
        """Upload the world folder in one commit: card, start states and contract too; what was there before goes.

        Args:
            repo_id: `owner/name`, or `name` for one of your own; made when it does not exist.
            variant: add `fp16` or `bf16` weights beside those of the same world that are there already.
        Returns:
            The commit's address.
        Raises:
            PermissionError, ConnectionError: in one sentence. ValueError: a variant of another world than is there.
        """
        return push_world(self, repo_id, private=private, token=token, variant=variant, message=commit_message)

    def in_dtype(self, dtype: torch.dtype) -> GameNGenPipeline:
        """A copy whose weights are rounded; this pipeline's stay."""
        return self.with_parts(*(copy.deepcopy(part).to(dtype) for part in (self.unet, self.vae)))

    def with_parts(self, unet: UNet2DConditionModel, vae: AutoencoderKL | AutoencoderTiny) -> GameNGenPipeline:
        """The same world with other weights."""
        other = build_pipeline(unet, vae, self.scheduler, self.world_contract, self.start_states, self.scene)
        other.facts = self.facts
        return other

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> GameNGenPipeline:
        """Load a world folder, from disk or by its Hub id: contract, start states and scene come with it.

        Args:
            kwargs: as of diffusers, `revision`, `variant`, `token`, `cache_dir` and `local_files_only` among them.
        Raises:
            DamagedFile: a file is not the one that its manifest names. ValueError: parts that do not fit together, or a
                `contract` argument: the folder's own is the only true one.
            FileNotFoundError, PermissionError: nothing there, or not for this token.
        """
        if "contract" in kwargs:
            raise ValueError(
                "from_pretrained takes no contract: the world folder's own contract is part of its weights"
            )
        # All of it first: from a Hub id diffusers would fetch the components alone.
        hub = {
            name: kwargs.pop(name) for name in ("revision", "token", "cache_dir", "local_files_only") if name in kwargs
        }
        folder = resolve(pretrained_model_name_or_path, **hub)
        if folder.is_dir():
            verify_if_listed(folder)
        pipeline: GameNGenPipeline = super().from_pretrained(folder, low_cpu_mem_usage=False, **kwargs)
        if (folder / START_STATES_FILE).is_file():
            pipeline.start_states = read_start_states(folder / START_STATES_FILE)
        if pipeline.world_contract.settings["scene_prior"]:
            pipeline.scene = read_scene(folder)
        pipeline.facts = read_world_facts(folder)
        align_weights(pipeline.unet)
        align_weights(pipeline.vae)
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline


def check_replaceable(folder: Path) -> None:
    """Raise ValueError unless a world may take this folder's place: it is not there, is empty, or is a world alone."""
    found = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    others = [name for name in found if name in ("run.json", ".git") or name.startswith("checkpoint-")]
    if found and "model_index.json" not in found:
        others = others or found
    if others or (folder.exists() and not folder.is_dir()):
        holds = f"a folder that holds {others[0]!r}" if others else "a file"
        raise ValueError(
            f"{folder}: expected a new or empty folder, or an older world alone, which a world replaces as a whole; "
            f"this is {holds}, and all of it would be lost. Choose another --output_dir or empty it yourself"
        )


def build_pipeline(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL | AutoencoderTiny,
    scheduler: Any,
    contract: WorldContract,
    start_states: Sequence[StartState],
    scene: Scene | None = None,
) -> GameNGenPipeline:
    """A pipeline from parts at hand."""
    pipeline = GameNGenPipeline(unet=unet, vae=vae, scheduler=scheduler, contract=to_dict(contract))
    pipeline.start_states = list(start_states)
    pipeline.scene = scene
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
