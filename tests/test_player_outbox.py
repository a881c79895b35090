"""player.outbox: the newest frame or none, two in flight, the rest dropped and counted."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from gamengen.player.outbox import MAX_IN_FLIGHT, Outbox
from gamengen.player.protocol import FrameMessage, ProtocolError

CLOCK = itertools.count().__next__
RUNNER = asyncio.Runner()


def frame(number: int) -> FrameMessage:
    return FrameMessage(number, number, 0, 0, (np.zeros((1, 1, 3), np.uint8),))


def sent(outbox: Outbox) -> object:
    """What would be sent now, None when nothing would."""

    async def now() -> object:
        try:
            return await asyncio.wait_for(outbox.next(CLOCK), 0.01)
        except TimeoutError:
            return None

    return RUNNER.run(now())


def test_a_stalled_client_holds_two_frames_and_then_gets_the_newest() -> None:
    outbox = Outbox()
    shown = []
    for number in range(1, 101):
        outbox.put(frame(number))
        message = sent(outbox)
        shown += [message.frame_id] if isinstance(message, FrameMessage) else []
    assert shown == [1, 2] and outbox.in_flight == MAX_IN_FLIGHT and outbox.dropped == 97
    outbox.ack(1)
    newest = sent(outbox)
    assert isinstance(newest, FrameMessage) and newest.frame_id == 100, "what it missed is gone"
    outbox.ack(100)
    assert outbox.in_flight == 0 and sent(outbox) is None and outbox.waiting_since() is None


def test_made_frames_are_sent_or_dropped() -> None:
    outbox, rng = Outbox(), np.random.default_rng(0)
    in_flight: list[int] = []
    number = 0
    for _ in range(500):
        if rng.random() < 0.5:
            number += 1
            outbox.put(frame(number))
        elif in_flight and rng.random() < 0.5:
            outbox.ack(in_flight.pop(0))
        elif isinstance(message := sent(outbox), FrameMessage):
            in_flight.append(message.frame_id)
        assert outbox.in_flight <= MAX_IN_FLIGHT
    waiting = number - outbox.sent - outbox.dropped
    assert waiting in (0, 1)


def test_texts_go_first_and_the_end_comes_last() -> None:
    outbox = Outbox()
    outbox.put(frame(1))
    outbox.say("a")
    outbox.say("b")
    outbox.close(1008, "why")
    outbox.close(1000, "another reason")
    assert [sent(outbox), sent(outbox)] == ["a", "b"]
    assert RUNNER.run(outbox.next(CLOCK)) is None and outbox.closing == (1008, "why")


def test_nobody_acknowledges_what_was_not_sent() -> None:
    outbox = Outbox()
    with pytest.raises(ProtocolError):
        outbox.ack(0)
    outbox.put(frame(4))
    sent(outbox)
    with pytest.raises(ProtocolError):
        outbox.ack(5)
    outbox.ack(3)
    assert outbox.in_flight == 1
    outbox.ack(4)
    outbox.ack(4)


def test_latency_is_measured_one_input_at_a_time() -> None:
    outbox = Outbox()
    assert outbox.answered(9, 1.0) is None
    outbox.expect(10, 2.0)
    outbox.expect(11, 3.0)
    assert outbox.answered(9, 4.0) is None and outbox.answered(11, 5.0) == 3.0 and outbox.answered(11, 6.0) is None
