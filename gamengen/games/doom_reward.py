"""The reward of GameNGen's agent, from the counters of Doom."""

from __future__ import annotations

from typing import Any

UNIT = 1000.0
"""Rewards are given in kills: the paper's figures over this, so that they are of the order of 1."""
CELL = 128.0
"""Map units of one area. The paper does not say how it divides the map; a corridor of Doom is about this wide."""
_WEAPONS = tuple(f"WEAPON{n}" for n in range(10))
_AMMO = ("AMMO2", "AMMO3", "AMMO5", "AMMO6")
"""By weapon slot: bullets, shells, rockets, cells. Slots 4 and 7 shoot what 2 and 6 do and would count twice."""
_COUNTERS = {"HITS_TAKEN": -100, "HITCOUNT": 300, "KILLCOUNT": 1000, "ITEMCOUNT": 100, "SECRETCOUNT": 500}
_LEVELS = {"HEALTH": 10, "ARMOR": 10}


class DoomReward:
    """What one tic is worth, over `UNIT`.

    Player hit -100, death -5000, enemy hit 300, kill 1000, item or weapon 100, secret 500, a new area
    20 * (1 + 0.5 * its L1 distance from the start, in areas), health and armour 10 a point either way, ammunition
    10 a piece found and -1 a piece used.

    Source: GameNGen (arXiv 2408.14837), appendix A.5.

    Args:
        game: a `vizdoom.DoomGame`.
    """

    def __init__(self, game: Any) -> None:
        from vizdoom import GameVariable

        self._game = game
        names = (*_COUNTERS, *_LEVELS, *_WEAPONS, *_AMMO, "POSITION_X", "POSITION_Y")
        self._variables = {name: getattr(GameVariable, name) for name in names}
        self._before: dict[str, float] = {}
        self._start = (0, 0)
        self._seen: set[tuple[int, int]] = set()

    def begin(self) -> None:
        """The state that an episode begins in."""
        self._before = self._read()
        self._start = _area(self._before)
        self._seen = {self._start}

    def step(self, dead: bool) -> float:
        """The reward of the tic since the last call."""
        now, before = self._read(), self._before
        self._before = now
        gained = {name: now[name] - before[name] for name in now}
        total = sum(worth * max(0.0, gained[name]) for name, worth in _COUNTERS.items())
        total += sum(worth * gained[name] for name, worth in _LEVELS.items())
        total += 100 * sum(max(0.0, gained[name]) for name in _WEAPONS)
        total += sum(10 * max(0.0, gained[name]) + min(0.0, gained[name]) for name in _AMMO)
        area = _area(now)
        if area not in self._seen:
            self._seen.add(area)
            distance = abs(area[0] - self._start[0]) + abs(area[1] - self._start[1])
            total += 20 * (1 + 0.5 * distance)
        return (total - 5000 * dead) / UNIT

    def _read(self) -> dict[str, float]:
        return {name: float(self._game.get_game_variable(variable)) for name, variable in self._variables.items()}


def _area(values: dict[str, float]) -> tuple[int, int]:
    return int(values["POSITION_X"] // CELL), int(values["POSITION_Y"] // CELL)
