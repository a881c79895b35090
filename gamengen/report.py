"""One table that says how good a world is: next frames, objects in rollouts, speed. Knows only the World protocol."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gamengen.metrics import SquaredError, copy_last_frame, moving_pixels
from gamengen.noise import key_of
from gamengen.objects import GAMES, Track, read_objects
from gamengen.world import StartState, World

STEPS_OPTION = "num_inference_steps"
WARM_UP_STEPS = 3
TIMED_STEPS = 20
MARKS = (8, 16, 32, 64)
"""Rollout frames up to which errors are given apart."""

Table = dict[str, Any]
Place = tuple[int, int]
"""An episode's number and t: the last frame that the world sees is `frames[t]`."""


class Recorded(Protocol):
    """What the table needs of an episode."""

    @property
    def frames(self) -> npt.NDArray[np.uint8]: ...

    @property
    def actions(self) -> npt.NDArray[np.int64]: ...


def world_table(
    world: World,
    episodes: Sequence[Recorded],
    *,
    num_starts: int,
    horizon: int,
    seed: int,
    steps: Sequence[int] = (1, 4),
    play_world: World | None = None,
) -> Table:
    """Measure a world on held-out episodes.

    Args:
        episodes: frames uint8 (T + 1, H, W, 3) and actions (T,) each, of the world's game.
        num_starts: next frames that are predicted, drawn from all frames of all episodes by `seed`.
        horizon: frames of a rollout, one rollout a world; no more than the longest episode has.
        steps: denoising steps to compare; a world without that option is measured once.
        play_world: the same world with one slot, for the speed of play; without it that of `world` is measured.
    Returns:
        JSON values. `next_frame`: PSNR in dB of the mean squared error, over all pixels and over those that move
        in the real game, of the world, of copying the last frame and of the codec (the ceiling). `objects`, where
        `objects.py` knows the game: see `object_errors`. `play_fps`: steps a second.
    Raises:
        ValueError: no episode has a step.
    """
    places = [(number, t) for number, episode in enumerate(episodes) for t in range(len(episode.actions))]
    if not places or num_starts < 1 or horizon < 1:
        raise ValueError(
            f"expected episodes with at least one step, num_starts and horizon from 1 up, got {len(episodes)} episodes "
            f"with {len(places)} steps, num_starts {num_starts}, horizon {horizon}"
        )
    random = np.random.default_rng(key_of("report", seed))
    chosen = [places[i] for i in sorted(random.choice(len(places), min(num_starts, len(places)), replace=False))]
    length = min(horizon, max(len(episode.actions) for episode in episodes))
    long_enough = [(number, t) for number, t in places if t + length <= len(episodes[number].actions)]
    starts = [long_enough[i] for i in random.choice(len(long_enough), world.num_worlds)]
    table: Table = {
        "num_starts": len(chosen),
        "horizon": length,
        "num_rollouts": len(starts),
        "next_frame": _baselines(world, episodes, chosen),
        "play_fps": {"num_worlds": (play_world or world).num_worlds},
    }
    known = world.contract.game.env_id in GAMES
    if known:
        table["objects"] = {}
    for label, select in _settings(world, steps):
        with select(world):
            table["next_frame"][label] = next_frame_psnr(world, episodes, chosen, seed)
            if known:
                table["objects"][label] = object_errors(world, episodes, starts, length, seed)
        with select(play_world or world):
            table["play_fps"][label] = play_fps(play_world or world, episodes, starts[0], seed)
    return table


def next_frame_psnr(world: World, episodes: Sequence[Recorded], places: Sequence[Place], seed: int) -> Table:
    """Teacher-forced: from real frames up to t and the real action, how near is the predicted frame t + 1?"""
    errors = _Errors()
    size = world.num_worlds
    for first in range(0, len(places), size):
        batch = list(places[first : first + size])
        filled = batch + batch[-1:] * (size - len(batch))  # every slot needs a game
        world.reset(
            [start_state(episodes[number], t, world.contract.context_length) for number, t in filled],
            [key_of("report", seed, first + slot) for slot in range(size)],
        )
        predicted = world.step(np.array([episodes[number].actions[t] for number, t in filled])).frames
        for (number, t), frame in zip(batch, predicted, strict=False):
            errors.add(episodes[number].frames[t : t + 2], frame)
    return errors.table()


def object_errors(
    world: World, episodes: Sequence[Recorded], starts: Sequence[Place], horizon: int, seed: int
) -> dict[str, Table]:
    """Roll out with the recorded actions and compare the objects with the recording's.

    Returns:
        For each object of the game: `error_px` (mean distance in native pixels, along its own axis for what the
        actions move), `error_px_to_N` over the first N frames, `seen` (share of frames with it among those where the
        recording has it), `false` (share among those where it has not), and `still_px`, the error of an object that
        stays where it was at the start.
    """
    env_id = world.contract.game.env_id
    world.reset(
        [start_state(episodes[number], t, world.contract.context_length) for number, t in starts],
        [key_of("report", seed, slot) for slot in range(len(starts))],
    )
    shown = []
    for offset in range(horizon):
        shown.append(world.step(np.array([episodes[number].actions[t + offset] for number, t in starts])).frames)
    pairs: dict[str, list[tuple[Track, Track]]] = {name: [] for name in GAMES[env_id].objects}
    for slot, (number, t) in enumerate(starts):
        dream = read_objects(np.stack([frames[slot] for frames in shown]), env_id)
        real = read_objects(episodes[number].frames[t : t + horizon + 1], env_id)
        for name, tracks in pairs.items():
            tracks.append((real[name], dream[name]))
    own, axis = GAMES[env_id].own, GAMES[env_id].own_axis
    return {name: _object_table(tracks, axis if name == own else None) for name, tracks in pairs.items()}


def play_fps(world: World, episodes: Sequence[Recorded], start: Place, seed: int) -> float:
    """Steps a second, by the median step."""
    number, t = start
    episode = episodes[number]
    world.reset(
        [start_state(episode, t, world.contract.context_length)] * world.num_worlds,
        [key_of("report", seed, slot) for slot in range(world.num_worlds)],
    )
    seconds = []
    for count in range(WARM_UP_STEPS + TIMED_STEPS):
        action = episode.actions[(t + count) % len(episode.actions)]
        began = time.perf_counter()
        world.step(np.full(world.num_worlds, action))
        seconds.append(time.perf_counter() - began)
    return 1 / max(statistics.median(seconds[WARM_UP_STEPS:]), 1e-9)


def start_state(episode: Recorded, t: int, context_length: int) -> StartState:
    """What a world may see before it predicts `frames[t + 1]`: at most L frames, ending with `frames[t]`."""
    first = max(0, t - context_length + 1)
    return StartState(episode.frames[first : t + 1], episode.actions[first:t], name=f"frame {t}")


def print_table(table: Table) -> None:
    """The table of `world_table` for people."""
    print(f"next frame, {table['num_starts']} held-out frames {'PSNR':>12} {'moving pixels':>15}")
    for label, row in table["next_frame"].items():
        print(f"  {label:<32} {_text(row['psnr'], 'dB'):>10} {_text(row['moving_psnr'], 'dB'):>15}")
    for label, objects in table.get("objects", {}).items():
        print(f"{table['num_rollouts']} rollouts of {table['horizon']} frames with recorded actions, {label}")
        print(f"  {'object':<20} {'error':>10} {'standing still':>15} {'seen':>7} {'false':>7}")
        for name, row in objects.items():
            error, still = _text(row["error_px"], "px"), _text(row["still_px"], "px")
            print(f"  {name:<20} {error:>10} {still:>15} {_text(row['seen']):>7} {_text(row['false']):>7}")
    fps = dict(table["play_fps"])
    print(f"frames a second, {fps.pop('num_worlds')} game(s) at once")
    for label, value in fps.items():
        print(f"  {label:<20} {value:.1f}")


class _Errors:
    """Squared errors over all pixels and over the moving ones."""

    def __init__(self) -> None:
        self.all, self.moving = SquaredError(), SquaredError()

    def add(self, real: npt.NDArray[np.uint8], predicted: npt.NDArray[np.uint8]) -> None:
        """`real` holds frames t and t + 1, `predicted` the world's frame t + 1."""
        self.all.add(real[1], predicted)
        self.moving.add(real[1], predicted, moving_pixels(real[0], real[1]))

    def table(self) -> Table:
        return {"psnr": self.all.psnr, "moving_psnr": self.moving.psnr}


def _baselines(world: World, episodes: Sequence[Recorded], places: Sequence[Place]) -> Table:
    copied, codec = _Errors(), _Errors()
    for number, t in places:
        real = episodes[number].frames[t : t + 2]
        copied.add(real, copy_last_frame(real)[0])
        through = world.reconstruct(real[1:])
        if through is not None:
            codec.add(real, through[0])
    table = {"copy last frame": copied.table()}
    return table | ({"codec (ceiling)": codec.table()} if codec.all.count else {})


Select = Callable[[World], contextlib.AbstractContextManager[None]]


def _settings(world: World, steps: Sequence[int]) -> list[tuple[str, Select]]:
    """Each setting to measure: its name, and a context in which a world has it."""

    def select(value: int | None) -> Select:
        @contextlib.contextmanager
        def selected(chosen: World) -> Iterator[None]:
            if value is None:
                yield
                return
            before = chosen.options[STEPS_OPTION].value
            chosen.set_option(STEPS_OPTION, value)
            try:
                yield
            finally:
                chosen.set_option(STEPS_OPTION, before)

        return selected

    if STEPS_OPTION not in world.options:
        return [("world", select(None))]
    return [(f"{value} step{'' if value == 1 else 's'}", select(value)) for value in steps]


def _object_table(tracks: Sequence[tuple[Track, Track]], axis: str | None) -> Table:
    """`tracks` are (real with its start frame, dream) of each rollout; `axis` limits the distance to y or x."""
    real = [np.stack([first.y, first.x]) for first, _ in tracks]
    truth = np.stack([positions[:, 1:] for positions in real])  # (B, 2, T)
    start = np.stack([positions[:, :1] for positions in real])
    dream = np.stack([np.stack([second.y, second.x]) for _, second in tracks])
    rows = {"y": [0], "x": [1]}.get(axis or "", [0, 1])
    distance = np.sqrt(((dream - truth)[:, rows] ** 2).sum(1))  # (B, T), NaN where either is absent
    still = np.sqrt(((start - truth)[:, rows] ** 2).sum(1))
    there, shown = ~np.isnan(truth[:, 0]), ~np.isnan(dream[:, 0])
    table = {"error_px": _mean(distance)}
    table |= {f"error_px_to_{mark}": _mean(distance[:, :mark]) for mark in MARKS if mark <= distance.shape[1]}
    return table | {"still_px": _mean(still), "seen": _mean(shown[there]), "false": _mean(shown[~there])}


def _mean(values: npt.NDArray[Any]) -> float | None:
    """Mean of what is not NaN; None of nothing."""
    known = values[~np.isnan(values.astype(float))]
    return float(known.mean()) if known.size else None


def _text(value: float | None, unit: str = "") -> str:
    return "-" if value is None else f"{value:.2f} {unit}".rstrip()
