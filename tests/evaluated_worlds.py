"""A small game in memory for the tests of the evaluation: a white square that the actions move, and its worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gamengen.codecs.codec import IdentityCodec
from gamengen.contract import GameContract, WorldContract
from gamengen.dataset.episodes import Episode
from gamengen.evaluation.recordings import Recordings
from gamengen.world import Option, StartState, WorldState, WorldStep, check_option
from tests.worlds import tiny_game

SIZE = 16
CONTEXT = 3


def draw(x: int) -> np.ndarray:
    """uint8 (16, 16, 3): a square of 4 pixels at column x."""
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    frame[6:10, x : x + 4] = 255
    return frame


def moved(x: int, action: int) -> int:
    """Actions: 0 nothing, 1 left, 2 right."""
    return int(np.clip(x + (0, -2, 2)[action], 0, SIZE - 4))


def episode(number: int, length: int, split: str = "test", seed: int | None = None) -> Episode:
    """Random actions from a random place; the number is also its seed where none is given."""
    rng = np.random.default_rng(number)
    x = int(rng.integers(SIZE - 4))
    actions = rng.integers(3, size=length)
    places = [x]
    for action in actions:
        places.append(moved(places[-1], int(action)))
    return Episode(
        frames=np.stack([draw(x) for x in places]), actions=actions, rewards=np.zeros(length, np.float32),
        terminated=True, truncated=False, episode_id=f"e{number}", stream_id="s", index_in_stream=number,
        seed=number if seed is None else seed,
        noop_starts=0, split=split, agent="random",
    )  # fmt: skip


def recordings(lengths: Sequence[int] = (30, 25, 40), seed: int | None = None) -> Recordings:
    """Episodes in memory; with `seed` all have that one, such as NO_SEED."""
    return Recordings.of([episode(number, length, seed=seed) for number, length in enumerate(lengths)])


class SquareWorld:
    """The game itself, or (`wrong`) one that moves the other way; noise of its seed where `noise` is set.

    `num_inference_steps` beyond 1 takes the noise away.
    """

    def __init__(self, num_worlds: int = 2, *, wrong: bool = False, noise: int = 0, with_steps: bool = False) -> None:
        game: GameContract = tiny_game(SIZE)
        self.contract = WorldContract(codec=IdentityCodec(game).contract, kind="square", context_length=CONTEXT)
        self.num_worlds = num_worlds
        self.wrong, self.noise = wrong, noise
        self.options: Mapping[str, Option] = (
            {"num_inference_steps": Option(1, "steps", minimum=1, maximum=8)} if with_steps else {}
        )
        self.x = [0] * num_worlds
        self.resets: list[tuple[str, int]] = []
        """(start state's name, seed) of every slot of every reset."""

    def set_option(self, name: str, value: Any) -> None:
        check_option(self.options, name, value)
        self.options = {name: Option(value, "steps", minimum=1, maximum=8)}

    def reset(self, starts: Sequence[StartState], seeds: Sequence[int], slots: Sequence[int] | None = None) -> None:
        assert len(starts) == len(seeds) == self.num_worlds
        for start in starts:
            start.check(self.contract.game)
            assert len(start.frames) <= CONTEXT
        self.x = [int(start.frames[-1, 6, :, 0].argmax()) for start in starts]
        self.generators = [np.random.default_rng(seed) for seed in seeds]
        self.resets += [(start.name, seed) for start, seed in zip(starts, seeds, strict=True)]

    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        assert len(actions) == self.num_worlds
        played = [(0, 2, 1)[a] if self.wrong else int(a) for a in actions]
        self.x = [moved(x, action) for x, action in zip(self.x, played, strict=True)]
        frames = np.stack([draw(x) for x in self.x])
        steps = self.options["num_inference_steps"].value if self.options else 1
        if self.noise and steps == 1:
            added = np.stack([g.integers(0, self.noise + 1, frames.shape[1:]) for g in self.generators])
            frames = np.clip(frames + added, 0, 255).astype(np.uint8)
        return WorldStep(frames)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray | None:
        return np.where(frames > 0, 250, 0).astype(np.uint8)

    def snapshot(self, slots: Sequence[int] | None = None) -> WorldState:
        return list(self.x)

    def restore(self, state: WorldState, slots: Sequence[int] | None = None) -> None:
        self.x = list(state)

    def close(self) -> None:
        return None
