"""Do, undo, compare: does the dream come back when an action is taken back?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.action_effects import EPISODES, effects_of, states_together
from gamengen.evaluation.figures import Figures, Measure, Sample, Values
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.real_game import real_game
from gamengen.evaluation.recordings import Excerpt, Place, Recordings
from gamengen.evaluation.responses import branches, inner, response
from gamengen.evaluation.section import Clip, Section, Table
from gamengen.evaluation.study import Setting, Study
from gamengen.noise import key_of
from gamengen.world import World

REAL = "real game"
WENT = 0.5
"""Of the real game's way: a dream that went less far did not go."""
BACK = 0.5
"""Of the way out: what may be left of it, on top of what the real game leaves, for a dream that came back."""

Pair = tuple[int, int]
Holds = tuple[int, int, int]
"""Frames of the action, of the one that undoes it, and of the no-op after them."""


@dataclass(frozen=True, kw_only=True)
class Stability:
    """An action is held, then the one that undoes it; the no-op's course in the same world says what would be anyway.

    Source: World Stability (arXiv 2503.08122): actions, then their inverses, and the end compared with the start.
    Departures: which actions undo each other is measured in the real game; frames are compared with those of the same
    world under the no-op, so that what moves by itself does not count; a world that never went gets no credit for
    being where it was.
    """

    settings: Sequence[Setting] = (Setting("world"),)
    num_starts: int = 24
    hold_seconds: float = 0.13
    """Of the way out, and of the way back: short, so that nothing meets a wall."""
    wait_seconds: float = 0.2
    """Of no-ops after them: a game may answer late."""
    share: float = 1.0

    name = "stability"

    @property
    def measures(self) -> Mapping[str, Measure]:
        """See `_EXPLANATION`."""
        return {
            "round_trip": Measure(title="went and came back", is_share=True),
            "went": Measure(title="way out, share of the real game's", better=""),
            "left": Measure(title="left of the way out after the way back, where it went", better=""),
        }

    @property
    def ranked_by(self) -> Sequence[str]:
        return [f"{setting.label}/round_trip" for setting in self.settings]

    def missing(self, study: Study) -> str | None:
        """It needs the real game, and actions that undo each other there."""
        if study.real_game is None:
            return "the real game is not at hand, and only it knows which actions undo each other"
        if not _undoing(study, self._holds(study)):
            return f"no two actions of {study.game.env_id} undo each other"
        return None

    def parts(self, study: Study) -> Sequence[Part]:
        """Batches of places."""
        return batch_parts(study, study.held_out.places(self.num_starts, 1, study.seed, first_frame=1))

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Both courses in the real game and in the dream."""
        emulator = real_game(study)
        assert emulator is not None
        excerpts, trips = study.excerpts(part.places, 0), self._trips(study, part.places)
        truth = self._ways(study, emulator, excerpts, trips)
        values: list[dict[str, Values]] = [{} for _ in excerpts]
        for row, found in enumerate(_judged(truth, truth)):
            values[row] |= {f"{REAL}/{name}": value for name, value in found.items()}
        for setting in self.settings:
            with study.using(setting) as world:
                dream = self._ways(study, world, excerpts, trips)
            for row, found in enumerate(_judged(dream, truth)):
                values[row] |= {f"{setting.label}/{name}": value for name, value in found.items()}
        return [Sample(p.episode, p.frame, v) for p, v in zip(part.places, values, strict=True)]

    def sections(self, figures: Figures) -> list[Section]:
        """One table."""
        labels = [label for label in (REAL, *(s.label for s in self.settings)) if f"{label}/went" in figures]
        names = list(self.measures)
        table = Table(
            ["world", *(self.measures[name].title for name in names)],
            [(label, [figures.get(f"{label}/{name}") for name in names]) for label in labels],
        )
        return [Section("Stability: do, undo, compare", _EXPLANATION, [table])]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """The way out and back, beside the real game."""
        emulator = real_game(study)
        assert emulator is not None
        excerpts, trips = study.excerpts([place], 0), self._trips(study, [place])
        panels = {"real game": branches(study, emulator, excerpts, [trips])[0][0]}
        setting = next(s for s in self.settings if s.label == path.split("/")[0])
        with study.using(setting) as world:
            panels["dream"] = branches(study, world, excerpts, [trips])[0][0]
        return Clip(panels, trips[0])

    def _holds(self, study: Study) -> Holds:
        hold, wait = (math.ceil(s * study.game.fps - 1e-9) for s in (self.hold_seconds, self.wait_seconds))
        return hold, hold, wait

    def _trips(self, study: Study, places: Sequence[Place]) -> npt.NDArray[np.int64]:
        """(n, T): an action, then the one that undoes it, then the no-op."""
        holds = self._holds(study)
        pairs = _undoing(study, holds)
        rngs = [np.random.default_rng(key_of("undo", study.seed, p.episode, p.frame)) for p in places]
        chosen = [pairs[int(rng.integers(len(pairs)))] for rng in rngs]
        return np.stack([np.repeat([*pair, study.game.noop_action], holds) for pair in chosen])

    def _ways(
        self, study: Study, world: World, excerpts: Sequence[Excerpt], trips: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """(n, T, h, w, 3): what the trip changes, against the no-op."""
        gone, idle = branches(study, world, excerpts, [trips, np.full_like(trips, study.game.noop_action)])
        return response(gone, idle)


def undoing_pairs(study: Study, emulator: World, excerpts: Sequence[Excerpt], holds: Holds) -> list[Pair]:
    """Pairs (action, the one that undoes it): at most half of what they changed on the way is left in the median state.

    Args:
        excerpts: real states.
    """
    noop = study.game.noop_action
    actions = [group[0] for group in effects_of(study).groups if noop not in group]
    pairs = [(one, other) for one in actions for other in actions if one != other]
    left: list[list[float]] = [[] for _ in pairs]
    for first in range(0, len(excerpts), emulator.num_worlds):
        batch = excerpts[first : first + emulator.num_worlds]
        courses = [np.tile(np.repeat([*pair, noop], holds), (len(batch), 1)) for pair in pairs]
        still, *gone = branches(study, emulator, batch, [np.full((len(batch), sum(holds)), noop), *courses])
        for found, shown in zip(left, gone, strict=True):
            size = np.sqrt(inner(*[response(shown, still)] * 2))  # (n, T)
            out = size.max(1)
            found += (size[out > 0, -1] / out[out > 0]).tolist()
    return [pair for pair, found in zip(pairs, left, strict=True) if found and np.median(found) <= BACK]


_KNOWN: WeakKeyDictionary[Recordings, dict[Holds, list[Pair]]] = WeakKeyDictionary()


def _undoing(study: Study, holds: Holds) -> list[Pair]:
    """Measured once a study, in the states in which the effects were."""
    known = _KNOWN.setdefault(study.held_out, {})
    if holds not in known:
        emulator = real_game(study)
        assert emulator is not None
        excerpts = study.excerpts(states_together(study, EPISODES), 0)
        known[holds] = undoing_pairs(study, emulator, excerpts, holds)
    return known[holds]


_EXPLANATION = (
    "An action is held, then the one that undoes it in the real game, then the no-op. The course is compared with the "
    "no-op's alone in the same world. A dream went when, where the real game is farthest, it is at least half as far "
    f"in its direction; it came back when what is left is at most {BACK:.0%} of the real way out more than what the "
    "real game leaves. Starts in which the real game does not go, or does not come back, are left out. Standing still "
    "is not stable: it never went. It cannot tell whether what was out of sight is remembered."
)


def _judged(dream: Values, truth: Values) -> list[dict[str, Values]]:
    """Raw values of each start; both (n, T, h, w, 3) as `_ways` gives them."""
    size, along = np.sqrt(inner(truth, truth)), inner(dream, truth)  # (n, T)
    left = np.sqrt(inner(dream[:, -1], dream[:, -1]))
    found = []
    for row, farthest in enumerate(size.argmax(1)):
        out, back = size[row, farthest], size[row, -1]
        counts = float(out > 0 and back <= BACK * out)
        went = counts * (along[row, farthest] >= WENT * out**2)
        found.append({
            "round_trip": np.array([went * (left[row] <= back + BACK * out), counts]),
            "went": counts * np.array([along[row, farthest], out**2]),
            "left": went * np.array([left[row], out]),
        })  # fmt: skip
    return found
