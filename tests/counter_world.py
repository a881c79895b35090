"""CounterWorld: a World that costs nothing and whose pixels say (seed, t, previous action), for tests of the player."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gamengen.codecs.codec import IdentityCodec
from gamengen.contract import Action, GameContract, WorldContract, check_actions
from gamengen.world import Option, StartState, WorldState, WorldStep, check_option
from tests.counter_env import SIZE, Count, draw_count

NUM_ACTIONS = 4


def counter_game(fps: float = 30.0) -> GameContract:
    """The contract of a CounterWorld: action 0 is the no-op, keys a, b and c are the others."""
    keys = ((), ("a",), ("b",), ("c",))
    return GameContract(
        env_id="Counter", frame_height=SIZE, frame_width=SIZE, fps=fps,
        actions=tuple(Action(meaning=f"ACTION_{i}", keys=k) for i, k in enumerate(keys)),
    )  # fmt: skip


def counter_starts(count: int = 3) -> list[StartState]:
    """Start states whose frame says (number, 0, 0), with recorded actions 1, 2, 3, 1, ... after them."""
    return [
        StartState(
            frames=draw_count(Count(number, 0, 0))[None],
            actions=np.zeros(0, np.int64),
            future_actions=np.arange(50) % 3 + 1,
            name=f"start {number}",
        )
        for number in range(count)
    ]


class CounterWorld:
    """Counts. A game of the seed `poison` fails at its third step, and every step takes `step_s` seconds."""

    def __init__(
        self, num_worlds: int = 1, *, game: GameContract | None = None, poison: int = -1, step_s: float = 0.0
    ) -> None:
        codec = IdentityCodec(game or counter_game()).contract
        self._contract = WorldContract(codec=codec, kind="counter", context_length=1)
        self._states: list[tuple[int, int]] = [(-1, -1)] * num_worlds
        self._poison, self._step_s = poison, step_s
        self._options = {"stride": Option(1, "how far a step counts", minimum=1, maximum=9)}
        self.batches: list[int] = []

    @property
    def contract(self) -> WorldContract:
        return self._contract

    @property
    def num_worlds(self) -> int:
        return len(self._states)

    @property
    def options(self) -> Mapping[str, Option]:
        return self._options

    def set_option(self, name: str, value: Any) -> None:
        check_option(self._options, name, value)
        self._options[name] = replace(self._options[name], value=value)

    def reset(self, starts: Sequence[StartState], seeds: Sequence[int], slots: Sequence[int] | None = None) -> None:
        for start in starts:
            start.check(self._contract.game)
        for slot, seed in zip(self._slots(slots), seeds, strict=True):
            self._states[slot] = (seed, 0)

    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        check_actions(actions, self._contract.game, "step")
        assert len(actions) == self.num_worlds and all(t >= 0 for _, t in self._states)
        time.sleep(self._step_s)
        stride = self._options["stride"].value
        self.batches.append(self.num_worlds)
        for slot, (seed, t) in enumerate(self._states):
            if seed == self._poison and t >= 2:
                raise RuntimeError("poisoned")
            self._states[slot] = (seed, t + stride)
        counts = [
            Count(seed % 4096, t % 4096, int(action))
            for (seed, t), action in zip(self._states, actions, strict=True)
        ]  # fmt: skip
        return WorldStep(np.stack([draw_count(count) for count in counts]))

    def reconstruct(self, frames: np.ndarray) -> np.ndarray | None:
        return None

    def snapshot(self, slots: Sequence[int] | None = None) -> WorldState:
        return [self._states[slot] for slot in self._slots(slots)]

    def restore(self, state: WorldState, slots: Sequence[int] | None = None) -> None:
        for slot, one in zip(self._slots(slots), state, strict=True):
            self._states[slot] = one

    def close(self) -> None:
        self._states = []

    def _slots(self, slots: Sequence[int] | None) -> Sequence[int]:
        return range(self.num_worlds) if slots is None else slots
