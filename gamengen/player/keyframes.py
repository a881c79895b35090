"""Snapshots of one game, now and then: where a rewind can go."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from gamengen.player.protocol import FrameMessage
from gamengen.world import WorldState

KEYFRAME_EVERY = 5
"""Frames between two snapshots: how finely a rewind goes back."""
NUM_KEYFRAMES = 90
"""450 frames, 30 seconds at 15 frames a second."""


@dataclass(frozen=True)
class Keyframe:
    """Everything that the game goes on from."""

    message: FrameMessage
    state: WorldState
    truth: WorldState | None
    """Of the real game beside it."""


class Keyframes:
    """A ring: the oldest snapshot gives way."""

    def __init__(self, kept: int = NUM_KEYFRAMES) -> None:
        self._ring: deque[Keyframe] = deque(maxlen=kept)

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def newest(self) -> Keyframe:
        """IndexError before the first."""
        return self._ring[-1]

    def add(self, keyframe: Keyframe) -> None:
        """The newest one."""
        self._ring.append(keyframe)

    def clear(self) -> None:
        """Another game begins."""
        self._ring.clear()

    def back(self, t: int, count: int) -> Keyframe:
        """The `count`-th keyframe before frame `t`, or the oldest; it and all after it leave the ring."""
        while len(self._ring) > 1 and self._ring[-1].message.t >= t:
            self._ring.pop()
        for _ in range(min(count, len(self._ring)) - 1):
            self._ring.pop()
        return self._ring.pop()
