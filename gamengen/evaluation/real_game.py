"""The emulator that a study's metrics share: loading a console takes as long as hundreds of its frames."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from gamengen.evaluation.study import Study
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
