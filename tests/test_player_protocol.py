"""player.protocol: what is packed is what is unpacked, in Python and as the page reads it; nothing else passes."""

from __future__ import annotations

import json
import math
import re
import struct

import numpy as np
import pytest

from gamengen.player.protocol import (
    COMMANDS,
    HEADER,
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    Ack,
    Command,
    FrameMessage,
    Input,
    ProtocolError,
    parse_message,
    text,
    unpack_frame,
)
from gamengen.player.server import PAGE


def panes(count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    return tuple(np.random.default_rng(seed).integers(0, 256, (count, 21, 16, 3), dtype=np.uint8))


@pytest.mark.parametrize("codec", ["raw", "webp"])
def test_a_frame_comes_back_as_it_was(codec: str) -> None:
    frame = FrameMessage(7, 3, 9, 2, panes(2), 12.5, -1.0, 4.0, 0.25, terminated=True, paused=True)
    back, dropped = unpack_frame(frame.pack(codec, dropped=11))  # type: ignore[arg-type]
    assert dropped == 11 and all(np.array_equal(a, b) for a, b in zip(frame.panes, back.panes, strict=True))
    fields = set(FrameMessage.__dataclass_fields__) - {"panes"}
    assert {name: getattr(back, name) for name in fields} == {name: getattr(frame, name) for name in fields}
    plain, _ = unpack_frame(FrameMessage(1, 0, 0, -1, panes(1)).pack(codec))  # type: ignore[arg-type]
    assert plain.action == -1 and plain.reward is None and math.isnan(plain.divergence) and len(plain.panes) == 1


def test_the_page_reads_the_header_where_it_is_written() -> None:
    """The page's own offsets, against the bytes of a frame whose fields are all different."""
    data = FrameMessage(101, 102, 103, 104, panes(1), 105.0, 106.0, 107.0, 108.0).pack(dropped=109)
    script = PAGE.read_text()
    kinds = {"Uint8": "<B", "Uint16": "<H", "Uint32": "<I", "Int32": "<i", "Float32": "<f"}
    read = {
        name: struct.unpack_from(kinds[kind], data, int(offset))[0]
        for name, kind, offset in re.findall(r"(\w+): (?:[\w&. ]+\? )?view\.get(\w+)\((\d+)", script)
    }
    assert read == {
        "id": 101, "t": 102, "seq": 103, "action": 104, "height": 21, "width": 16, "modelMs": 105.0, "reward": 106.0,
        "total": 107.0, "divergence": 108.0, "dropped": 109,
    }  # fmt: skip
    assert f"HEADER_BYTES = {HEADER.size}" in script and f"VERSION = {PROTOCOL_VERSION}" in script
    assert struct.unpack_from("<I", data, HEADER.size)[0] == 21 * 16 * 3


def test_inputs_and_acknowledgements_come_back() -> None:
    assert parse_message(Input(2**31, 3).pack(), 4) == Input(2**31, 3)
    assert parse_message(Ack(12).pack(), 4) == Ack(12)


def test_commands_are_checked_field_by_field() -> None:
    assert parse_message('{"kind": "restart"}', 4) == Command("restart", {"start": None, "seed": None})
    assert parse_message('{"kind": "speed", "value": 2}', 4) == Command("speed", {"value": 2})
    for bad in (
        '{"kind": "speed"}', '{"kind": "speed", "value": "2"}', '{"kind": "speed", "value": true}', "[]", "null", "7",
        '{"kind": "pause", "on": 1}', '{"kind": "pause", "on": true, "also": 1}', '{"kind": ["pause"]}', "", "\ud800",
        '{"kind": "step", "action": 4}', '{"kind": "step", "action": -1}', '{"kind": "restart", "seed": 1e400}',
        '{"kind": "restart", "seed": 4294967296}', '{"kind": "speed", "value": Infinity}',
        '{"kind": "option", "name": "n", "value": [1]}', '{"kind": "restart", "seed": 9' + "9" * 3000 + "}",
    ):  # fmt: skip
        with pytest.raises(ProtocolError):
            parse_message(bad, 4)


def test_noise_is_refused_and_nothing_else_happens() -> None:
    """Anything that arrives is either a legal message or a ProtocolError."""
    rng = np.random.default_rng(0)
    legal = [json.dumps({"kind": kind, **dict.fromkeys(fields, 1)}).encode() for kind, fields in COMMANDS.items()]
    for number in range(4000):
        data = bytearray(legal[number % len(legal)] if number % 2 else rng.bytes(int(rng.integers(12))))
        for _ in range(int(rng.integers(4))):
            if data:
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
        for message in (bytes(data), data.decode("latin-1")):
            try:
                parsed = parse_message(message, 3)
            except ProtocolError:
                continue
            assert isinstance(parsed, (Input, Ack, Command))
    with pytest.raises(ProtocolError, match="at most 4096"):
        parse_message("x" * (MAX_MESSAGE_BYTES + 1), 3)


def test_texts_are_json_that_browsers_read() -> None:
    assert json.loads(text("note", text="é")) == {"kind": "note", "text": "é"}
    with pytest.raises(ValueError):
        text("state", speed=math.nan)
