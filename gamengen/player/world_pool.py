"""Worlds of several sizes. Every client's game has one place in one of them, and those that step together are batched.

A World steps all of its slots at once, but clients come, pause and play at different speeds. So there is one world for
each size 1, 2, 4, ...; the games that are due are dealt out to worlds that they fill exactly, and move between places
by snapshot and restore. As long as the same games are due, none of them moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from gamengen.contract import WorldContract
from gamengen.world import Option, StartState, World, WorldState, WorldStep


@runtime_checkable
class KnowsItsEnd(Protocol):
    """A World whose games end by more than `terminated` says, such as a time limit or the end of a recording."""

    def ended(self) -> np.ndarray:
        """bool (B,)."""
        ...


@dataclass(eq=False)
class Game:
    """One client's game in the pool."""

    options: dict[str, Any] = field(default_factory=dict)
    """Values that the world has while this game is stepped."""
    place: tuple[int, int] | None = None
    """(size of its world, slot), None while it is parked."""
    parked: WorldState | None = None
    """Its state while it stands in no world."""
    number: int = 0
    """Order of arrival: the same games due, the same order, the same places."""


class WorldPool:
    """All worlds of one server. Used from one thread.

    Args:
        make_world: a world of that many slots; a snapshot of one must fit into another.
        largest: of the sizes 1, 2, 4, ... up to this one.
        progress: is told what is under way.
    """

    def __init__(
        self, make_world: Callable[[int], World], largest: int, progress: Callable[[str], object] = lambda text: None
    ) -> None:
        self._worlds: dict[int, World] = {}
        self._places: dict[int, list[Game | None]] = {}
        self._arrivals = 0
        size = 1
        while size <= largest:
            progress(f"making ready for {size} game{'s' if size > 1 else ''} at a time")
            self._worlds[size] = make_world(size)
            self._places[size] = [None] * size
            size *= 2
        # Asked once: looking at a protocol's methods takes longer than a cheap world's step.
        self._know_their_end = isinstance(self._worlds[1], KnowsItsEnd)
        self._defaults = {name: option.value for name, option in self._worlds[1].options.items()}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the worlds: 1, 2, 4, ..."""
        return tuple(self._worlds)

    @property
    def contract(self) -> WorldContract:
        """Of the worlds, which are alike."""
        return self._worlds[1].contract

    def options(self, game: Game) -> Mapping[str, Option]:
        """The world's options; their values are this game's."""
        self._apply(self._worlds[1], game)
        return self._worlds[1].options

    def new_game(self) -> Game:
        """A game without a state; `reset` gives it one."""
        self._arrivals += 1
        return Game(options=dict(self._defaults), number=self._arrivals)

    def set_option(self, game: Game, name: str, value: Any) -> None:
        """Change a setting of one game; ValueError says what is legal."""
        self._apply(self._worlds[1], game)
        self._worlds[1].set_option(name, value)
        game.options = {key: option.value for key, option in self._worlds[1].options.items()}

    def reset(self, game: Game, start: StartState, seed: int) -> None:
        """Put a game into a start state.

        Raises:
            ValueError: the state does not fit; the game stands where it stood.
        """
        self._vacate(1, 0)
        self._worlds[1].reset([start], [seed], [0])
        self._leave(game)
        self._settle(game, 1, 0)

    def step(self, games: Sequence[Game], actions: Sequence[int]) -> WorldStep:
        """Step games of equal options; arrays in the order of `games`.

        An error leaves the games of the failed batch without a state that can be relied on: restore them.
        """
        order = sorted(range(len(games)), key=lambda i: games[i].number)
        parts: list[tuple[list[int], WorldStep]] = []
        while order:
            size = max(size for size in self._worlds if size <= len(order))
            batch, order = order[:size], order[size:]
            world = self._gather(size, [games[i] for i in batch])
            parts.append((batch, world.step(np.array([actions[i] for i in batch], np.int64))))
        return _joined(parts, len(games))

    def ended(self, game: Game) -> bool:
        """Whether the game is over and its next step would begin another; False where the world cannot tell."""
        return self._know_their_end and bool(self.ask(game, "ended"))

    def ask(self, game: Game, name: str) -> Any:
        """What a world tells of a game by the method `name` (such as the console's `ram`), None where it has none."""
        if game.place is None:
            return None
        size, slot = game.place
        method = getattr(self._worlds[size], name, None)
        values = None if method is None else method()
        return None if values is None else values[slot]

    def snapshot(self, game: Game) -> WorldState:
        """The state of a game, for `restore`."""
        if game.place is None:
            return game.parked
        size, slot = game.place
        return self._worlds[size].snapshot([slot])

    def restore(self, game: Game, state: WorldState) -> None:
        """Put a game back; it enters a world when it is stepped."""
        self._leave(game)
        game.parked = state

    def drop(self, game: Game) -> None:
        """The game is over for good."""
        self._leave(game)
        game.parked = None

    def close(self) -> None:
        """Free all worlds."""
        for world in self._worlds.values():
            world.close()

    def _gather(self, size: int, games: Sequence[Game]) -> World:
        """The world of that size with exactly these games in its slots, in order, and their options set."""
        world = self._worlds[size]
        for slot, game in enumerate(games):
            if game.place == (size, slot):
                continue
            self._vacate(size, slot)
            state = self.snapshot(game)
            if state is None:
                raise ValueError("a game without a state was stepped; reset it first")
            world.restore(state, [slot])
            self._leave(game)
            self._settle(game, size, slot)
        self._apply(world, games[0])
        return world

    def _apply(self, world: World, game: Game) -> None:
        for name, value in game.options.items():
            if world.options[name].value != value:
                world.set_option(name, value)

    def _vacate(self, size: int, slot: int) -> None:
        resident = self._places[size][slot]
        if resident is not None:
            resident.parked = self._worlds[size].snapshot([slot])
            resident.place = None
            self._places[size][slot] = None

    def _leave(self, game: Game) -> None:
        if game.place is not None:
            size, slot = game.place
            self._places[size][slot] = None
            game.place = None

    def _settle(self, game: Game, size: int, slot: int) -> None:
        self._places[size][slot] = game
        game.place, game.parked = (size, slot), None


def _joined(parts: Sequence[tuple[list[int], WorldStep]], count: int) -> WorldStep:
    """Steps of several worlds as one, in the order of the games."""
    where = np.concatenate([batch for batch, _ in parts])
    order = np.empty(count, np.int64)
    order[where] = np.arange(count)
    steps = [step for _, step in parts]
    rewards = [step.rewards for step in steps if step.rewards is not None]
    terminated = [step.terminated for step in steps if step.terminated is not None]
    return WorldStep(
        np.concatenate([step.frames for step in steps])[order],
        np.concatenate(rewards)[order] if rewards else None,
        np.concatenate(terminated)[order] if terminated else None,
    )
