"""Tiny real objects that the tests of training and play share: a game, contracts, rows, a UNet, a codec, a world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor

from gamengen.codecs.autoencoder import AutoencoderCodec
from gamengen.contract import Action, CodecContract, GameContract, WorldContract
from gamengen.diffusion.denoiser import DenoiserConfig, build_unet, world_settings
from gamengen.diffusion.pipeline import KIND, GameNGenPipeline, build_pipeline
from gamengen.diffusion.rests import Rests
from gamengen.diffusion.scene import Scene
from gamengen.diffusion.schedule import PredictionType, build_scheduler
from gamengen.world import Replay, StartState

LENGTH = 3
"""Context length of the tiny worlds."""


def tiny_game(size: int = 16, noop_action: int = 0) -> GameContract:
    """Square frames, three actions."""
    meanings = ("NOOP", "LEFT", "RIGHT")
    return GameContract(
        env_id="Tiny-v0",
        frame_height=size,
        frame_width=size,
        fps=15.0,
        actions=tuple(Action(meaning=meaning) for meaning in meanings),
        noop_action=noop_action,
    )


def tiny_codec_contract(channels: int = 2, size: int = 8) -> CodecContract:
    """Of a codec that nobody needs to run: finalised, with statistics that are not 0 and 1."""
    return CodecContract(
        game=tiny_game(),
        kind="autoencoder",
        fingerprint="tiny",
        array_shape=(channels, size, size),
        array_dtype="float32",
        mean=tuple(0.1 * (c + 1) for c in range(channels)),
        std=tuple(0.5 + c for c in range(channels)),
    )


def tiny_contract(
    codec: CodecContract | None = None,
    length: int = LENGTH,
    prediction_type: PredictionType = "v_prediction",
    max_noise_level: float = 0.7,
    scene_prior: bool = False,
) -> WorldContract:
    """Without the scene, with which a UNet starts at zero: most tests want one that answers to its inputs."""
    return WorldContract(
        codec=codec or tiny_codec_contract(),
        kind=KIND,
        context_length=length,
        settings=world_settings(max_noise_level, prediction_type, scene_prior),
    )


def flat_scene(contract: WorldContract) -> Scene:
    """A scene that knows nothing: median 0, deviation 1."""
    shape = contract.codec.array_shape
    return Scene(torch.zeros(shape), torch.ones(shape))


def tiny_unet(contract: WorldContract, seed: int = 0) -> UNet2DConditionModel:
    """About 20 thousand parameters. Its zero-initialised parts get weights, so that every input matters."""
    torch.manual_seed(seed)
    config = DenoiserConfig(
        block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=8, attention_head_dim=2, norm_num_groups=4
    )
    return build_unet(config, contract).eval()


@dataclass(frozen=True)
class MemoryRows:
    """Rows in memory, as `windows.Rows` asks for them."""

    arrays: Tensor
    actions: Tensor
    segments: Tensor
    stream_ids: tuple[str, ...]
    indices_in_stream: tuple[int, ...]
    truncated: tuple[int, ...] = ()
    """Episodes that did not end but were cut."""

    @property
    def terminated(self) -> Tensor:
        ended = torch.zeros(len(self.actions), dtype=torch.bool)
        ended[self.segments[:, 1] - 1] = True
        ended[self.segments[list(self.truncated), 1] - 1] = False
        return ended

    def gather(self, rows: Tensor) -> Tensor:
        return self.arrays[rows]


def counted_rows(lengths: Sequence[int], streams: Sequence[str] | None = None) -> MemoryRows:
    """Episodes of `lengths` frames; the array of row r holds r, the action of row r is r, null in an episode's last."""
    total = sum(lengths)
    ends = np.cumsum(lengths)
    actions = torch.arange(total)
    actions[torch.as_tensor(ends) - 1] = -1
    streams = tuple(streams or ("one",) * len(lengths))
    return MemoryRows(
        arrays=torch.arange(total, dtype=torch.float32).view(-1, 1, 1, 1),
        actions=actions,
        segments=torch.tensor([[end - length, end] for end, length in zip(ends, lengths, strict=True)]),
        stream_ids=streams,
        indices_in_stream=tuple(streams[:i].count(stream) for i, stream in enumerate(streams)),
    )


def random_rows(contract: WorldContract, lengths: Sequence[int] = (20, 15), seed: int = 0) -> MemoryRows:
    """Episodes of random arrays and actions, for training."""
    generator = torch.Generator().manual_seed(seed)
    rows = counted_rows(lengths)
    actions = torch.randint(0, contract.game.num_actions, rows.actions.shape, generator=generator)
    arrays = torch.randn((len(actions), *contract.codec.array_shape), generator=generator)
    return replace(rows, arrays=arrays, actions=actions.where(rows.actions >= 0, -1))


def tiny_codec(seed: int = 0, size: int = 16) -> AutoencoderCodec:
    """An untrained AutoencoderTiny: frames of 16x16 to latents of (2, 8, 8)."""
    torch.manual_seed(seed)
    vae = AutoencoderTiny(
        in_channels=12,
        out_channels=12,
        latent_channels=2,
        encoder_block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        num_encoder_blocks=(1,),
        num_decoder_blocks=(1,),
    )
    codec = AutoencoderCodec(vae, tiny_game(size), patch_size=2)
    codec.vae.eval()
    return codec


def tiny_starts(count: int = 2, frames: int = LENGTH, seed: int = 0, size: int = 16) -> list[StartState]:
    """Start states of random frames, with replay and recorded actions after them."""
    generator = np.random.default_rng(seed)
    return [
        StartState(
            frames=generator.integers(0, 256, (frames, size, size, 3), dtype=np.uint8),
            actions=generator.integers(0, 3, frames - 1),
            replay=Replay(seed=b, actions=generator.integers(0, 3, 5), noop_starts=b),
            future_actions=generator.integers(0, 3, 4),
            name=f"episode tiny-{b} frame {frames - 1:06d}",
        )
        for b in range(count)
    ]


def tiny_pipeline(prediction_type: PredictionType = "v_prediction", seed: int = 0, **changes: Any) -> GameNGenPipeline:
    """An untrained world without a scene. `changes` replace fields of its contract."""
    codec = tiny_codec(seed)
    finalised = replace(codec.contract, mean=(0.1, -0.2), std=(0.5, 0.25))
    contract = replace(tiny_contract(finalised, prediction_type=prediction_type), **changes)
    return build_pipeline(
        tiny_unet(contract, seed), codec.vae, build_scheduler(prediction_type), contract, tiny_starts()
    )


def tiny_pipeline_with_scene() -> GameNGenPipeline:
    """An untrained world whose network sees differences from a random median; some of its cells rest at values."""
    finalised = replace(tiny_codec().contract, mean=(0.1, -0.2), std=(0.5, 0.25))
    contract = tiny_contract(finalised, scene_prior=True)
    generator = torch.Generator().manual_seed(1)
    shape = contract.codec.array_shape
    values = torch.randn((2, *shape), generator=generator)
    values[:, :, :4] = torch.inf  # half of the cells do not rest
    median, deviation, left = (
        torch.randn(shape, generator=generator), *(0.1 + torch.rand((2, *shape), generator=generator))
    )  # fmt: skip
    scene = Scene(median, deviation, Rests(values, left))
    unet = tiny_unet(contract)
    torch.nn.init.normal_(unet.conv_out.weight, std=0.1)
    return build_pipeline(unet, tiny_codec().vae, build_scheduler("v_prediction"), contract, tiny_starts(), scene)
