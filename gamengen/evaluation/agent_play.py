"""An agent that plays the real game plays the dream: does it do the same there, and think as much of it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Figures, Measure, Sample, Values, ratio
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.object_values import gained
from gamengen.evaluation.real_game import real_game
from gamengen.evaluation.recordings import Place
from gamengen.evaluation.section import Clip, Plot, Section, Table, curve
from gamengen.evaluation.study import Setting, Study
from gamengen.noise import key_of
from gamengen.objects import GAMES, read_numbers, read_objects
from gamengen.world import World

REAL, AGAIN = "real game", "real game, other draws"
BALL = "ball"
MIN_RALLY = 2
"""Looked-at frames: a ball that is seen for less is a flicker."""
BLIND = 0.05
"""An agent that looks less than this at the screen is no judge, and the report says so."""

Frames = npt.NDArray[np.uint8]


class Player(Protocol):
    """What `Study.agent` must do to play: it sees frames, and nothing else, exactly as where it was trained."""

    def begin(self, histories: Sequence[Frames]) -> None:
        """New games: the successive frames (K, H, W, 3) that led to each, the newest last."""
        ...

    def judge(self) -> tuple[Values, Values]:
        """Action probabilities (n, A) and value estimates (n,) of the games, as they stand."""
        ...

    def see(self, frames: Frames) -> None:
        """The next frame of each game, uint8 (n, H, W, 3)."""
        ...


def total_variation(counts: Values) -> Values:
    """(2, A) counts of two distributions -> half the sum of absolute differences, 0 to 1."""
    if not counts.sum(1).all():
        return np.array(np.nan)
    shares = counts / counts.sum(1, keepdims=True)
    return np.array(np.abs(shares[0] - shares[1]).sum() / 2)


def mean_gap(sums: Values) -> Values:
    """(2, 2) sums and counts, here and in the real game -> the distance of both means."""
    means = ratio(sums.T)
    return np.array(abs(means[0] - means[1]))


@dataclass(frozen=True, kw_only=True)
class AgentPlay:
    """The same agent from the same starts in the real game, again with other draws of its actions, and in the dream."""

    settings: Sequence[Setting] = (Setting("world"),)
    num_starts: int = 8
    horizon: int = 160
    stride: int = 4
    """Frames between two that are read for objects and scores."""
    bins: int = 16
    share: float = 2.0

    name = "agent_play"

    @property
    def measures(self) -> Mapping[str, Measure]:
        """See `_EXPLANATION`."""
        return {
            "actions": Measure(title="chosen", is_share=True, better=""),
            "looks": Measure(title="how much it looks at the screen", is_share=True, better=""),
            "distance": Measure(title="distance of its actions", better="lower", of_sums=total_variation),
            "value": Measure(title="value estimate", better=""),
            "value_curve": Measure(title="value estimate", better=""),
            "value_gap": Measure(title="distance of its mean value", better="lower", of_sums=mean_gap),
            "rally": Measure(title="frames of a rally", better="", digits=1),
            "in_play": Measure(title="ball in play", is_share=True, better=""),
            "points": Measure(title="per 1000 frames", better="", digits=1),
        }

    @property
    def ranked_by(self) -> Sequence[str]:
        return [f"{setting.label}/distance" for setting in self.settings]

    def missing(self, study: Study) -> str | None:
        """It needs an agent and the real game."""
        if study.agent is None:
            return "no --agent (a Stable-Baselines3 zip of an agent that plays this game)"
        if study.real_game is None:
            return "the real game is not at hand for the agent to play beside the dream"
        return None

    def parts(self, study: Study) -> Sequence[Part]:
        """Batches of places."""
        return batch_parts(study, study.held_out.places(self.num_starts, 1, study.seed))

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Play all of them."""
        emulator = real_game(study)
        assert emulator is not None
        real = self._play(study, emulator, part.places, "agent")
        games = {REAL: real, AGAIN: self._play(study, emulator, part.places, "other draws")}
        for setting in self.settings:
            with study.using(setting) as world:
                games[setting.label] = self._play(study, world, part.places, "agent")
        return [
            Sample(
                place.episode,
                place.frame,
                {
                    f"{who}/{name}": value
                    for who, game in games.items()
                    for name, value in self._values(study, game, real, row).items()
                },
            )
            for row, place in enumerate(part.places)
        ]

    def sections(self, figures: Figures) -> list[Section]:
        """Side by side."""
        who = [one for one in (REAL, AGAIN, *(s.label for s in self.settings)) if f"{one}/distance" in figures]
        things = sorted({path.split("/", 2)[2] for path in figures if path.split("/")[1] == "points"})
        names = [
            name
            for name in ("looks", "distance", "value", "value_gap", "rally", "in_play")
            if f"{REAL}/{name}" in figures
        ]
        play = Table(
            ["played in", *(self.measures[name].title for name in names), *(f"{t} per 1000 frames" for t in things)],
            [
                (one, [figures.get(f"{one}/{path}") for path in (*names, *(f"points/{thing}" for thing in things))])
                for one in who
            ],
        )
        actions = sorted({path.split("/", 2)[2] for path in figures if path.split("/")[1] == "actions"})
        chosen = Table(
            ["action", *who],
            [(action, [figures.get(f"{one}/actions/{action}") for one in who]) for action in actions],
            title="share of its actions",
        )
        middles = [(n + 0.5) * self.horizon / self.bins for n in range(self.bins)]
        lines = {one: curve(figures[f"{one}/value_curve"], middles, dashed=one == REAL) for one in who}
        plot = Plot("agent_value", "What the agent thinks of it", "frame", "value estimate", lines)
        looks = figures[f"{REAL}/looks"].value if who else None
        notes = [] if looks is None or looks >= BLIND else [_BLIND.format(looks=looks)]
        return [Section("An agent in the dream", _EXPLANATION, [play, chosen], [plot], notes)]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """The agent in the real game and in the dream; each under its own actions."""
        emulator = real_game(study)
        assert emulator is not None
        setting = next(s for s in self.settings if s.label == path.split("/")[0])
        panels = {"real game": self._play(study, emulator, [place], "agent").frames[0]}
        with study.using(setting) as world:
            panels["dream"] = self._play(study, world, [place], "agent").frames[0]
        return Clip(panels)

    def _play(self, study: Study, world: World, places: Sequence[Place], key: str) -> _Played:
        player: Player = study.agent
        excerpts = study.excerpts(places, 0)
        filled = [*excerpts, *[excerpts[-1]] * (world.num_worlds - len(excerpts))]
        world.reset([e.start for e in filled], [study.seed_of(e.place) for e in filled])
        rngs = [np.random.default_rng(key_of(key, study.seed, p.episode, p.frame)) for p in places]
        player.begin([excerpt.start.frames for excerpt in excerpts])
        frames, actions, values, thoughts = [], [], [], []
        hold = max(1, round(sum(study.game.hold) / 2))
        for t in range(self.horizon):
            if t % hold == 0:
                probabilities, value = player.judge()
                chosen = [_draw(row, rng) for row, rng in zip(probabilities, rngs, strict=True)]
            shown = world.step(np.array(chosen + chosen[-1:] * (world.num_worlds - len(chosen)))).frames[: len(places)]
            player.see(shown)
            frames.append(shown)
            actions.append(chosen)
            values.append(value)
            thoughts.append(probabilities)
        shares = np.stack(thoughts, axis=1)
        return _Played(np.stack(frames, axis=1), np.array(actions).T, np.stack(values, axis=1), shares)

    def _values(self, study: Study, game: _Played, real: _Played, row: int) -> dict[str, Values]:
        """The raw values of one start's game."""
        num_actions = study.game.num_actions
        mine, theirs = (np.bincount(g.actions[row], minlength=num_actions).astype(float) for g in (game, real))
        value, real_value = game.values[row], real.values[row]
        bins = np.array_split(value, self.bins)
        from_mean = np.abs(game.probabilities[row] - game.probabilities.mean((0, 1))).sum(-1) / 2
        found = {
            "looks": np.array([from_mean.sum(), len(from_mean)]),
            "distance": np.stack([mine, theirs]),
            "value": np.array([value.sum(), len(value)]),
            "value_curve": np.array([[part.sum() for part in bins], [float(len(part)) for part in bins]]),
            "value_gap": np.array([[value.sum(), len(value)], [real_value.sum(), len(real_value)]]),
        }
        for action, count in zip(study.game.actions, mine, strict=True):
            found[f"actions/{action.meaning}"] = np.array([count, mine.sum()])
        if study.game.env_id in GAMES:
            found |= _reading(game.frames[row, :: self.stride], study.game.env_id, self.stride)
        return found


@dataclass(frozen=True)
class _Played:
    frames: Frames
    """uint8 (n, T, H, W, 3)."""
    actions: npt.NDArray[np.int64]
    """(n, T)."""
    values: Values
    """(n, T), of the decision that each frame answers to."""
    probabilities: Values
    """(n, T, A), the same."""


_EXPLANATION = (
    "The same agent plays from the same real starts in the real game and in the dream, and once more in the real game "
    "with other draws of its actions: that row is what chance alone does. The distance of its actions is the total "
    "variation between how often it chooses each, 0 to 1. How much it looks at the screen is how far a decision is "
    "from its average one, in the same measure: an agent near 0 plays alike anywhere and is no judge. Its value "
    "estimate says how well it thinks it is doing. A rally is how long the ball is seen without a break; points are "
    "read from the screen at the beginning and at the end. It cannot tell whether the dream is right where this agent "
    "never goes."
)

_BLIND = (
    "This agent's decisions hardly depend on what it sees ({looks:.3f} in the real game): that it does the same in the "
    "dream says nothing. Give an agent that was trained for longer."
)


def _draw(probabilities: Values, rng: np.random.Generator) -> int:
    place = int(np.searchsorted(np.cumsum(probabilities), rng.random(), side="right"))
    return min(place, len(probabilities) - 1)


def _reading(frames: Frames, env_id: str, stride: int) -> dict[str, Values]:
    """Rallies and points from every `stride`-th frame."""
    found = {}
    tracks = read_objects(frames, env_id)
    if BALL in tracks:
        runs = _runs(tracks[BALL].present)
        found["rally"] = np.array([stride * sum(runs), float(len(runs))])
        found["in_play"] = np.array([tracks[BALL].present.sum(), float(len(frames))])
    for name, numbers in read_numbers(frames, env_id).items():
        found[f"points/{name}"] = np.array([gained(numbers), stride * len(frames) / 1000])
    return found


def _runs(present: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of the stretches of True that are no flicker."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present, [False]]).astype(int)))
    lengths = edges[1::2] - edges[::2]
    return [int(length) for length in lengths if length >= MIN_RALLY]
