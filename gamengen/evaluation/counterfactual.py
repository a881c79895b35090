"""Control, by counterfactuals: the same past, another action. Does the dream answer as the real game does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.action_effects import effects_of
from gamengen.evaluation.figures import Figures, Measure, Sample, Values
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.real_game import real_game
from gamengen.evaluation.recordings import Excerpt, Place
from gamengen.evaluation.responses import branches, inner, response
from gamengen.evaluation.section import Clip, Plot, Section, Table, curve
from gamengen.evaluation.study import Setting, Study
from gamengen.noise import key_of
from gamengen.world import World

REAL = "real game"
MIN_STRENGTH = 0.2
"""Of the real answer: a weaker one is none."""


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """From each start two actions of different effect are held, in the real game and in dreams of two seeds."""

    settings: Sequence[Setting] = (Setting("world"),)
    num_starts: int = 32
    hold: int = 6
    """Frames that an action is held."""
    share: float = 1.0

    name = "counterfactual"

    @property
    def measures(self) -> Mapping[str, Measure]:
        """See `_EXPLANATION`."""
        return {
            "right": Measure(title="answers the right way", is_share=True),
            "wrong": Measure(title="answers the wrong way", is_share=True, better="lower"),
            "none": Measure(title="no answer beyond the seeds' spread", is_share=True, better="lower"),
            "direction": Measure(title="direction (cosine)"),
            "strength": Measure(title="strength of the answer along the real one", better=""),
            "spread": Measure(title="what the seed alone changes", better="lower"),
        }

    @property
    def ranked_by(self) -> Sequence[str]:
        return [f"{setting.label}/direction" for setting in self.settings]

    def missing(self, study: Study) -> str | None:
        """It needs the emulator: only the real game knows what the other action would have done."""
        if study.real_game is None:
            return "the real game is not at hand, and only it knows what another action would have done"
        if len(effects_of(study).groups) < 2:
            return f"no two actions of {study.game.env_id} have a different effect, so nothing can be swapped"
        return None

    def parts(self, study: Study) -> Sequence[Part]:
        """Batches of places."""
        return batch_parts(study, study.held_out.places(self.num_starts, 1, study.seed, first_frame=1))

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Both actions in the real game and, with two seeds, in the dream."""
        emulator = real_game(study)
        assert emulator is not None
        excerpts = study.excerpts(part.places, 0)
        pairs = self._pairs(study, part.places)
        real = self._courses(study, emulator, excerpts, pairs, "dream")
        truth = response(real[0], real[1])
        values: list[dict[str, Values]] = [{} for _ in excerpts]
        for row, found in enumerate(_answers(truth, truth, np.zeros_like(truth)[None])):
            values[row] |= {f"{REAL}/{name}": value for name, value in found.items()}
        for setting in self.settings:
            with study.using(setting) as world:
                dream = self._courses(study, world, excerpts, pairs, "dream")
                again = self._courses(study, world, excerpts, pairs, "another seed")
            for row, found in enumerate(_answers(response(dream[0], dream[1]), truth, response(dream, again))):
                values[row] |= {f"{setting.label}/{name}": value for name, value in found.items()}
        return [Sample(p.episode, p.frame, v) for p, v in zip(part.places, values, strict=True)]

    def sections(self, figures: Figures) -> list[Section]:
        """Shares of right answers, and the answer's strength frame by frame."""
        labels = [label for label in (REAL, *(s.label for s in self.settings)) if f"{label}/right" in figures]
        measures = self.measures
        columns = ["right", "wrong", "none", "direction", "spread"]
        table = Table(
            ["world", *(measures[name].title for name in columns)],
            [(label, [figures.get(f"{label}/{name}") for name in columns]) for label in labels],
        )
        frames = [float(n) for n in range(1, self.hold + 1)]
        lines = {label: curve(figures[f"{label}/strength"], frames, dashed=label == REAL) for label in labels}
        plot = Plot("counterfactual_strength", "Answer to a swapped action", "frames held", "strength", lines)
        return [Section("Control: the same past, another action", _EXPLANATION, [table], [plot])]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """Both actions in the real game, then both in the dream."""
        emulator = real_game(study)
        assert emulator is not None
        excerpts, pairs = study.excerpts([place], 0), self._pairs(study, [place])
        real = self._courses(study, emulator, excerpts, pairs, "dream")
        setting = next(s for s in self.settings if s.label == path.split("/")[0])
        with study.using(setting) as world:
            dream = self._courses(study, world, excerpts, pairs, "dream")
        names = [study.game.actions[actions[0]].meaning for actions in pairs]
        shown = {REAL: real, "dream": dream}
        return Clip({f"{who}: {names[i]}": frames[i, 0] for who, frames in shown.items() for i in range(2)})

    def _pairs(self, study: Study, places: Sequence[Place]) -> list[npt.NDArray[np.int64]]:
        """Two actions of different effect for each place: (n,) the first ones, (n,) the second ones.

        Neither is the no-op where there are two others: a world that mixes both up still tells them from the no-op.
        """
        noop = study.game.noop_action
        groups = effects_of(study).groups
        moving = [group[0] for group in groups if noop not in group]
        choice = moving if len(moving) > 1 else [group[0] for group in groups]
        assert len(choice) > 1, "see `missing`"
        rngs = [np.random.default_rng(key_of("swap", study.seed, p.episode, p.frame)) for p in places]
        first, second = np.array([rng.choice(choice, 2, replace=False) for rng in rngs]).T
        return [first, second]

    def _courses(
        self,
        study: Study,
        world: World,
        excerpts: Sequence[Excerpt],
        pairs: Sequence[npt.NDArray[np.int64]],
        key: str,
    ) -> npt.NDArray[np.uint8]:
        """(2, n, hold, H, W, 3): either action held, under the seed of `key`."""
        held = [actions[:, None].repeat(self.hold, axis=1) for actions in pairs]
        return np.stack(branches(study, world, excerpts, held, key))


_EXPLANATION = (
    "From one and the same past two actions are held, once each. What the difference between both courses is in the "
    "real game says where the dream's should point; pictures are compared as means over small squares. An answer is "
    "right when it points that way more than two seeds of one and the same action differ along it (and at least "
    f"{MIN_STRENGTH:.0%} as strongly as the real one), wrong when it points the other way as clearly. Direction is the "
    "cosine between both differences; strength 1 is the real game's. What the seed alone changes is in units of the "
    "real answer. Neither action is the no-op where there are two others. Starts in which the real game does not "
    "answer (a paddle at the wall) are left out. It cannot tell whether the rest of the picture is right."
)


def _answers(dream: Values, truth: Values, seeds: Values) -> list[dict[str, Values]]:
    """Raw values of each start.

    Args:
        dream, truth: (n, hold, h, w, 3) what the first action shows more than the second.
        seeds: (k, n, hold, h, w, 3) what one seed shows more than another under the same action.
    """
    size = inner(truth, truth)  # (n, hold)
    along, own = inner(dream, truth), inner(dream, dream)
    chance = np.abs(inner(seeds, truth[None])).max(0)
    spread = inner(seeds, seeds).mean(0)
    found = []
    for row in range(len(dream)):
        answered = float(size[row, -1] > 0)
        bar = max(chance[row, -1], MIN_STRENGTH * size[row, -1])
        right, wrong = answered * (along[row, -1] > bar), answered * (along[row, -1] < -bar)
        length = np.sqrt(own[row, -1] * size[row, -1])
        found.append({
            "right": np.array([right, answered]),
            "wrong": np.array([wrong, answered]),
            "none": np.array([answered - right - wrong, answered]),
            "direction": np.array([along[row, -1] / length if length > 0 else 0.0, answered]),
            "strength": np.stack([along[row], size[row]]),
            "spread": np.array([spread[row, -1], size[row, -1]]),
        })  # fmt: skip
    return found
