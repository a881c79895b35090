"""Metric 1: from real frames and the real action, how near is the next frame? By denoising steps, beside its bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Figures, Measure, Sample, Values, decibel
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.recordings import Place
from gamengen.evaluation.section import Clip, Plot, Section, Series, Table
from gamengen.evaluation.study import STEPS_OPTION, Setting, Study
from gamengen.metrics import SSIM_WINDOW, SquaredError, copy_last_frame, moving_pixels, ssim

COPY, CODEC = "copy last frame", "codec (ceiling)"
"""The bounds: what a world must beat, and what its codec lets it reach."""

Frames = npt.NDArray[np.uint8]
PairDistance = Callable[[Frames, Frames], npt.NDArray[np.float64]]
"""(N, H, W, 3) twice -> (N,): a perceptual distance of frames."""

PIXEL_MEASURES: Mapping[str, Measure] = {
    "psnr": Measure(title="PSNR", unit="dB", of_sums=decibel),
    "moving_psnr": Measure(title="PSNR, moving pixels", unit="dB", of_sums=decibel),
    "ssim": Measure(title="SSIM", digits=4),
    "lpips": Measure(title="LPIPS", better="lower", digits=4),
}


def pixel_measures(backbone: str = "") -> Mapping[str, Measure]:
    """`PIXEL_MEASURES`, LPIPS with the network that it is of in its title: `alex` and `vgg` are different measures."""
    if not backbone:
        return PIXEL_MEASURES
    return {**PIXEL_MEASURES, "lpips": replace(PIXEL_MEASURES["lpips"], title=f"LPIPS ({backbone})")}


def pixel_values(
    before: Frames, real: Frames, shown: Frames, perceptual: PairDistance | None = None
) -> dict[str, Values]:
    """Raw values of one shown frame.

    Args:
        before, real: the real game's frames t and t + 1, uint8 (H, W, 3).
        shown: what stands for t + 1.
    Returns:
        Measure -> (2,). LPIPS only with `perceptual`, SSIM only where its window fits.
    """
    values = squared_errors(before, real, shown)
    if min(real.shape[:2]) >= SSIM_WINDOW:
        values["ssim"] = np.array([ssim(real, shown), 1.0])
    if perceptual is not None:
        values["lpips"] = np.array([perceptual(real[None], shown[None])[0], 1.0])
    return values


def squared_errors(before: Frames, real: Frames, shown: Frames) -> dict[str, Values]:
    """`psnr` and `moving_psnr` of one frame -> (2,) squared errors and how many; arguments as in `pixel_values`."""
    everywhere, moving = SquaredError(), SquaredError()
    everywhere.add(real, shown)
    moving.add(real, shown, moving_pixels(before, real))
    return {name: np.array([e.total, e.count]) for name, e in (("psnr", everywhere), ("moving_psnr", moving))}


@dataclass(frozen=True, kw_only=True)
class NextFrame:
    """Teacher-forced next frames."""

    settings: Sequence[Setting] = (Setting("world"),)
    """Such as `step_settings` gives."""
    num_starts: int = 64
    perceptual: PairDistance | None = None
    """LPIPS, where its weights are at hand."""
    perceptual_backbone: str = ""
    """Its network, such as `alex`."""
    perceptual_missing: str = ""
    """Why it is not, for the reader."""

    share: float = 1.0

    name = "next_frame"

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Pixels, and LPIPS by the name of its network."""
        return pixel_measures(self.perceptual_backbone)

    @property
    def ranked_by(self) -> Sequence[str]:
        """The first setting's moving pixels."""
        return [f"{self.settings[0].label}/moving_psnr"]

    def missing(self, study: Study) -> str | None:
        """Never: every world has a next frame."""
        return None

    def parts(self, study: Study) -> Sequence[Part]:
        """Batches of places, spread over the episodes."""
        return batch_parts(study, study.held_out.places(self.num_starts, 1, study.seed))

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Every start under every number of steps, and both bounds."""
        excerpts = study.excerpts(part.places, 1)
        real = np.stack([excerpt.frames for excerpt in excerpts])  # (n, 2, H, W, 3)
        shown = {COPY: np.stack([copy_last_frame(pair)[0] for pair in real])}
        through = study.world.reconstruct(real[:, 1])
        if through is not None:
            shown[CODEC] = through
        actions = np.stack([excerpt.actions for excerpt in excerpts])
        for setting in self.settings:
            with study.using(setting) as world:
                shown[setting.label] = next(iter(study.dream(world, excerpts, actions))).frames
        return [
            Sample(place.episode, place.frame, {
                f"{label}/{name}": value
                for label, frames in shown.items()
                for name, value in pixel_values(pair[0], pair[1], frames[i], self.perceptual).items()
            })
            for i, (place, pair) in enumerate(zip(part.places, real, strict=True))
        ]  # fmt: skip

    def sections(self, figures: Figures) -> list[Section]:
        """The table, and quality against steps."""
        names = [name for name in self.measures if any(path.split("/")[1] == name for path in figures)]
        labels = [label for label in (*(s.label for s in self.settings), COPY, CODEC) if f"{label}/psnr" in figures]
        table = Table(
            ["", *(_heading(self.measures[name]) for name in names)],
            [(label, [figures.get(f"{label}/{name}") for name in names]) for label in labels],
            digits=3,
        )
        plots = [plot for name in ("psnr", "moving_psnr") if (plot := self._against_steps(figures, name)) is not None]
        notes = [f"LPIPS: not measured: {self.perceptual_missing}"] if self.perceptual_missing else []
        return [Section("Next frame", NEXT_FRAME_TEXT, [table], plots, notes)]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """The last real frame and the next one, in turn."""
        (excerpt,) = study.excerpts([place], 1)
        setting = next(setting for setting in self.settings if setting.label == path.split("/")[0])
        with study.using(setting) as world:
            (step,) = study.dream(world, [excerpt], excerpt.actions[None])
        panels = {"real game": excerpt.frames, "dream": np.stack([excerpt.frames[0], step.frames[0]])}
        through = study.world.reconstruct(excerpt.frames[1:])
        if through is not None:
            panels["codec"] = np.stack([excerpt.frames[0], through[0]])
        return Clip(panels, np.array([-1, *excerpt.actions]))

    def _against_steps(self, figures: Figures, name: str) -> Plot | None:
        found = {
            int(setting.options[STEPS_OPTION]): figures[f"{setting.label}/{name}"]
            for setting in self.settings
            if STEPS_OPTION in setting.options and f"{setting.label}/{name}" in figures
        }
        if len(found) < 2:
            return None
        steps, values = list(found), list(found.values())
        series = {"world": Series(steps, [f.value for f in values], [f.low for f in values], [f.high for f in values])}
        for bound in (COPY, CODEC):
            if f"{bound}/{name}" in figures:
                value = figures[f"{bound}/{name}"].value
                series[bound] = Series([steps[0], steps[-1]], [value, value], dashed=True)
        title = self.measures[name].title
        return Plot(f"next_frame_{name}", f"{title} of the next frame", "denoising steps", "dB", series, log_x=True)


def _heading(measure: Measure) -> str:
    return f"{measure.title}, {measure.unit}" if measure.unit else measure.title


NEXT_FRAME_TEXT = (
    "The world sees real frames and the real action and predicts one frame. PSNR is the dB of the mean squared error "
    "over all samples. The second column counts only the pixels that move in the real game: a still background makes "
    "any picture look good. Copying the last frame is what a world must beat; the codec's reconstruction of the real "
    "frame is the most that it can reach. This says nothing about whether the world obeys or stays together for long."
)
