"""Control, read back: which action was pressed, judged by a reader of actions from the dream's frames alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.action_effects import ActionEffects, effects_of
from gamengen.evaluation.figures import Figures, Measure, Sample, Values
from gamengen.evaluation.inverse_dynamics import (
    InverseDynamics,
    InverseDynamicsConfig,
    stored_inverse_dynamics,
    train_inverse_dynamics,
)
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.real_game import real_game
from gamengen.evaluation.recordings import Excerpt, Place, Recordings
from gamengen.evaluation.section import Clip, Section, Table
from gamengen.evaluation.study import Setting, Study
from gamengen.rollout import random_actions
from gamengen.world import World

RECORDED = "real game, recorded actions"
REAL = "real game, random actions"
READERS_FOLDER = "readers"


def kappa(counts: Values) -> Values:
    """Cohen's kappa of a confusion table (G, G): 1 every action is read right, 0 no better than chance.

    Source: Cohen 1960, "A coefficient of agreement for nominal scales", equation 1.
    """
    total = counts.sum()
    if total == 0:
        return np.array(np.nan)
    chance = (counts.sum(0) @ counts.sum(1)) / total**2
    return np.array(np.nan) if chance == 1 else np.array((np.trace(counts) / total - chance) / (1 - chance))


def share_of_ceiling(counts: Values) -> Values:
    """(2, G, G), a dream's table and the real game's -> the ratio of their kappas, at most 1."""
    dream, real = kappa(counts[0]), kappa(counts[1])
    return np.array(np.nan) if not real > 0 else np.minimum(dream / real, 1.0)


@dataclass(frozen=True, kw_only=True)
class ActionReading:
    """Trains a reader of actions on real frames and lets it read dreams under random actions.

    Random, because recorded actions follow from what is on the screen: a reader could guess them where the world
    does not answer to them at all.
    """

    settings: Sequence[Setting] = (Setting("world"),)
    num_starts: int = 16
    horizon: int = 48
    """Random actions from each start, each held for 1 to 8 frames."""
    reader: InverseDynamicsConfig = field(default_factory=InverseDynamicsConfig)
    share: float = 2.0

    name = "action_reading"

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Counts (true group, read group) behind all of them."""
        return {
            "accuracy": Measure(title="actions read right", is_share=True),
            "kappa": Measure(title="kappa", of_sums=kappa),
            "of_ceiling": Measure(title="kappa, share of the real game's", of_sums=share_of_ceiling),
            # No rank: where a reader leans towards an action, a world that stands still gets more than the real one.
            "f1": Measure(title="F1", better="", is_share=True),
            "confusion": Measure(title="read as", is_share=True, better=""),
        }

    @property
    def ranked_by(self) -> Sequence[str]:
        return [f"{setting.label}/accuracy" for setting in self.settings]

    def missing(self, study: Study) -> str | None:
        """It needs a training split."""
        if study.training is None:
            return "no training split to train a reader of actions on; give the dataset that the world was trained on"
        return None

    def parts(self, study: Study) -> Sequence[Part]:
        """Batches of places."""
        return batch_parts(study, study.held_out.places(self.num_starts, self.horizon, study.seed))

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Dreams and, where it is at hand, the real game under the same actions; the recorded frames beside them."""
        reader = self.reader_of(study)
        excerpts = study.excerpts(part.places, self.horizon)
        actions = self._actions(study, part.places)
        tables = {RECORDED: [_table(reader, e, e.frames[1:], e.actions) for e in excerpts]}
        emulator = real_game(study)
        if emulator is not None:
            tables[REAL] = self._read(study, reader, emulator, excerpts, actions)
        for setting in self.settings:
            with study.using(setting) as world:
                tables[setting.label] = self._read(study, reader, world, excerpts, actions)
        ceiling = tables.get(REAL, tables[RECORDED])
        names = reader.effects.names(study.game)
        return [
            Sample(
                place.episode,
                place.frame,
                {
                    path: value
                    for label, found in tables.items()
                    for path, value in _values(label, found[row], ceiling[row], names).items()
                },
            )
            for row, place in enumerate(part.places)
        ]

    def reader_of(self, study: Study) -> InverseDynamics:
        """The reader, trained once a study; kept in its folder."""
        assert study.training is not None
        effects = effects_of(study)
        key = (self.reader, effects)
        known = _KNOWN.setdefault(study.training, {})
        if key not in known:
            if study.folder is None:
                known[key] = train_inverse_dynamics(study.training, study.game, effects, self.reader)
            else:
                folder = study.folder / READERS_FOLDER
                known[key] = stored_inverse_dynamics(study.training, study.game, effects, self.reader, folder)
        return known[key]

    def sections(self, figures: Figures) -> list[Section]:
        """Accuracy against the ceiling, and F1 by action."""
        labels = [label for label in (RECORDED, REAL, *(s.label for s in self.settings)) if f"{label}/kappa" in figures]
        names = sorted({path.split("/", 2)[2] for path in figures if path.split("/")[1] == "f1"})
        columns = [("accuracy", "read right"), ("kappa", "kappa"), ("of_ceiling", "share of the real game's kappa")]
        overall = Table(
            ["frames of", *(title for _, title in columns)],
            [(label, [figures.get(f"{label}/{measure}") for measure, _ in columns]) for label in labels],
        )
        by_action = Table(
            ["action", *labels],
            [(name, [figures.get(f"{label}/f1/{name}") for label in labels]) for name in names],
            title="F1 by action",
        )
        tables = [overall, by_action]
        for label in labels[1:]:
            rows = [(name, _cells(figures, label, name, len(names))) for name in names]
            tables.append(Table(["pressed", *names], rows, title=f"read as, {label}"))
        return [Section("Control: actions read from the frames", _EXPLANATION, tables)]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """The dream under the random actions, beside the real game under the same."""
        excerpts = study.excerpts([place], self.horizon)
        actions = self._actions(study, [place])
        panels = {}
        emulator = real_game(study)
        if emulator is not None:
            panels["real game"] = np.concatenate([s.frames for s in study.dream(emulator, excerpts, actions)])
        setting = next(s for s in self.settings if s.label == path.split("/")[0])
        with study.using(setting) as world:
            panels["dream"] = np.concatenate([s.frames for s in study.dream(world, excerpts, actions)])
        return Clip(panels, actions[0])

    def _actions(self, study: Study, places: Sequence[Place]) -> npt.NDArray[np.int64]:
        seeds = [study.seed_of(place, "random actions") for place in places]
        return np.stack([random_actions(study.game, self.horizon, seed) for seed in seeds])

    def _read(
        self,
        study: Study,
        reader: InverseDynamics,
        world: World,
        excerpts: Sequence[Excerpt],
        actions: npt.NDArray[np.int64],
    ) -> list[Values]:
        frames = np.stack([step.frames for step in study.dream(world, excerpts, actions)], axis=1)
        return [_table(reader, e, shown, pressed) for e, shown, pressed in zip(excerpts, frames, actions, strict=True)]


_KNOWN: WeakKeyDictionary[Recordings, dict[tuple[InverseDynamicsConfig, ActionEffects], InverseDynamics]]
_KNOWN = WeakKeyDictionary()

_EXPLANATION = (
    "A small network that was trained on real frames of the training split reads from a few successive frames which "
    "action was pressed. Where real frames do not tell the action nothing can, so read the held-out real rows first: "
    "they are the ceiling. Dreams are under random actions, which cannot be guessed from what is on the screen. Kappa "
    "is about 0 for a world that ignores the player, and for one that mixes actions up: F1 by action tells which. "
    "Actions joined by = led to equal frames in nine of ten real states in which they were tried, and count as one. It "
    "cannot tell whether the answer is as strong as in the real game: see the swapped actions."
)


def _table(
    reader: InverseDynamics, excerpt: Excerpt, shown: npt.NDArray[np.uint8], actions: npt.NDArray[np.int64]
) -> Values:
    """Counts (G, G): groups of the actions by groups that were read.

    Args:
        shown: uint8 (T, H, W, 3), the frame after each action.
    """
    seen = excerpt.start.frames[-1 - reader.config.frames_before :]
    read = reader.read(np.concatenate([seen, shown]), len(seen) - 1)
    true = reader.effects.labels[actions[: len(read)]]
    table = np.zeros((len(reader.effects.groups),) * 2)
    np.add.at(table, (true, read), 1)
    return table


def _values(label: str, table: Values, ceiling: Values, names: Sequence[str]) -> dict[str, Values]:
    """The raw values of one start under one label."""
    values = {
        f"{label}/accuracy": np.array([np.trace(table), table.sum()]),
        f"{label}/kappa": table,
        f"{label}/of_ceiling": np.stack([table, ceiling]),
    }
    columns = np.argsort(np.array(names))
    for number, name in enumerate(names):
        hits = table[number, number]
        values[f"{label}/f1/{name}"] = np.array([2 * hits, table[number].sum() + table[:, number].sum()])
        row = table[number, columns]
        values[f"{label}/confusion/{name}"] = np.stack([row, np.full(len(row), row.sum())])
    return values


def _cells(figures: Figures, label: str, name: str, count: int) -> list[str | None]:
    figure = figures.get(f"{label}/confusion/{name}")
    if figure is None:
        return [None] * count
    return [None if np.isnan(share) else f"{100 * share:.0f} %" for share in figure.array()]
