"""The emulator that a study's metrics share: loading a console takes as long as hundreds of its frames."""

from __future__ import annotations

import functools
from collections.abc import Callable
from weakref import WeakKeyDictionary

import gymnasium

from gamengen.contract import GameContract
from gamengen.dataset.episodes import NO_SEED
from gamengen.evaluation.recordings import Recordings
from gamengen.evaluation.study import Study
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.world import World

_LOADED: WeakKeyDictionary[Callable[[int], World], dict[int, World]] = WeakKeyDictionary()


def real_game(study: Study, num_worlds: int | None = None) -> World | None:
    """The real game with so many slots (as many as the study's world), made once; None where it cannot be had.

    It lives as long as `study.real_game`, and is in no state: reset it.
    """
    if study.real_game is None:
        return None
    worlds = _LOADED.setdefault(study.real_game, {})
    slots = study.world.num_worlds if num_worlds is None else num_worlds
    if slots not in worlds:
        worlds[slots] = study.real_game(slots)
    return worlds[slots]


def find_real_game(game: GameContract, held_out: Recordings) -> Callable[[int], World] | None:
    """What makes the emulator for as many games as are asked for, as `Study.real_game` is.

    None, and a printed word, where it is not at hand or cannot stand in the held-out states: episodes without a seed
    (imported ones), an emulator of another version.
    """
    try:
        seedless = [name for name, (seed, _) in held_out.seeds.items() if seed == NO_SEED]
        if seedless:
            raise ValueError(f"episode {seedless[0]} has no seed, so no emulator can replay it")
        emulator = EmulatorWorld(game, 1)
        try:
            (place,) = held_out.places(1, 0, 0)
            emulator.reset([held_out.excerpt(place, 1, 0).start], [0])
        finally:
            emulator.close()
    except (ImportError, ValueError, gymnasium.error.Error) as error:
        print(f"without the real game to compare with: {error}")
        return None
    return functools.partial(EmulatorWorld, game)
