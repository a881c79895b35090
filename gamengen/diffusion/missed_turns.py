"""Turns of the ball that a world does not foresee, and the frames that look like them but in which the ball goes on.

A world that foresees nine turns of ten may foresee none of some kind, such as of balls that are beside the paddle
already when it comes: where the ball is then, it goes on nearly always. A training that draws all turns alike teaches
the nine again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm.auto import tqdm

from gamengen.codecs.codec import Codec
from gamengen.contract import WorldContract
from gamengen.latents.windows import Rows, Windows
from gamengen.objects import BALL, Track, read_objects
from gamengen.world import WorldStep

FOUND_WITHIN = 1.5
"""Pixels across and down, less than the slowest ball moves in a frame: one that goes on, or stands, has not turned."""
ALIKE_WITHIN = 2.0
"""Pixels, across and down together: less than the way of a frame, so that no turn's own approach looks like it."""


class StoredWorld(Protocol):
    """What is asked of a world here; `LatentWorld` can do it."""

    @property
    def contract(self) -> WorldContract: ...
    @property
    def num_worlds(self) -> int: ...

    def reset_latents(self, context: Tensor, actions: Tensor, seeds: Sequence[int]) -> None: ...
    def step(self, actions: npt.NDArray[np.int64]) -> WorldStep: ...


def missed_turns(world: StoredWorld, codec: Codec, rows: Rows, turned: Tensor) -> Tensor:
    """Which of the turns a world gets wrong when it sees the recorded frames up to the one before.

    Args:
        world: its number of worlds is the batch.
        codec: of the rows and of the world.
        turned: bool (rows,), the first frame after each turn.
    Returns:
        bool (rows,): the ball is seen in the recorded latent, decoded, and not there in the world's own frame.
    """
    game, batch = world.contract.game, world.num_worlds
    windows = Windows(rows, game, world.contract.context_length)
    positions = turned[windows.targets].nonzero().flatten()
    missed = torch.zeros_like(turned)
    batches = positions.split(batch) if len(positions) else ()
    for chosen in tqdm(batches, desc="turns that the world misses", unit="batch"):
        # The last batch is filled up with its last window: a world's batch is fixed.
        full = torch.cat([chosen, chosen[-1:].expand(batch - len(chosen))])
        window = windows.at(full)
        world.reset_latents(window.context, window.actions[:, :-1], full.tolist())
        dreamt = world.step(window.actions[:, -1].numpy()).frames
        recorded = codec.decode(window.targets).cpu().numpy()
        for n, position in enumerate(chosen.tolist()):
            missed[windows.targets[position]] = not _same_ball(recorded[n], dreamt[n], game.env_id)
    return missed


def look_alikes(balls: Sequence[Track], missed: Tensor, turned: Tensor) -> Tensor:
    """As many frames as were missed, each with the ball before it where one of those had it, on the same way; it goes
    on, or is gone.

    Without them a training on what is missed learns that balls turn there always.

    Args:
        balls: of each episode, in the order of the rows. missed, turned: bool (rows,).
    Returns:
        bool (rows,); fewer where no such frame is left within `ALIKE_WITHIN`.
    """
    place, way = _arrivals(balls)
    usable = np.isfinite(place).all(1) & (way != 0).any(1)
    free = usable & ~turned.numpy()
    alike = torch.zeros_like(missed)
    for row in np.flatnonzero(missed.numpy() & usable):
        others = np.flatnonzero(free & (way == way[row]).all(1))
        off = np.abs(place[others] - place[row]).sum(1)
        if len(others) and off.min() <= ALIKE_WITHIN:
            alike[others[off.argmin()]] = True
            free[others[off.argmin()]] = False
    return alike


def _arrivals(balls: Sequence[Track]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(rows, 2) where the ball is in the frame before each, y and x; and the signs of the way that it came there."""
    places, ways = [], []
    for ball in balls:
        here = np.stack([ball.y, ball.x], axis=1).astype(np.float64)
        gone = np.full((2, 2), np.nan)
        before, earlier = np.concatenate([gone[:1], here])[:-1], np.concatenate([gone, here])[:-2]
        places.append(before)
        ways.append(np.nan_to_num(np.sign(before - earlier)))
    return np.concatenate(places), np.concatenate(ways)


def _same_ball(recorded: npt.NDArray[np.uint8], dreamt: npt.NDArray[np.uint8], env_id: str) -> bool:
    """The recorded frame's ball is in the dreamt one too; nothing is missed where the codec shows none."""
    both = read_objects(np.stack([recorded, dreamt]), env_id, [BALL])[BALL]
    if not both.present[0]:
        return True
    return bool(both.present[1] and max(abs(np.diff(both.y)), abs(np.diff(both.x))) <= FOUND_WITHIN)
