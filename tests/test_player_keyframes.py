"""player.keyframes: how far a rewind goes back."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.player.keyframes import Keyframe, Keyframes
from gamengen.player.protocol import FrameMessage


def at(*times: int, kept: int = 10) -> Keyframes:
    ring = Keyframes(kept)
    for t in times:
        ring.add(Keyframe(FrameMessage(0, t, 0, 0, (np.zeros((1, 1, 3), np.uint8),)), state=t, truth=None))
    return ring


@pytest.mark.parametrize(
    ("t", "count", "target"), [(12, 1, 10), (10, 1, 5), (12, 2, 5), (10, 2, 0), (12, 99, 0), (0, 1, 0), (3, 1, 0)]
)
def test_back_by_so_many_keyframes_that_lie_before(t: int, count: int, target: int) -> None:
    times = [time for time in (0, 5, 10) if time <= t]
    ring = at(*times)
    assert ring.back(t, count).state == target
    assert len(ring) == times.index(target), "the target and what came after it have left"


def test_the_oldest_gives_way() -> None:
    ring = at(0, 5, 10, 15, kept=3)
    assert len(ring) == 3 and ring.newest.state == 15 and ring.back(16, 99).state == 5
    ring.clear()
    assert len(ring) == 0
