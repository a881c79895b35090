"""Play a World without a player: which actions, how many frames, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gamengen.contract import GameContract, check_actions
from gamengen.noise import key_of
from gamengen.world import StartState, World, WorldStep

Player = Callable[[np.ndarray], np.ndarray]
"""The newest frames of B games, uint8 (B, H, W, 3) -> their actions, int64 (B,)."""


@dataclass(frozen=True)
class Rollout:
    """What B worlds showed in T steps."""

    frames: np.ndarray
    """uint8 (B, T, H, W, 3): the frame after each action."""
    actions: np.ndarray
    """int64 (B, T)."""
    rewards: np.ndarray | None
    """float32 (B, T), None from a world without rewards."""
    terminated: np.ndarray | None
    """bool (B, T), None from a world that does not know its end."""


def rollout(
    world: World,
    starts: Sequence[StartState],
    seeds: Sequence[int],
    actions: np.ndarray,
    progress: Callable[[int], object] | None = None,
    *,
    reset: Callable[[], None] | None = None,
) -> Rollout:
    """Put the world into the start states and step it with the given actions.

    Args:
        starts, seeds: one a world.
        actions: int64 (B, T).
        progress: called with the number of frames made, after each.
        reset: puts the world into the start states in another way than `world.reset(starts, seeds)`.
    Raises:
        ValueError: shapes that do not fit the world, or an action outside its table.
    """
    if actions.ndim != 2 or actions.shape[0] != world.num_worlds or actions.shape[1] < 1:
        raise ValueError(f"rollout: expected actions ({world.num_worlds}, T) with T >= 1, got {actions.shape}")
    check_actions(actions.ravel(), world.contract.game, "rollout")
    _begin(world, starts, seeds, reset)
    steps = []
    for t in range(actions.shape[1]):
        steps.append(world.step(actions[:, t]))
        if progress is not None:
            progress(t + 1)
    return _stacked(steps, actions)


def play(
    world: World,
    starts: Sequence[StartState],
    seeds: Sequence[int],
    player: Player,
    num_frames: int,
    progress: Callable[[int], object] | None = None,
    *,
    reset: Callable[[], None] | None = None,
) -> Rollout:
    """Put the world into the start states and let somebody play it who answers to what it shows.

    A decision is held for as many frames as the game's recorded ones were, on average.

    Args:
        starts, seeds: one a world.
        player: such as `objects.Follower`.
        progress, reset: as for `rollout`.
    """
    hold = max(1, round(sum(world.contract.game.hold) / 2))
    _begin(world, starts, seeds, reset)
    newest = np.stack([start.frames[-1] for start in starts])
    steps: list[WorldStep] = []
    actions: list[np.ndarray] = []
    for t in range(num_frames):
        actions.append(player(newest) if t % hold == 0 else actions[-1])
        steps.append(world.step(actions[-1]))
        newest = steps[-1].frames
        if progress is not None:
            progress(t + 1)
    return _stacked(steps, np.stack(actions, axis=1))


def _begin(world: World, starts: Sequence[StartState], seeds: Sequence[int], reset: Callable[[], None] | None) -> None:
    if reset is None:
        world.reset(starts, seeds)
    else:
        reset()


def _stacked(steps: Sequence[WorldStep], actions: np.ndarray) -> Rollout:
    rewards = [step.rewards for step in steps if step.rewards is not None]
    terminated = [step.terminated for step in steps if step.terminated is not None]
    return Rollout(
        np.stack([step.frames for step in steps], axis=1),
        actions,
        np.stack(rewards, axis=1) if rewards else None,
        np.stack(terminated, axis=1) if terminated else None,
    )


def choose_actions(
    source: str, starts: Sequence[StartState], game: GameContract, num_frames: int, seed: int
) -> np.ndarray:
    """int64 (B, T) actions of a rollout.

    Args:
        source: `recorded` (what the recorded player did next; the no-op when the recording ends), `random` (a new
            action every 1 to 8 frames, as a human would), `noop`, or action ids and names such as `3,3,3,LEFT`
            (repeated to the end).
    Raises:
        ValueError: names what is legal, or the start state without recorded actions.
    """
    if source == "recorded":
        return np.stack([_recorded(start, game, num_frames) for start in starts])
    if source == "random":
        return np.stack([random_actions(game, num_frames, key_of("actions", seed, b)) for b in range(len(starts))])
    if source == "noop":
        return np.full((len(starts), num_frames), game.noop_action, dtype=np.int64)
    given = np.array([action_id(text.strip(), game) for text in source.split(",")], dtype=np.int64)
    return np.tile(np.resize(given, num_frames), (len(starts), 1))


def random_actions(game: GameContract, num_frames: int, seed: int, longest_hold: int = 8) -> np.ndarray:
    """int64 (T,): uniformly drawn actions, each held for 1 to `longest_hold` frames."""
    generator = np.random.default_rng(seed)
    actions: list[int] = []
    while len(actions) < num_frames:
        actions += [int(generator.integers(game.num_actions))] * int(generator.integers(1, longest_hold + 1))
    return np.array(actions[:num_frames], dtype=np.int64)


def action_id(text: str, game: GameContract) -> int:
    """The id of an action given by id or by meaning; ValueError lists the table."""
    meanings = [action.meaning for action in game.actions]
    # As written first: a game may tell `jump` from `JUMP`.
    for spell in (str, str.upper):
        spelled = [spell(meaning) for meaning in meanings]
        if spell(text) in spelled:
            return spelled.index(spell(text))
    if text.isdecimal() and int(text) < len(meanings):
        return int(text)
    table = ", ".join(f"{i} {meaning}" for i, meaning in enumerate(meanings))
    raise ValueError(
        f"--actions: {text!r} is neither `recorded`, `random`, `noop`, `follow` nor an action of {game.env_id}: {table}"
    )


def _recorded(start: StartState, game: GameContract, num_frames: int) -> np.ndarray:
    if start.future_actions is None:
        raise ValueError(
            f"start state {start.name!r} has no recorded actions after it; choose --actions random, noop or a list"
        )
    actions = np.full(num_frames, game.noop_action, dtype=np.int64)
    known = start.future_actions[:num_frames]
    actions[: len(known)] = known
    return actions
