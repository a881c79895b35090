"""gamengen.diffusion.ring.

The window is always the last L values in order, and nothing is moved or allocated to keep it so.
"""

from __future__ import annotations

import torch

from gamengen.diffusion.ring import Ring

CPU = torch.device("cpu")


def values(step: int, streams: int = 2) -> torch.Tensor:
    """(B, 3): what stream b is given at a step."""
    return torch.arange(streams * 3, dtype=torch.float32).view(streams, 3) + 100 * step


def test_the_window_holds_the_newest_in_order() -> None:
    ring = Ring(2, 4, (3,), CPU)
    place = ring.window.untyped_storage().data_ptr()
    for step in range(11):
        ring.add(values(step))
        newest = [values(s) if s >= 0 else torch.zeros(2, 3) for s in range(step - 3, step + 1)]
        assert torch.equal(ring.window, torch.stack(newest, dim=1)), step
        assert ring.window.untyped_storage().data_ptr() == place


def test_a_stream_gets_another_past_at_any_moment() -> None:
    for steps in range(7):
        ring, past = Ring(2, 3, (3,), CPU), torch.randn(1, 3, 3)
        for step in range(steps):
            ring.add(values(step))
        kept = ring.window[0].clone()
        ring.put([1], past)
        assert torch.equal(ring.window[1], past[0]) and torch.equal(ring.window[0], kept)
        ring.add(values(50))
        assert torch.equal(ring.window[1], torch.cat([past[0, 1:], values(50)[1:]]))
        assert torch.equal(ring.window[0], torch.cat([kept[1:], values(50)[:1]]))


def test_streams_are_put_in_the_order_given_and_values_are_copied() -> None:
    ring, pasts = Ring(3, 2, (1,), CPU), torch.arange(4.0).view(2, 2, 1)
    ring.add(torch.zeros(3, 1))
    ring.put([2, 0], pasts)
    expected = torch.stack([pasts[1], torch.zeros(2, 1), pasts[0]])
    assert torch.equal(ring.window, expected)
    pasts.fill_(9.0)
    assert torch.equal(ring.window, expected)


def test_a_window_of_one() -> None:
    ring = Ring(1, 1, (2,), CPU)
    for step in range(3):
        ring.add(torch.full((1, 2), float(step)))
        assert ring.window.tolist() == [[[step, step]]]
