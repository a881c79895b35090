"""Control, by Genie's delta PSNR: how much nearer to the recording are the recorded actions than random ones?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Figures, Measure, Sample, Values, decibel
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.real_game import real_game
from gamengen.evaluation.recordings import Excerpt, Place
from gamengen.evaluation.responses import branches
from gamengen.evaluation.section import Clip, Plot, Section, Table, curve
from gamengen.evaluation.study import Setting, Study
from gamengen.noise import key_of
from gamengen.world import World

REAL = "real game"


def delta(sums: Values) -> Values:
    """(2, 2, T) squared errors and counts, with the recorded actions and with random ones -> (T,) dB of difference."""
    difference: Values = decibel(sums[0]) - decibel(sums[1])
    return difference


@dataclass(frozen=True, kw_only=True)
class DeltaPsnr:
    """The same dream twice, with the recorded actions and with random ones.

    Source: Genie (arXiv 2402.15391), section 3.1, "Metrics": PSNR(x_t, with the inferred actions) minus PSNR(x_t, with
    random actions), at t = 4. Departures: the recorded actions are known and need no inference; the dB are of the
    mean squared error over all starts; no rank is made of it (`better`), since a world gains by going astray under
    the random actions: where few recorded actions matter, one that swaps left and right gets more than the real game.
    """

    settings: Sequence[Setting] = (Setting("world"),)
    num_starts: int = 32
    horizon: int = 4
    share: float = 0.5

    name = "delta_psnr"

    @property
    def measures(self) -> Mapping[str, Measure]:
        """One curve over the frames, and its last value."""
        return {
            "curve": Measure(title="delta PSNR", unit="dB", better="", of_sums=delta),
            "last": Measure(title="delta PSNR", unit="dB", better="", of_sums=delta),
        }

    @property
    def ranked_by(self) -> Sequence[str]:
        return ()

    def missing(self, study: Study) -> str | None:
        """Nothing that every study has not."""
        return None

    def parts(self, study: Study) -> Sequence[Part]:
        """Batches of places."""
        return batch_parts(study, study.held_out.places(self.num_starts, self.horizon, study.seed))

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Squared errors of both dreams, and of the real game under the same actions where it is at hand."""
        excerpts = study.excerpts(part.places, self.horizon)
        errors = {}
        emulator = real_game(study)
        if emulator is not None:
            errors[REAL] = self._errors(study, emulator, excerpts)
        for setting in self.settings:
            with study.using(setting) as world:
                errors[setting.label] = self._errors(study, world, excerpts)
        return [
            Sample(
                place.episode,
                place.frame,
                {f"{label}/curve": found[row] for label, found in errors.items()}
                | {f"{label}/last": found[row, :, :, -1] for label, found in errors.items()},
            )
            for row, place in enumerate(part.places)
        ]

    def sections(self, figures: Figures) -> list[Section]:
        """The last value and the curve."""
        labels = [label for label in (REAL, *(s.label for s in self.settings)) if f"{label}/last" in figures]
        title = f"delta PSNR at frame {self.horizon}, dB"
        table = Table(["world", title], [(label, [figures[f"{label}/last"]]) for label in labels])
        frames = [float(n) for n in range(1, self.horizon + 1)]
        lines = {label: curve(figures[f"{label}/curve"], frames) for label in labels if label != REAL}
        plot = Plot("delta_psnr", "Recorded against random actions", "frame", "delta PSNR, dB", lines)
        return [Section("Control: delta PSNR", _EXPLANATION, [table], [plot])]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """Nothing to look at: the swapped actions show more."""
        return None

    def _errors(self, study: Study, world: World, excerpts: Sequence[Excerpt]) -> Values:
        """(n, 2, 2, horizon): recorded and random, squared errors and counts."""
        recorded = np.stack([excerpt.actions for excerpt in excerpts])
        drawn = [
            np.random.default_rng(key_of("delta", study.seed, e.place.episode, e.place.frame)).integers(
                study.game.num_actions, size=self.horizon
            )
            for e in excerpts
        ]
        true = np.stack([excerpt.frames[1:] for excerpt in excerpts])
        shown = branches(study, world, excerpts, [recorded, np.stack(drawn)])
        return np.stack([_squared(frames, true) for frames in shown], axis=1)


_EXPLANATION = (
    "How much nearer to the recorded frame a dream with the recorded actions ends than one with random actions, as "
    "Genie measures control. 0 for a world that ignores the player. Most pixels do not depend on the action, so few dB "
    "are much. The real game follows the recording exactly, which counts as 100 dB, so its own figure says only how "
    "different random actions are. No rank by itself: a world also gains by going wrong under the random actions. "
    "Compare worlds of one game and frame rate, not games."
)


def _squared(shown: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8]) -> Values:
    """Squared errors and how many of each frame: (n, 2, T)."""
    sums = ((shown.astype(np.float32) - true) ** 2).sum((-3, -2, -1), dtype=np.float64)
    return np.stack([sums, np.full(sums.shape, float(np.prod(true.shape[-3:])))], axis=1)
