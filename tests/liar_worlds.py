"""Worlds built to fail, each in one way, over a world that does not: what an honest metric must catch.

Every liar wraps any World; over `EmulatorWorld` all that is wrong with it is its own lie.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from gamengen.contract import GameContract, WorldContract
from gamengen.dataset.episodes import Episode
from gamengen.evaluation.real_game import _LOADED
from gamengen.evaluation.recordings import Recordings
from gamengen.evaluation.study import Study
from gamengen.games.emulator import Emulator, make_game_contract
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.objects import GAMES, Look
from gamengen.rollout import random_actions
from gamengen.world import Option, StartState, World, WorldState, WorldStep


class Liar:
    """A world that shows another frame (`lie`) or plays another action (`heard`) than it should.

    Args:
        inner: the truth.
    """

    def __init__(self, inner: World) -> None:
        self.inner = inner
        self.last: list[np.ndarray] = [np.zeros(0, np.uint8)] * inner.num_worlds
        """What each slot showed last, its start state's newest frame before the first step: uint8 (H, W, 3)."""
        self.ages = [0] * inner.num_worlds
        """Steps since each slot's reset."""

    def lie(self, slot: int, frame: np.ndarray) -> np.ndarray:
        """What slot `slot` shows in place of the true frame, uint8 (H, W, 3)."""
        return frame

    def heard(self, actions: np.ndarray) -> np.ndarray:
        """The actions (B,) that are played in place of those given."""
        return actions

    @property
    def contract(self) -> WorldContract:
        return self.inner.contract

    @property
    def num_worlds(self) -> int:
        return self.inner.num_worlds

    @property
    def options(self) -> Mapping[str, Option]:
        return self.inner.options

    def set_option(self, name: str, value: Any) -> None:
        self.inner.set_option(name, value)

    def reset(self, starts: Sequence[StartState], seeds: Sequence[int], slots: Sequence[int] | None = None) -> None:
        self.inner.reset(starts, seeds, slots)
        for slot, start in zip(range(self.num_worlds) if slots is None else slots, starts, strict=True):
            self.last[slot], self.ages[slot] = start.frames[-1], 0

    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        true = self.inner.step(self.heard(np.asarray(actions)))
        for slot in range(self.num_worlds):
            self.ages[slot] += 1
            self.last[slot] = self.lie(slot, true.frames[slot])
        return WorldStep(np.stack(self.last), true.rewards, true.terminated)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray | None:
        return self.inner.reconstruct(frames)

    def snapshot(self, slots: Sequence[int] | None = None) -> WorldState:
        chosen = range(self.num_worlds) if slots is None else slots
        return self.inner.snapshot(slots), [(self.last[slot], self.ages[slot]) for slot in chosen]

    def restore(self, state: WorldState, slots: Sequence[int] | None = None) -> None:
        inner, own = state
        self.inner.restore(inner, slots)
        for slot, (last, age) in zip(range(self.num_worlds) if slots is None else slots, own, strict=True):
            self.last[slot], self.ages[slot] = last, age

    def close(self) -> None:
        self.inner.close()


class CopyLastFrame(Liar):
    """Shows the start state's newest frame for ever."""

    def lie(self, slot: int, frame: np.ndarray) -> np.ndarray:
        return self.last[slot]


class IgnoresActions(Liar):
    """The game goes on as if nobody touched it."""

    def heard(self, actions: np.ndarray) -> np.ndarray:
        return np.full_like(actions, self.contract.game.noop_action)


class Blurs(Liar):
    """Each frame is the mean over 7 x 7 pixels: what a world shows that hedges between many places."""

    width = 7

    def lie(self, slot: int, frame: np.ndarray) -> np.ndarray:
        half = self.width // 2
        total = np.pad(frame.astype(np.int32), [(half + 1, half), (half + 1, half), (0, 0)], mode="edge")
        total = total.cumsum(0).cumsum(1)
        w = self.width
        sums = total[w:, w:] - total[:-w, w:] - total[w:, :-w] + total[:-w, :-w]
        return np.asarray((sums / w**2).round(), np.uint8)


class DropsBall(Liar):
    """From the fifth frame on the ball is not drawn. Only for games of `objects.GAMES` with a ball."""

    from_frame = 5

    def lie(self, slot: int, frame: np.ndarray) -> np.ndarray:
        if self.ages[slot] < self.from_frame:
            return frame
        look: Look = GAMES[self.contract.game.env_id].objects["ball"]
        without, (left, right) = frame.copy(), look.columns
        for top, bottom in look.rows:
            band = without[top:bottom, left:right]
            band[(band == look.colour).all(-1)] = look.background
        return without


class Freezes(Liar):
    """Stands still after 100 frames."""

    after = 100

    def lie(self, slot: int, frame: np.ndarray) -> np.ndarray:
        return frame if self.ages[slot] <= self.after else self.last[slot]


class SwapsLeftAndRight(Liar):
    """Plays LEFT where RIGHT was pressed, LEFTFIRE where RIGHTFIRE was, and the other way round."""

    def heard(self, actions: np.ndarray) -> np.ndarray:
        meanings = [action.meaning for action in self.contract.game.actions]
        other = {"LEFT": "RIGHT", "RIGHT": "LEFT"}
        swapped = []
        for meaning in meanings:
            for side, opposite in other.items():
                if side in meaning:
                    swapped.append(meanings.index(meaning.replace(side, opposite)))
                    break
            else:
                swapped.append(meanings.index(meaning))
        return np.array(swapped)[actions]


LIARS: dict[str, Callable[[World], Liar]] = {
    "copies the last frame": CopyLastFrame,
    "ignores actions": IgnoresActions,
    "blurs": Blurs,
    "drops the ball": DropsBall,
    "freezes": Freezes,
    "swaps left and right": SwapsLeftAndRight,
}


def played_episode(game: GameContract, length: int, seed: int, *, split: str = "test") -> Episode:
    """A real episode (frames (length + 1, H, W, 3) or fewer where the game ends) under random held actions."""
    emulator = Emulator(game)
    actions = random_actions(game, length, seed)
    frames, rewards, terminated = [emulator.reset(seed)], [], False
    for action in actions:
        frame, reward, terminated, truncated = emulator.step(int(action))
        frames.append(frame)
        rewards.append(reward)
        if terminated or truncated:
            break
    emulator.close()
    return Episode(
        frames=np.stack(frames), actions=actions[: len(rewards)], rewards=np.array(rewards, np.float32),
        terminated=terminated, truncated=not terminated, episode_id=f"played-{seed}", stream_id=f"played-{seed}",
        index_in_stream=0, seed=seed, noop_starts=0, split=split, agent="random",
    )  # fmt: skip


def pong_study(world: World | None = None, *, num_worlds: int = 3, **fields: Any) -> Study:
    """Two short real episodes of Pong to measure `world` (the emulator itself by default) on.

    The emulators are shared: loading a console takes longer than what is measured with it.
    """
    world = _pong(num_worlds, "measured") if world is None else world
    return Study(world=world, **({"held_out": _pong_recordings(), "real_game": _pong} | fields))


@cache
def _pong(num_worlds: int, use: str = "truth") -> EmulatorWorld:
    return EmulatorWorld(make_game_contract("ALE/Pong-v5"), num_worlds)


@atexit.register
def _free_emulators() -> None:
    """The console's bindings complain about those that outlive the interpreter."""
    _LOADED.clear()
    _pong.cache_clear()


@cache
def _pong_recordings() -> Recordings:
    game = make_game_contract("ALE/Pong-v5")
    return Recordings.of([played_episode(game, 100, seed) for seed in (3, 4)])
