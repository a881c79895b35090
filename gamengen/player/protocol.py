"""The messages between server and page.

What is sent every frame is binary: frames to the page, inputs and acknowledgements back. Everything else is JSON text.
All numbers are little-endian. `t` counts the frames since the start state, whose newest frame is `t = 0`; the
`action` of a frame is the one that led to it.
"""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from PIL import Image

PROTOCOL_VERSION = 1
MAX_MESSAGE_BYTES = 4096
"""Of a message from a page."""
NO_ACTION = -1
HEADER = struct.Struct("<BBBBIIIiHHffffI")
"""version, codec, panes, flags; frame id, t, input seq, action; height, width; model ms, reward, return, divergence;
dropped. Then each pane: its number of bytes (uint32), its bytes."""
_LENGTH = struct.Struct("<I")
_INPUT, _ACK = struct.Struct("<BIi"), struct.Struct("<BI")
INPUT_KIND, ACK_KIND = 1, 2
MAX_SEED = 2**31 - 1

Codec = Literal["raw", "webp"]
CODECS: tuple[Codec, ...] = ("raw", "webp")
"""`raw` is RGB as it is: nothing to compute, for the same machine. `webp` is lossless, a fiftieth of the bytes."""


class Flag(IntEnum):
    """Bits of a frame's `flags`."""

    TERMINATED = 1
    """The game ended with this frame."""
    HAS_REWARD = 2
    PAUSED = 4
    """The game stands still after this frame."""


class ProtocolError(ValueError):
    """A client said something that no page says: its connection is closed with the reason."""


@dataclass(frozen=True)
class FrameMessage:
    """One frame on its way to the page."""

    frame_id: int
    """Counts up by one a frame that was made; what `Ack` names."""
    t: int
    input_seq: int
    """Newest input that had arrived when the action was chosen."""
    action: int
    """What led to this frame; -1 for a start state."""
    panes: tuple[np.ndarray, ...]
    """uint8 (H, W, 3) each, of one size: the world, then the real game where it was asked for."""
    model_ms: float = 0.0
    reward: float | None = None
    episode_return: float = 0.0
    divergence: float = math.nan
    """Mean absolute difference between the panes in levels of 255; nan with one pane."""
    terminated: bool = False
    paused: bool = False

    def pack(self, codec: Codec = "raw", dropped: int = 0) -> bytes:
        """The bytes of the message; `dropped` counts the frames that this client did not get so far."""
        flags = Flag.TERMINATED * self.terminated | Flag.PAUSED * self.paused
        flags |= Flag.HAS_REWARD * (self.reward is not None)
        height, width = self.panes[0].shape[:2]
        head = HEADER.pack(
            PROTOCOL_VERSION, CODECS.index(codec), len(self.panes), flags, self.frame_id, self.t, self.input_seq,
            self.action, height, width, self.model_ms, self.reward or 0.0, self.episode_return, self.divergence,
            dropped,
        )  # fmt: skip
        bodies = [_encode(pane, codec) for pane in self.panes]
        return b"".join([head, *(part for body in bodies for part in (_LENGTH.pack(len(body)), body))])


def unpack_frame(data: bytes) -> tuple[FrameMessage, int]:
    """What `pack` made, and its count of dropped frames; for clients in Python."""
    (
        version, codec, num_panes, flags, frame_id, t, input_seq, action, height, width, model_ms, reward,
        episode_return, divergence, dropped,
    ) = HEADER.unpack_from(data)  # fmt: skip
    if version != PROTOCOL_VERSION:
        raise ProtocolError(f"frame of protocol version {version}, expected {PROTOCOL_VERSION}")
    panes, offset = [], HEADER.size
    for _ in range(num_panes):
        (length,) = _LENGTH.unpack_from(data, offset)
        offset += _LENGTH.size
        panes.append(_decode(data[offset : offset + length], CODECS[codec], height, width))
        offset += length
    message = FrameMessage(
        frame_id, t, input_seq, action, tuple(panes), model_ms, reward if flags & Flag.HAS_REWARD else None,
        episode_return, divergence, bool(flags & Flag.TERMINATED), bool(flags & Flag.PAUSED),
    )  # fmt: skip
    return message, dropped


@dataclass(frozen=True)
class Input:
    """The state of the keys, as the action that they mean; the newest one counts."""

    seq: int
    action: int

    def pack(self) -> bytes:
        """The bytes of the message."""
        return _INPUT.pack(INPUT_KIND, self.seq, self.action)


@dataclass(frozen=True)
class Ack:
    """All frames up to this one have arrived."""

    frame_id: int

    def pack(self) -> bytes:
        """The bytes of the message."""
        return _ACK.pack(ACK_KIND, self.frame_id)


@dataclass(frozen=True)
class Command:
    """Anything that is not said every frame."""

    kind: str
    values: Mapping[str, Any]


_INTEGER = (int, type(None))
COMMANDS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "restart": {"start": _INTEGER, "seed": _INTEGER},
    "pause": {"on": (bool,)},
    "step": {"action": _INTEGER},
    "rewind": {"keyframes": _INTEGER},
    "speed": {"value": (int, float)},
    "option": {"name": (str,), "value": (int, float, str, bool)},
    "control": {"name": (str,)},
    "compare": {"on": (bool,)},
    "record": {"on": (bool,)},
    "save": {},
}
"""Kind -> its fields and their JSON types; a field that may be null may be left out."""


def parse_message(message: str | bytes, num_actions: int) -> Input | Ack | Command:
    """What a page said.

    Raises:
        ProtocolError: anything else than a message of this protocol, such as an action outside the table.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"message of {len(message)} bytes, at most {MAX_MESSAGE_BYTES} are read")
    if isinstance(message, bytes):
        return _parse_binary(message, num_actions)
    try:
        values = json.loads(message, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("text message that is not JSON") from error
    kind = values.get("kind") if isinstance(values, dict) else None
    if not isinstance(kind, str) or kind not in COMMANDS:
        raise ProtocolError(f"unknown command; expected one of: {', '.join(COMMANDS)}")
    fields = COMMANDS[kind]
    unknown = sorted(set(values) - set(fields) - {"kind"})
    if unknown:
        raise ProtocolError(f"command {kind}: unknown field {unknown[0][:40]!r}")
    checked = {name: _checked(kind, name, values.get(name), types) for name, types in fields.items()}
    if kind == "step" and checked["action"] is not None:
        _check_action(checked["action"], num_actions)
    if kind == "restart" and checked["seed"] is not None and not 0 <= checked["seed"] <= MAX_SEED:
        raise ProtocolError(f"seed: expected 0 to {MAX_SEED}")
    return Command(kind, checked)


def text(kind: str, **values: Any) -> str:
    """A text message to the page."""
    return json.dumps({"kind": kind, **values}, allow_nan=False)


def option_values(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A World's options for the page."""
    return {
        name: {
            "value": option.value, "description": option.description, "minimum": option.minimum,
            "maximum": option.maximum, "choices": None if option.choices is None else list(option.choices),
        }
        for name, option in options.items()
    }  # fmt: skip


def _parse_binary(message: bytes, num_actions: int) -> Input | Ack:
    if len(message) == _INPUT.size and message[0] == INPUT_KIND:
        _, seq, action = _INPUT.unpack(message)
        _check_action(action, num_actions)
        return Input(seq, action)
    if len(message) == _ACK.size and message[0] == ACK_KIND:
        return Ack(_ACK.unpack(message)[1])
    raise ProtocolError("binary message that is neither an input nor an acknowledgement")


def _check_action(action: int, num_actions: int) -> None:
    if not 0 <= action < num_actions:
        raise ProtocolError(f"action {action}: expected 0 to {num_actions - 1}")


def _checked(kind: str, name: str, value: Any, types: Sequence[type]) -> Any:
    # A bool is an int to Python, not to us. Whole numbers stay within 64 bits, floats are finite.
    fits = type(value) in types
    if isinstance(value, (int, float)):
        fits = fits and abs(value) < 2**63  # not so for nan either
    if not fits:
        expected = " or ".join(t.__name__ for t in types)
        raise ProtocolError(f"command {kind}: {name} must be {expected}, got {str(value)[:40]!r}")
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _encode(pane: np.ndarray, codec: Codec) -> bytes:
    if codec == "raw":
        return pane.tobytes()
    buffer = io.BytesIO()
    Image.fromarray(pane).save(buffer, "WEBP", lossless=True, method=0, quality=20)
    return buffer.getvalue()


def _decode(data: bytes, codec: Codec, height: int, width: int) -> np.ndarray:
    if codec == "raw":
        return np.frombuffer(data, np.uint8).reshape(height, width, 3)
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))
