"""gamengen.codecs.codec: the identity codec is exact."""

from __future__ import annotations

import pytest
import torch

from gamengen.codecs.codec import Codec, IdentityCodec
from gamengen.contract import Action, GameContract

GAME = GameContract(env_id="Toy-v0", frame_height=6, frame_width=9, fps=15, actions=(Action(meaning="NOOP"),))


def test_frames_come_back_bit_for_bit_in_the_contract_s_shape() -> None:
    codec = IdentityCodec(GAME)
    assert isinstance(codec, Codec)
    frames = torch.randint(0, 256, (4, 6, 9, 3), dtype=torch.uint8)
    arrays = codec.encode(frames)
    assert arrays.shape[1:] == codec.contract.array_shape == (3, 6, 9)
    assert str(arrays.dtype) == f"torch.{codec.contract.array_dtype}" and arrays.is_contiguous()
    assert torch.equal(arrays[:, 1], frames[..., 1])
    decoded = codec.decode(arrays)
    assert torch.equal(decoded, frames) and decoded.is_contiguous()


def test_floats_are_not_taken_for_frames() -> None:
    with pytest.raises(ValueError, match=r"uint8 arrays, got torch\.float32"):
        IdentityCodec(GAME).decode(torch.zeros(1, 3, 6, 9))


def test_its_contract_names_it() -> None:
    contract = IdentityCodec(GAME).contract
    assert (contract.kind, contract.fingerprint, contract.game) == ("identity", "identity", GAME)
