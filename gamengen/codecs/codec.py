"""Codec: frames to arrays and back. The identity codec is here; the autoencoder has a file of its own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from gamengen.contract import CodecContract, GameContract


@runtime_checkable
class Codec(Protocol):
    """What shards, worlds and trainers know of a codec. Nothing here says that an array is a float latent."""

    @property
    def contract(self) -> CodecContract: ...

    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) -> raw arrays (N, C, h, w) of the contract's dtype."""
        ...

    def decode(self, arrays: Tensor) -> Tensor:
        """Raw arrays (N, C, h, w), any float dtype or the contract's -> uint8 (N, H, W, 3)."""
        ...


class IdentityCodec:
    """Arrays are the frames themselves, uint8 (3, H, W). For pixel-space worlds, the emulator and exact tests."""

    def __init__(self, game: GameContract) -> None:
        self.contract = CodecContract(
            game=game,
            kind="identity",
            fingerprint="identity",
            array_shape=(3, game.frame_height, game.frame_width),
            array_dtype="uint8",
        )

    def encode(self, frames: Tensor) -> Tensor:
        return frames.movedim(-1, -3).contiguous()

    def decode(self, arrays: Tensor) -> Tensor:
        if arrays.dtype != torch.uint8:
            raise ValueError(f"identity codec: expected uint8 arrays, got {arrays.dtype}")
        return arrays.movedim(-3, -1).contiguous()
