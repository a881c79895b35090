"""gamengen.diffusion.missed_turns: turns that a world of a known kind gets wrong, and frames that look like them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from gamengen.codecs.codec import IdentityCodec
from gamengen.contract import WorldContract
from gamengen.diffusion.missed_turns import look_alikes, missed_turns
from gamengen.games.emulator import make_game_contract
from gamengen.objects import BALL, Track, read_objects
from gamengen.world import WorldStep
from tests.worlds import counted_rows, tiny_contract

NAN = float("nan")
CODEC = IdentityCodec(make_game_contract("ALE/Pong-v5", frame_skip=2))


def court(x: int, y: int) -> np.ndarray:
    frame = np.full((210, 160, 3), (144, 72, 17), np.uint8)
    frame[y : y + 4, x : x + 2] = 236
    return frame


class Wall:
    """Foresees that a ball flies on, and that it turns at one place."""

    num_worlds = 2

    def __init__(self, x: int) -> None:
        self.x, self.frames = x, np.zeros(0)

    @property
    def contract(self) -> WorldContract:
        return tiny_contract(CODEC.contract)

    def reset_latents(self, context: Tensor, actions: Tensor, seeds: Sequence[int]) -> None:
        assert len(context) == len(actions) == len(seeds) == self.num_worlds
        self.frames = np.stack([CODEC.decode(frames).numpy() for frames in context])

    def step(self, actions: np.ndarray) -> WorldStep:
        places = [read_objects(frames, CODEC.contract.game.env_id, [BALL])[BALL] for frames in self.frames]
        new = []
        for ball in places:
            before, here = ball.x[-2] - 1, ball.x[-1] - 1
            way = before - here if here == self.x else here - before
            new.append(court(int(here + way), int(ball.y[-1]) - 2))
        return WorldStep(np.stack(new))


def test_turns_that_the_world_foresees_are_not_missed() -> None:
    """Three balls turn at 96, 108 and 96 pixels; batches of two, the last of them filled up."""
    x = [[84, 88, 92, 96, 92, 88], [96, 100, 104, 108, 104, 100], [84, 88, 92, 96, 92, 88]]
    frames = np.stack([court(place, 60) for episode in x for place in episode])
    rows = replace(counted_rows([6, 6, 6]), arrays=CODEC.encode(torch.from_numpy(frames)))
    rows = replace(rows, actions=torch.zeros_like(rows.actions))
    turned = torch.zeros(18, dtype=torch.bool)
    turned[[4, 10, 16]] = True
    assert missed_turns(Wall(96), CODEC, rows, turned).nonzero().flatten().tolist() == [10]
    assert missed_turns(Wall(108), CODEC, rows, turned).nonzero().flatten().tolist() == [4, 16]
    assert missed_turns(Wall(96), CODEC, rows, torch.zeros_like(turned)).sum() == 0


def track(x: list[float], y: list[float]) -> Track:
    return Track(np.array(y), np.array(x), np.ones(len(x)), np.ones(len(x), np.int64))


@pytest.mark.parametrize(
    ("x", "y", "alike"),
    [
        ([1, 5, 9, 13, 17], [50, 50, 50, 50, 50], [3]),  # comes to the same place, and goes on
        ([1, 5, 9, NAN, NAN], [50, 50, 50, NAN, NAN], [3]),  # and is gone
        ([5, 9, 13, 17, 21], [51, 51, 51, 51, 51], [2]),  # the nearest one
        ([17, 13, 9, 5, 1], [50, 50, 50, 50, 50], []),  # comes there from the other side
        ([1, 5, 9, 13, 17], [53, 53, 53, 53, 53], []),  # elsewhere
        ([NAN, NAN, 9, 13, 17], [NAN, NAN, 50, 50, 50], []),  # from where, is not known
    ],
)
def test_frames_like_those_that_were_missed(x: list[float], y: list[float], alike: list[int]) -> None:
    missed_one = track([1, 5, 9, 5, 1], [50, 50, 50, 50, 50])
    turned = torch.arange(10) == 3
    found = look_alikes([missed_one, track(x, y)], turned, turned)
    assert (found.nonzero().flatten() - 5).tolist() == alike


def test_a_frame_is_taken_once_and_no_turn_is() -> None:
    ball = track([1, 5, 9, 5, 1], [50, 50, 50, 50, 50])
    on = track([1, 5, 9, 13, 17], [50, 50, 50, 50, 50])
    turned = torch.tensor([3, 8])
    turned = torch.zeros(15, dtype=torch.bool).index_fill(0, turned, True)
    assert look_alikes([ball, ball, on], turned, turned).nonzero().flatten().tolist() == [13]
    one = torch.arange(10) == 3
    assert not look_alikes([ball, ball], one, turned[:10]).any()  # the other turn was foreseen, and is a turn
