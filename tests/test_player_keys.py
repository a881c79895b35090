"""player.keys: the newest state at each tick, and no press between two ticks is lost."""

from __future__ import annotations

import numpy as np

from gamengen.player.keys import Keys
from gamengen.player.protocol import Input


def played(*events: int | None) -> list[int]:
    """Actions sampled at the Nones, with presses between them."""
    keys, sampled = Keys(noop_action=0), []
    for seq, event in enumerate(events):
        if event is None:
            sampled.append(keys.sample().action)
        else:
            keys.press(Input(seq, event))
    return sampled


def test_the_newest_state_counts() -> None:
    assert played(None, 1, 2, 3, None, None) == [0, 3, 3]
    assert played(1, None, 0, None, None) == [1, 0, 0]


def test_a_tap_between_two_ticks_counts_for_one() -> None:
    assert played(None, 2, 0, None, None) == [0, 2, 0]
    assert played(1, None, 2, 1, None, None) == [1, 2, 1], "fire while moving"
    assert played(1, None, 0, 1, None, None) == [1, 0, 1], "let go for a moment"
    assert played(None, 2, 0, 3, 0, None, None) == [0, 3, 0], "the last of two taps"


def test_what_is_held_for_two_ticks_is_always_seen() -> None:
    rng = np.random.default_rng(0)
    keys = Keys(0)
    for seq in range(300):
        action = int(rng.integers(4))
        for _ in range(int(rng.integers(3))):
            keys.press(Input(seq, int(rng.integers(4))))
        keys.press(Input(seq, action))
        keys.sample()
        assert keys.sample() == Input(seq, action)


def test_press_tells_whether_the_action_changed() -> None:
    keys = Keys(0)
    assert [keys.press(Input(1, 0)), keys.press(Input(2, 1)), keys.press(Input(3, 1))] == [False, True, False]
    assert keys.newest == Input(3, 1)
