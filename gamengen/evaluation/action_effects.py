"""Which actions of a game do the same: measured in the real game, never taken from their names.

Pong's FIRE is an example of why: it does nothing but in the moment in which the paddle meets the ball.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from gamengen.contract import GameContract
from gamengen.evaluation.real_game import real_game
from gamengen.evaluation.recordings import Place, Recordings
from gamengen.evaluation.study import Study
from gamengen.noise import key_of
from gamengen.world import StartState, World

EPISODES, STATES_OF_AN_EPISODE = 4, 8
"""Where the effects are measured."""
SAME_SHARE = 0.9
"""Of the states: actions that lead to the same frames in so many of them are one for a reader of actions."""


@dataclass(frozen=True)
class ActionEffects:
    """The actions of a game in groups of the same effect."""

    groups: tuple[tuple[int, ...], ...]
    """Action ids, every action in one group; groups and ids ascending."""
    num_states: int
    """Real states in which they were tried; 0: not measured, each stands alone."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """(A,) the group of each action."""
        labels = np.zeros(sum(len(group) for group in self.groups), np.int64)
        for number, group in enumerate(self.groups):
            labels[list(group)] = number
        return labels

    def names(self, game: GameContract) -> list[str]:
        """What the groups are called, such as `RIGHT = RIGHTFIRE`."""
        return [" = ".join(game.actions[action].meaning for action in group) for group in self.groups]


def unmeasured_effects(game: GameContract) -> ActionEffects:
    """Every action a group of its own: all that can be said without the real game."""
    return ActionEffects(tuple((action,) for action in range(game.num_actions)), 0)


def measure_effects(emulator: World, starts: Sequence[StartState], num_frames: int = 6) -> ActionEffects:
    """Press every action once in the same real states: those that lead to the same frames have one effect.

    Args:
        emulator: of any number of slots.
        starts: states with a replay.
        num_frames: frames that are compared; after the first action all go on with the no-op.
    Returns:
        Groups in which every action does in at least `SAME_SHARE` of the states what the group's first action does.
    """
    game = emulator.contract.game
    same = np.zeros((game.num_actions, game.num_actions))
    size = emulator.num_worlds
    for first in range(0, len(starts), size):
        batch = list(starts[first : first + size])
        emulator.reset(batch + batch[-1:] * (size - len(batch)), [0] * size)
        before = emulator.snapshot()
        shown = []
        for action in range(game.num_actions):
            emulator.restore(before)
            pressed = [action] + [game.noop_action] * (num_frames - 1)
            shown.append(np.stack([emulator.step([a] * size).frames[: len(batch)] for a in pressed], axis=1))
        for one in range(game.num_actions):
            for other in range(game.num_actions):
                same[one, other] += (shown[one] == shown[other]).all((1, 2, 3, 4)).sum()
    return ActionEffects(_groups(same / max(1, len(starts)) >= SAME_SHARE), len(starts))


def _groups(same: npt.NDArray[np.bool_]) -> tuple[tuple[int, ...], ...]:
    """Every action joins the first group whose first action it does the same as."""
    groups: list[list[int]] = []
    for action in range(len(same)):
        found = next((group for group in groups if same[group[0], action]), None)
        if found is None:
            groups.append([action])
        else:
            found.append(action)
    return tuple(tuple(group) for group in groups)


_KNOWN: WeakKeyDictionary[Recordings, ActionEffects] = WeakKeyDictionary()


def effects_of(study: Study) -> ActionEffects:
    """The effects of the study's game, measured once in states of held-out episodes; not measured without the game."""
    emulator = real_game(study)
    if emulator is None:
        return unmeasured_effects(study.game)
    if study.held_out not in _KNOWN:
        starts = [excerpt.start for excerpt in study.excerpts(states_together(study, EPISODES), 0)]
        _KNOWN[study.held_out] = measure_effects(emulator, starts)
    return _KNOWN[study.held_out]


def states_together(study: Study, num_episodes: int) -> list[Place]:
    """Eight held-out states of each of few episodes, together: those of one episode are reached by one replay."""
    rng = np.random.default_rng(key_of("action effects", study.seed))
    lengths = study.held_out.lengths
    names = [sorted(lengths)[i] for i in rng.permutation(len(lengths))[:num_episodes]]
    return [
        Place(name, int(frame))
        for name in names
        for frame in sorted(rng.integers(max(1, lengths[name]), size=STATES_OF_AN_EPISODE))
    ]
