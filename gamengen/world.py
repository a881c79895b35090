"""The World protocol: what rollout, env, server and evaluation know of a game, real or learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gamengen.contract import GameContract, WorldContract, check_actions
from gamengen.frames import check_size


@dataclass(frozen=True)
class Replay:
    """How the emulator gets into a state: seed it, reset it, and repeat what was done since."""

    seed: int
    actions: np.ndarray
    """int64 (n,): recorded-stream actions since the first recorded frame."""
    noop_starts: int = 0
    """Recorded-stream steps of the no-op action before the first recorded frame."""


@dataclass(frozen=True)
class StartState:
    """A prompt from a real episode: what a world sees before its first own frame."""

    frames: np.ndarray
    """uint8 (K, H, W, 3), K >= 1; shorter than the context is padded by the border rule of `windows`."""
    actions: np.ndarray
    """int64 (K - 1,): the action between each frame and the next."""
    replay: Replay | None = None
    future_actions: np.ndarray | None = None
    """int64 (n,): what the recorded player did next, for a rollout that repeats it."""
    name: str = ""
    """Where it comes from, such as `episode 12 frame 340`."""

    def check(self, game: GameContract) -> None:
        """Raise ValueError when the shapes, the frame size or an action id do not fit the game."""
        where = f"start state {self.name!r}"
        if self.frames.ndim != 4 or self.frames.dtype != np.uint8 or len(self.frames) < 1:
            raise ValueError(
                f"{where}: expected uint8 frames (K, H, W, 3), got {self.frames.dtype} {self.frames.shape}"
            )
        check_size(self.frames.shape[1], self.frames.shape[2], game.frame_height, game.frame_width, where)
        if len(self.actions) != len(self.frames) - 1:
            raise ValueError(
                f"{where}: expected {len(self.frames) - 1} actions between {len(self.frames)} frames, "
                f"got {len(self.actions)}"
            )
        check_actions(self.actions, game, where)


@dataclass(frozen=True)
class WorldStep:
    """What one step of B worlds gives."""

    frames: np.ndarray
    """uint8 (B, H, W, 3), a fresh array."""
    rewards: np.ndarray | None = None
    """float32 (B,), None from a world that has no reward."""
    terminated: np.ndarray | None = None
    """bool (B,), None from a world that does not know its end."""


@dataclass(frozen=True)
class Option:
    """A setting of a world that may change while it is played."""

    value: Any
    description: str
    choices: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None


WorldState = Any
"""What `snapshot` gives and `restore` takes: opaque outside the world that made it."""


@runtime_checkable
class World(Protocol):
    """B games side by side, stepped together. Same starts, seeds and actions give the same frames."""

    @property
    def contract(self) -> WorldContract: ...

    @property
    def num_worlds(self) -> int: ...

    @property
    def options(self) -> Mapping[str, Option]: ...

    def set_option(self, name: str, value: Any) -> None:
        """Change a setting from the next step on; ValueError names the legal values."""
        ...

    def reset(self, starts: Sequence[StartState], seeds: Sequence[int], slots: Sequence[int] | None = None) -> None:
        """Put worlds into start states: all of them, or those in `slots`."""
        ...

    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        """One action (B,) a world, in the order of the slots."""
        ...

    def reconstruct(self, frames: np.ndarray) -> np.ndarray | None:
        """What the codec makes of real frames uint8 (N, H, W, 3): the ceiling; None where there is no codec."""
        ...

    def snapshot(self, slots: Sequence[int] | None = None) -> WorldState: ...

    def restore(self, state: WorldState, slots: Sequence[int] | None = None) -> None: ...

    def close(self) -> None: ...


def check_option(options: Mapping[str, Option], name: str, value: Any) -> None:
    """Raise ValueError when a world has no such option or the value is outside its choices or range."""
    if name not in options:
        raise ValueError(f"this world has no option {name!r}; it has: {', '.join(sorted(options)) or 'none'}")
    option = options[name]
    if option.choices is not None and value not in option.choices:
        raise ValueError(f"option {name}: expected one of {list(option.choices)}, got {value!r}")
    below = option.minimum is not None and value < option.minimum
    above = option.maximum is not None and value > option.maximum
    if below or above:
        raise ValueError(f"option {name}: expected {option.minimum} to {option.maximum}, got {value!r}")
