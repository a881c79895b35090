"""Drift: what a long dream becomes, with nobody at the controls, with random actions and with recorded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Figures, Measure, Sample, Values
from gamengen.evaluation.metric import Part
from gamengen.evaluation.real_frames import DISTANCES, Look, RealFrames
from gamengen.evaluation.real_game import real_game
from gamengen.evaluation.recordings import Place, Recordings
from gamengen.evaluation.section import Clip, Plot, Section, Table, curve
from gamengen.evaluation.study import Setting, Study
from gamengen.noise import key_of
from gamengen.objects import GAMES, read_objects
from gamengen.rollout import random_actions
from gamengen.world import World

REAL = "real game"
NOOP, RANDOM, RECORDED = KINDS = ("no-op", "random", "recorded")
CLIP_FRAMES = 12
MAX_PLAYED_FRAMES = 500
"""Of each real game that is played to know the limits."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Long dreams from each start under three kinds of actions, and the real game under the same."""

    settings: Sequence[Setting] = (Setting("world"),)
    num_starts: int = 4
    horizon: int = 1000
    stride: int = 5
    """Frames between two that are looked at; whether the picture moves is seen on every frame."""
    window: int = 6
    """Looked-at frames over which a median must be outside."""
    bins: int = 20
    """Of the curves."""
    num_bank: int = 256
    """Real frames of the training split with which others are compared."""
    num_pieces: int = 12
    """Held-out pieces from which the limits come."""
    piece_frames: int = 150
    share: float = 4.0

    name = "drift"

    def __post_init__(self) -> None:
        if self.horizon % (self.bins * self.stride) or self.piece_frames % self.stride:
            raise ValueError(
                f"drift: expected a horizon of whole bins of whole strides and pieces of whole strides, got horizon "
                f"{self.horizon}, {self.bins} bins, stride {self.stride}, pieces of {self.piece_frames} frames"
            )

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Curves over time, and when a dream left the real frames."""
        return {
            "inside": Measure(title=f"frames inside, of {self.horizon}", unit="frames", digits=0),
            # No rank: a worse codec has wider limits.
            "inside_codec": Measure(title="frames within what its codec shows", unit="frames", better="", digits=0),
            "stayed": Measure(title="dreams inside to the end", is_share=True),
            "left_by": Measure(title="left by", is_share=True, better=""),
            "inside_curve": Measure(title="dreams inside", is_share=True),
            "sharpness_curve": Measure(title="sharpness, of the median real frame's", better=""),
            "colours_curve": Measure(title="colours unlike the nearest real frame's", better=""),
            "picture_curve": Measure(title="picture unlike real ones", unit="grey levels", better=""),
            "stall": Measure(title="frames without a change", is_share=True, better=""),
            "stall_curve": Measure(title="frames without a change", is_share=True, better=""),
            "seen": Measure(title="shown", is_share=True, better=""),
            "seen_curve": Measure(title="shown", is_share=True, better=""),
        }

    @property
    def ranked_by(self) -> Sequence[str]:
        return [f"{_label(self.settings[0].label, kind)}/inside" for kind in KINDS]

    def missing(self, study: Study) -> str | None:
        """It needs a training split."""
        if study.training is None:
            return "no training split to compare frames with; give the dataset that the world was trained on"
        return None

    def parts(self, study: Study) -> Sequence[Part]:
        """One start each: a thousand frames take their time."""
        places = study.held_out.places(self.num_starts, 1, study.seed)
        return [Part(f"{number:05d}", [place]) for number, place in enumerate(places)]

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """All kinds of actions under all settings and in the real game."""
        (place,) = part.places
        values: dict[str, Values] = {}
        emulator = real_game(study, len(KINDS))
        if emulator is not None:
            values |= self._values(study, emulator, place, REAL, {})
        # What a real game is taken for something else by says nothing about a dream: none counts for longer.
        most = {kind: values[f"{_label(REAL, kind)}/inside"][0] for kind in KINDS if emulator is not None}
        for setting in self.settings:
            with study.using(setting, study.play_world) as world:
                values |= self._values(study, world, place, setting.label, most)
        return [Sample(place.episode, place.frame, values)]

    def sections(self, figures: Figures) -> list[Section]:
        """When dreams leave the real frames, and what they become."""
        labels = [_label(who, kind) for who in (REAL, *(s.label for s in self.settings)) for kind in KINDS]
        labels = [label for label in labels if f"{label}/inside" in figures]
        columns = ["inside", "inside_codec", "stayed", "stall"]
        rows = [(label, [figures.get(f"{label}/{name}") for name in columns]) for label in labels]
        tables = [Table(["dream", *(self.measures[name].title for name in columns)], rows)]
        found = [(label, [figures[f"{label}/left_by/{name}"] for name in DISTANCES]) for label in labels]
        tables.append(Table(["dream", *DISTANCES], found, title="left the real frames by"))
        objects = sorted({path.split("/")[2] for path in figures if path.split("/")[1] == "seen"})
        if objects:
            shown = [(label, [figures.get(f"{label}/seen/{name}") for name in objects]) for label in labels]
            tables.append(Table(["dream", *objects], shown, title="share of frames that show"))
        middles = [(n + 0.5) * self.horizon / self.bins for n in range(self.bins)]
        names = [name for name in self.measures if name.endswith("_curve") and name != "seen_curve"]
        plots = [
            Plot(
                f"drift_{what.replace('/', '_')}", _title(self.measures, what), "frame", _unit(self.measures, what),
                {x: curve(figures[f"{x}/{what}"], middles, dashed=x.startswith(REAL)) for x in labels},
            )
            for what in [*names, *(f"seen_curve/{name}" for name in objects)]
        ]  # fmt: skip
        return [Section("Drift over a long dream", _EXPLANATION, tables, plots)]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """Frames spread over the whole dream, beside the real game's under the same actions."""
        label, kind = path.split("/")[0].rsplit(", ", 1)
        setting = next(s for s in self.settings if s.label == label)
        every, emulator, panels = self.horizon // CLIP_FRAMES, real_game(study, len(KINDS)), {}
        if emulator is not None:
            panels["real game"] = self._looks(study, emulator, place, [kind], every)[0].frames
        with study.using(setting, study.play_world) as world:
            panels["dream"] = self._looks(study, world, place, [kind], every)[0].frames
        return Clip(panels, self._actions(study, place, kind)[every - 1 :: every])

    def _looks(self, study: Study, world: World, place: Place, kinds: Sequence[str], stride: int) -> list[Look]:
        """A dream under each kind of actions, as many at once as the world has slots."""
        looks: list[Look] = []
        for first in range(0, len(kinds), world.num_worlds):
            some = kinds[first : first + world.num_worlds]
            actions = np.stack([self._actions(study, place, kind) for kind in some])
            looks += _look(study, world, [place] * len(some), actions, stride, some)
        return looks

    def _values(
        self, study: Study, world: World, place: Place, who: str, most: Mapping[str, float]
    ) -> dict[str, Values]:
        """The raw values of a start's dreams."""
        values: dict[str, Values] = {}
        for kind, look in zip(KINDS, self._looks(study, world, place, KINDS, self.stride), strict=True):
            read = self._read(study, look, kind, most.get(kind, self.horizon))
            values |= {f"{_label(who, kind)}/{name}": value for name, value in read.items()}
        return values

    def _read(self, study: Study, look: Look, kind: str, most: float) -> dict[str, Values]:
        real_frames, frames = self._real_frames(study), look.frames
        distances = real_frames.distances(look)
        when, what = real_frames.first_outside(distances, real_frames.limits_of(kind))
        later, _ = real_frames.first_outside(distances, real_frames.limits_of(kind, self._codec_limits(study)))
        inside = min(most, self.horizon if when is None else when * self.stride)
        ends = (np.arange(self.bins) + 1) * self.horizon / self.bins
        values = {
            "inside": np.array([inside, 1.0]),
            "inside_codec": np.array([self.horizon if later is None else later * self.stride, 1.0]),
            "stayed": np.array([inside == self.horizon, 1.0]),
            "inside_curve": np.stack([inside >= ends, np.ones(self.bins)]),
            "sharpness_curve": self._curve(real_frames.relative_sharpness(frames)),
            "colours_curve": self._curve(distances[1]),
            "picture_curve": self._curve(distances[2]),
            "stall": np.array([(~look.changed).sum(), look.changed.size]),
            "stall_curve": self._curve((~look.changed).astype(float)),
        }
        values |= {f"left_by/{name}": np.array([what == n, 1.0]) for n, name in enumerate(DISTANCES)}
        if study.game.env_id in GAMES:
            tracks = read_objects(frames, study.game.env_id)
            seen = {name: track.present.astype(float) for name, track in tracks.items()}
            values |= {f"seen/{name}": np.array([there.sum(), there.size]) for name, there in seen.items()}
            values |= {f"seen_curve/{name}": self._curve(there) for name, there in seen.items()}
        return values

    def _curve(self, values: npt.NDArray[np.float64]) -> Values:
        """Sums and counts of equal bins: (2, bins)."""
        split = values.reshape(self.bins, -1)
        return np.stack([split.sum(1), np.full(self.bins, float(split.shape[1]))])

    def _actions(self, study: Study, place: Place, kind: str) -> npt.NDArray[np.int64]:
        if kind == NOOP:
            return np.full(self.horizon, study.game.noop_action)
        if kind == RANDOM:
            return random_actions(study.game, self.horizon, study.seed_of(place, "drift"))
        return np.resize(np.roll(study.held_out.actions(place.episode), -place.frame), self.horizon)

    def _real_frames(self, study: Study) -> RealFrames:
        assert study.training is not None
        known = _KNOWN.setdefault(study.training, {})
        key = (self._made_of, study.held_out, study.seed, study.real_game is None)
        if key not in known:
            places = study.training.places(self.num_bank, 0, study.seed)
            bank = [study.training.excerpt(place, 1, 0).frames[0] for place in places]
            pieces = [*self._recorded_pieces(study), *self._played_pieces(study)]
            known[key] = RealFrames(np.stack(bank), pieces, self.window, study.game.fps)
        return known[key]

    def _codec_limits(self, study: Study) -> npt.NDArray[np.float64]:
        """The limits if real frames through the world's codec were real too."""
        known = _CODEC_LIMITS.setdefault(study.world, {})
        if self._made_of not in known:
            shown = [piece.through(study.world.reconstruct) for piece in self._recorded_pieces(study)]
            known[self._made_of] = self._real_frames(study).limits_with([piece for piece in shown if piece is not None])
        return known[self._made_of]

    @property
    def _made_of(self) -> tuple[int, ...]:
        return self.horizon, self.stride, self.window, self.num_bank, self.num_pieces, self.piece_frames

    def _recorded_pieces(self, study: Study) -> list[Look]:
        # Of no whole stride there is none: `places` says so.
        length = max(self.stride, study.held_out.common_length(self.piece_frames) // self.stride * self.stride)
        pieces = []
        for place in study.held_out.places(self.num_pieces, length, study.seed):
            first, *rest = study.held_out.excerpt(place, 1, length).frames
            pieces.append(Look(first, self.stride, RECORDED))
            for frame in rest:
                pieces[-1].add(frame)
        return pieces

    def _played_pieces(self, study: Study) -> list[Look]:
        """The real game from other starts, for longer than a recorded piece, under all kinds of actions."""
        emulator = real_game(study, len(KINDS))
        if emulator is None:
            return []
        places = study.held_out.places(len(KINDS), 1, key_of("drift limits", study.seed))
        frames = min(self.horizon, MAX_PLAYED_FRAMES) // self.stride * self.stride
        looks: list[Look] = []
        for kind in KINDS:
            actions = np.stack([self._actions(study, place, kind)[:frames] for place in places])
            looks += _look(study, emulator, places, actions, self.stride, [kind] * len(places))
        return looks


_KNOWN: WeakKeyDictionary[Recordings, dict[tuple[object, ...], RealFrames]] = WeakKeyDictionary()
_CODEC_LIMITS: WeakKeyDictionary[World, dict[tuple[int, ...], npt.NDArray[np.float64]]] = WeakKeyDictionary()

_EXPLANATION = (
    "Long dreams from real starts: nobody plays, random actions, and the recorded ones (when the episode is over, its "
    "actions again from its beginning). Every few frames are compared with real frames of the training split: how "
    "sharp, which colours, every square of the picture with the nearest real one at its place, and how long it has "
    "stood still. A dream has left the real frames when the median of one of these over a short window is over 1.5 "
    "times what any real piece from elsewhere reaches, and over what can be seen at all; how long it may stand still "
    "is known from real pieces under the same kind of actions, where there are any, and a picture that only flickers "
    "stands still. The real game's own rows say how often that alarm is false; no dream counts as inside for longer "
    "than the real game from the same start under the same actions. A world whose codec shows other colours or edges "
    "is outside at once; the second column counts real frames through the world's codec as real. The curves have no "
    "better or worse but the real game's. It cannot tell whether the game is played by its rules."
)


def _label(who: str, kind: str) -> str:
    return f"{who}, {kind}"


def _title(measures: Mapping[str, Measure], what: str) -> str:
    name, _, thing = what.partition("/")
    return f"{thing} {measures[name].title}".strip()


def _unit(measures: Mapping[str, Measure], what: str) -> str:
    return measures[what.partition("/")[0]].unit or "share"


def _look(
    study: Study,
    world: World,
    places: Sequence[Place],
    actions: npt.NDArray[np.int64],
    stride: int,
    kinds: Sequence[str],
) -> list[Look]:
    """Dreams from the places, one a slot."""
    excerpts = study.excerpts(places, 0)
    looks = [Look(e.start.frames[-1], stride, kind) for e, kind in zip(excerpts, kinds, strict=True)]
    for step in study.dream(world, excerpts, actions, "drift"):
        for look, frame in zip(looks, step.frames, strict=True):
            look.add(frame)
    return looks
