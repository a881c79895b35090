"""What waits for a client: its newest frame, and a few lines of text. A slow client loses frames, never time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gamengen.player.protocol import FrameMessage, ProtocolError

MAX_IN_FLIGHT = 2
"""Frames that were sent and not acknowledged: one that travels, one that is drawn."""
_MAX_TEXTS = 64


class Outbox:
    """Belongs to the event loop's thread.

    `put` never waits: a frame that was not sent yet gives way to the newer one and counts as dropped.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.sent = 0
        self.closing: tuple[int, str] | None = None
        """WebSocket code and reason, once the connection is to end."""
        self._newest: FrameMessage | None = None
        self._in_flight: deque[tuple[int, float]] = deque()
        self._last_sent = -1
        self._expected: tuple[int, float] | None = None
        self._texts: deque[str] = deque(maxlen=_MAX_TEXTS)
        self._wake = asyncio.Event()

    def put(self, frame: FrameMessage) -> None:
        """The newest frame."""
        if self._newest is not None:
            self.dropped += 1
        self._newest = frame
        self._wake.set()

    def say(self, message: str) -> None:
        """A line of text; the oldest of too many unread ones is lost."""
        self._texts.append(message)
        self._wake.set()

    def close(self, code: int, reason: str) -> None:
        """End the connection once the texts are sent."""
        self.closing = self.closing or (code, reason)
        self._wake.set()

    def ack(self, frame_id: int) -> None:
        """The client has this frame and all before it; ProtocolError for a frame that was never sent."""
        if frame_id > self._last_sent:
            raise ProtocolError(f"acknowledges frame {frame_id}, the newest sent is {self._last_sent}")
        while self._in_flight and self._in_flight[0][0] <= frame_id:
            self._in_flight.popleft()
        self._wake.set()

    def expect(self, input_seq: int, now: float) -> None:
        """An input has arrived: measure how long its first frame takes. One is measured at a time."""
        if self._expected is None:
            self._expected = (input_seq, now)

    def answered(self, input_seq: int, now: float) -> float | None:
        """A frame was sent that knows inputs up to this one; seconds since the expected one arrived, or None."""
        if self._expected is None or input_seq < self._expected[0]:
            return None
        since, self._expected = self._expected[1], None
        return now - since

    def waiting_since(self) -> float | None:
        """When the oldest unacknowledged frame was sent, None when there is none."""
        return self._in_flight[0][1] if self._in_flight else None

    @property
    def in_flight(self) -> int:
        """Frames that were sent and not acknowledged."""
        return len(self._in_flight)

    async def next(self, clock: Callable[[], float]) -> str | FrameMessage | None:
        """Wait for what is to be sent: a text, a frame, or None when the connection is to end."""
        while True:
            if self._texts:
                return self._texts.popleft()
            if self.closing is not None:
                return None
            if self._newest is not None and len(self._in_flight) < MAX_IN_FLIGHT:
                frame, self._newest = self._newest, None
                self._in_flight.append((frame.frame_id, clock()))
                self._last_sent = frame.frame_id
                self.sent += 1
                return frame
            self._wake.clear()
            await self._wake.wait()
