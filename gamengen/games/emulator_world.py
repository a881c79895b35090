"""The real game as a World: the truth that a dream is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gamengen.codecs.codec import IdentityCodec
from gamengen.contract import GameContract, WorldContract, check_actions
from gamengen.games.emulator import Emulator
from gamengen.noise import key_of
from gamengen.world import Option, StartState, WorldState, WorldStep, check_option


@dataclass
class _Game:
    """How one world came to where it stands."""

    world_seed: int
    num_restarts: int
    episode_seed: int
    noop_starts: int
    actions: list[int]
    """Since the episode's first frame."""
    ended: bool


class EmulatorWorld:
    """`num_worlds` real games. A start state is reached by replaying it, so it needs its `replay`.

    After the step that gave an episode's true last frame, the next step gives the first frame of a new game,
    whatever the action is: the same order as inside a recorder's stream. The new game is seeded from
    (the world's seed, how many games it has begun).
    """

    def __init__(self, game: GameContract, num_worlds: int = 1) -> None:
        self._contract = WorldContract(codec=IdentityCodec(game).contract, kind="emulator", context_length=1)
        self._emulators = [Emulator(game) for _ in range(num_worlds)]
        self._games: list[_Game | None] = [None] * num_worlds

    @property
    def contract(self) -> WorldContract:
        """Identity codec: its arrays are the frames."""
        return self._contract

    @property
    def num_worlds(self) -> int:
        """B."""
        return len(self._emulators)

    @property
    def options(self) -> Mapping[str, Option]:
        """None: the real game has no settings that may change while it is played."""
        return {}

    def set_option(self, name: str, value: Any) -> None:
        """Always a ValueError."""
        check_option(self.options, name, value)

    def reset(self, starts: Sequence[StartState], seeds: Sequence[int], slots: Sequence[int] | None = None) -> None:
        """Put worlds into start states by replay.

        Raises:
            ValueError: a state without replay, or whose replay ends at another frame than it holds.
        """
        plans = []
        for slot, start, seed in zip(self._slots(slots), starts, seeds, strict=True):
            start.check(self._contract.game)
            if start.replay is None:
                raise ValueError(
                    f"start state {start.name!r} has no replay (seed and actions since reset), so the emulator "
                    "cannot be put into it; use states from recorded episodes"
                )
            replay = start.replay
            check_actions(replay.actions, self._contract.game, f"replay of {start.name!r}")
            actions = [int(action) for action in replay.actions]
            plans.append((_Game(seed, 0, replay.seed, replay.noop_starts, actions, False), slot, start))
        # States of one episode one after the other: each goes on where the one before it stands.
        plans.sort(key=lambda plan: (plan[0].episode_seed, plan[0].noop_starts, len(plan[0].actions)))
        before: int | None = None
        for game, slot, start in plans:
            self._play(slot, game, start.name, before)
            before = slot
            if not np.array_equal(self._emulators[slot].frame(), start.frames[-1]):
                raise ValueError(
                    f"start state {start.name!r}: its replay ends at another frame than the state holds; "
                    "the game or its emulator is of another version than the recording's"
                )

    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        """One recorded-stream step of every world; rewards and terminated are the game's own.

        A truncation by the environment (a time limit) restarts the game too, but is not `terminated`.
        """
        if len(actions) != self.num_worlds:
            raise ValueError(f"expected {self.num_worlds} actions, one a world, got {len(actions)}")
        check_actions(actions, self._contract.game, "step")
        steps = [self._step(slot, int(action)) for slot, action in enumerate(actions)]
        return WorldStep(
            frames=np.stack([frame for frame, _, _ in steps]),
            rewards=np.array([reward for _, reward, _ in steps], np.float32),
            terminated=np.array([terminated for _, _, terminated in steps], bool),
        )

    def reconstruct(self, frames: np.ndarray) -> np.ndarray | None:
        """None: there is no codec."""
        return None

    def ram(self) -> np.ndarray | None:
        """The consoles' memories, uint8 (B, 128); None for other games. For evaluation."""
        memories = [emulator.ram() for emulator in self._emulators]
        return None if any(ram is None for ram in memories) else np.stack([ram for ram in memories if ram is not None])

    def lives(self) -> list[int | None]:
        """Lives left, one a world; None where the game has no such count."""
        return [emulator.lives() for emulator in self._emulators]

    def ended(self) -> np.ndarray:
        """bool (B,): the episode is over, by its own rules or by a time limit; the next step begins another."""
        return np.array([game is not None and game.ended for game in self._games], bool)

    def snapshot(self, slots: Sequence[int] | None = None) -> WorldState:
        """The state of worlds, for `restore` of this or any other world of the same game in this process."""
        return [(_copy(self._game(slot)), self._emulators[slot].clone()) for slot in self._slots(slots)]

    def restore(self, state: WorldState, slots: Sequence[int] | None = None) -> None:
        """Put worlds back to a snapshot; games that cannot be cloned are replayed."""
        for slot, (game, clone) in zip(self._slots(slots), state, strict=True):
            if clone is None:
                self._play(slot, _copy(game), "snapshot", None)
            else:
                self._emulators[slot].restore(clone)
                self._games[slot] = _copy(game)

    def close(self) -> None:
        """Free the games."""
        for emulator in self._emulators:
            emulator.close()

    def _step(self, slot: int, action: int) -> tuple[np.ndarray, float, bool]:
        game, emulator = self._game(slot), self._emulators[slot]
        if game.ended:
            rng = np.random.default_rng(key_of("restart", game.world_seed, game.num_restarts))
            seed, noop_starts = int(rng.integers(1 << 31)), int(rng.integers(self._contract.game.noop_start_max + 1))
            self._games[slot] = _Game(game.world_seed, game.num_restarts + 1, seed, noop_starts, [], False)
            return emulator.reset(seed, noop_starts), 0.0, False
        frame, reward, terminated, truncated = emulator.step(action)
        game.actions.append(action)
        game.ended = terminated or truncated
        return frame, reward, terminated

    def _play(self, slot: int, game: _Game, name: str, before: int | None) -> None:
        """Replay in a slot, from where the slot `before` stands if that is on the way."""
        emulator, ended, first = self._emulators[slot], False, 0
        other = None if before is None else self._games[before]
        clone = None if before is None else self._emulators[before].clone()
        if clone is not None and other is not None and _is_on_the_way(other, game):
            emulator.restore(clone)
            ended, first = other.ended, len(other.actions)
        else:
            emulator.reset(game.episode_seed, game.noop_starts)
        for position, action in enumerate(game.actions[first:], first):
            if ended:
                raise ValueError(f"{name}: the game ends before its action {position}; another version?")
            _, terminated, truncated = emulator.advance(action)
            ended = terminated or truncated
        game.ended = ended
        self._games[slot] = game

    def _game(self, slot: int) -> _Game:
        game = self._games[slot]
        if game is None:
            raise ValueError(f"world {slot} has no start state yet; call reset first")
        return game

    def _slots(self, slots: Sequence[int] | None) -> Sequence[int]:
        return range(self.num_worlds) if slots is None else slots


def _is_on_the_way(other: _Game, game: _Game) -> bool:
    same = (other.episode_seed, other.noop_starts) == (game.episode_seed, game.noop_starts)
    return same and game.actions[: len(other.actions)] == other.actions


def _copy(game: _Game) -> _Game:
    return replace(game, actions=list(game.actions))
