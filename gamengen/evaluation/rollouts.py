"""Metrics 2 and 3: free-running rollouts with the recorded actions, read as pixels, as objects and as clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Figures, Measure, Sample, Values
from gamengen.evaluation.frechet import FRECHET_MEASURES, ClipFeatures, clip_values
from gamengen.evaluation.horizons import at_marks, marks_within
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.next_frame import CODEC, PIXEL_MEASURES, PairDistance, pixel_measures, squared_errors
from gamengen.evaluation.object_section import object_section
from gamengen.evaluation.object_values import (
    OBJECT_MEASURES,
    STILL,
    Reading,
    can_read,
    object_values,
    read,
    still_values,
)
from gamengen.evaluation.recordings import Excerpt, Place
from gamengen.evaluation.rollout_section import horizon_of, rollout_section
from gamengen.evaluation.rules import REAL, RULE_MEASURES, likeness_values, rule_section, rule_values
from gamengen.evaluation.section import Clip, Section
from gamengen.evaluation.study import Setting, Study
from gamengen.metrics import SSIM_WINDOW, ssim

Frames = npt.NDArray[np.uint8]
START = "copy start frame"
"""The baseline: the last real frame that the world saw, shown for ever."""
CLIP_FRAMES = 48
CURVES: Mapping[str, Measure] = {f"{name}_curve": PIXEL_MEASURES[name] for name in ("psnr", "moving_psnr")}


@dataclass(frozen=True, kw_only=True)
class Rollouts:
    """Dreams that see nothing real after their start."""

    settings: Sequence[Setting] = (Setting("world"),)
    num_starts: int = 32
    horizon: int = 256
    perceptual: PairDistance | None = None
    """LPIPS, where its weights are at hand."""
    perceptual_backbone: str = ""
    """Its network, such as `alex`."""
    clip_features: Sequence[ClipFeatures] = ()
    """Of real and dreamt clips, to compare their distributions."""
    not_measured: Sequence[str] = ()
    """What is missing and how to get it, for the reader."""
    share: float = 4.0

    name = "rollouts"

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Pixels, objects and distributions."""
        pixels = pixel_measures(self.perceptual_backbone)
        return {**pixels, **CURVES, **OBJECT_MEASURES, **RULE_MEASURES, **FRECHET_MEASURES}

    @property
    def ranked_by(self) -> Sequence[str]:
        """Under the first setting: pixels that move, and how long all objects stay."""
        label = self.settings[0].label
        return [f"{label}/moving_psnr", f"{label}/first_lost"]

    def missing(self, study: Study) -> str | None:
        """Only where no episode has a step."""
        return None

    def length(self, study: Study) -> int:
        """Frames of a rollout: no more than half of the episodes have, or the figures would be of one long episode."""
        return study.held_out.common_length(self.horizon)

    def parts(self, study: Study) -> Sequence[Part]:
        """Batches of places with enough recorded actions after them."""
        return batch_parts(study, study.held_out.places(self.num_starts, self.length(study), study.seed))

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Dream every start under every setting and read what comes out."""
        horizon = self.length(study)
        excerpts = study.excerpts(part.places, horizon)
        readable = can_read(study.game.env_id)
        real = [read(excerpt.frames, study.game.env_id) if readable else None for excerpt in excerpts]
        values = [self._bounds(study, excerpt, reading) for excerpt, reading in zip(excerpts, real, strict=True)]
        actions = np.stack([excerpt.actions for excerpt in excerpts])
        for setting in self.settings:
            with study.using(setting) as world:
                shown = np.stack([step.frames for step in study.dream(world, excerpts, actions)], axis=1)
            for i, excerpt in enumerate(excerpts):
                found = self._read(study, excerpt.frames, shown[i], real[i])
                values[i] |= {f"{setting.label}/{name}": value for name, value in found.items()}
        return [Sample(place.episode, place.frame, found) for place, found in zip(part.places, values, strict=True)]

    def sections(self, figures: Figures) -> list[Section]:
        """Pixels and distributions, then objects and rules where the game can be read."""
        labels = [setting.label for setting in self.settings]
        length, notes = horizon_of(figures), list(self.not_measured)
        if length < self.horizon:
            notes.append(
                f"Rollouts have {length} frames, not {self.horizon}: fewer than half of the held-out episodes (or "
                "fewer than two) are longer."
            )
        pixels = rollout_section(figures, labels, self.measures, notes)
        read_from_them = (section(figures, labels, self.measures) for section in (object_section, rule_section))
        return [pixels, *(section for section in read_from_them if section is not None)]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """The first frames of the dream beside the real game."""
        length = min(CLIP_FRAMES, self.length(study))
        (excerpt,) = study.excerpts([place], length)
        setting = next(setting for setting in self.settings if setting.label == path.split("/")[0])
        with study.using(setting) as world:
            frames = np.concatenate([step.frames for step in study.dream(world, [excerpt], excerpt.actions[None])])
        return Clip({"real game": excerpt.frames[1:], "dream": frames}, excerpt.actions)

    def _bounds(self, study: Study, excerpt: Excerpt, reading: Reading | None) -> dict[str, Values]:
        """The baseline, and the codec's ceiling at the marks alone: it costs a decoder's pass a frame."""
        marks = marks_within(len(excerpt.actions))
        start = np.broadcast_to(excerpt.frames[:1], excerpt.frames[1:].shape)
        values = {f"{START}/{name}": value for name, value in self._pixels(excerpt.frames, start).items()}
        through = study.world.reconstruct(excerpt.frames[list(marks)])
        if through is not None:
            shown = excerpt.frames[1:].copy()
            shown[[mark - 1 for mark in marks]] = through
            found = self._pixels(excerpt.frames, shown)
            values |= {f"{CODEC}/{name}": value for name, value in found.items() if name in PIXEL_MEASURES}
        if reading is not None:
            still = still_values(reading, study.game.env_id, marks)
            values |= {f"{STILL}/{name}": value for name, value in still.items()}
            values |= {f"{REAL}/{name}": value for name, value in rule_values(reading, study.game.env_id).items()}
        return values

    def _read(self, study: Study, real: Frames, shown: Frames, reading: Reading | None) -> dict[str, Values]:
        values = self._pixels(real, shown)
        if reading is not None:
            env_id = study.game.env_id
            dream, marks = read(shown, env_id), marks_within(len(shown))
            values |= object_values(reading, dream, env_id, marks) | rule_values(dream, env_id)
            values |= likeness_values(reading, dream, marks)
        for features in self.clip_features:
            values |= clip_values(features, real[1:], shown)
        return values

    def _pixels(self, real: Frames, shown: Frames) -> dict[str, Values]:
        """Curves of squared errors, and every pixel measure at the marks. Args: (T + 1, ...) and (T, ...)."""
        marks = marks_within(len(shown))
        errors = [squared_errors(real[t], real[t + 1], frame) for t, frame in enumerate(shown)]
        curves = {name: np.stack([error[name] for error in errors], axis=1) for name in errors[0]}
        values = {f"{name}_curve": curve for name, curve in curves.items()}
        values |= {name: at_marks(curve, marks) for name, curve in curves.items()}
        ones = np.ones(len(marks))
        if min(shown.shape[1:3]) >= SSIM_WINDOW:
            values["ssim"] = np.stack([[ssim(real[mark], shown[mark - 1]) for mark in marks], ones])
        if self.perceptual is not None:
            at = np.array(marks)
            values["lpips"] = np.stack([self.perceptual(real[at], shown[at - 1]), ones])
        return values
