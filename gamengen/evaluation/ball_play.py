"""Somebody who follows the ball plays the dream, and the real game from the same states: does one get the other's game?

Rollouts under recorded actions are over, as a game, once the dream differs: the recorded player then moves to where
another ball was. This player answers to what it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Figures, Measure, Sample, Values
from gamengen.evaluation.metric import Part, batch_parts
from gamengen.evaluation.object_values import Reading, gained, read
from gamengen.evaluation.real_game import real_game
from gamengen.evaluation.recordings import Place
from gamengen.evaluation.rules import REAL, rule_values
from gamengen.evaluation.section import Clip, Section, Table
from gamengen.evaluation.study import Setting, Study
from gamengen.objects import BALL, Follower, Track, follow_obstacle, game_objects
from gamengen.objects.look import Look
from gamengen.objects.turns import FASTEST
from gamengen.rollout import Rollout, play
from gamengen.world import World

GONE_FRAMES = 3
"""A ball that is not seen for so many frames is gone; where it goes on to meanwhile must be inside the picture."""
PER_FRAMES = 1000

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class BallPlay:
    """Games of a player who moves to where the ball is and asks for a new one where none is."""

    settings: Sequence[Setting] = (Setting("world"),)
    num_starts: int = 16
    horizon: int = 384
    share: float = 2.0

    name = "ball_play"

    @property
    def measures(self) -> Mapping[str, Measure]:
        """See `_EXPLANATION`."""
        per = f"in {PER_FRAMES} frames"
        return {
            "in_play": Measure(title="ball seen", is_share=True, better="", digits=3),
            "vanished": Measure(title="balls that vanish in flight", unit=per, better="lower", digits=1),
            "returns": Measure(title="thrown back", unit=per, better="", digits=1),
            "reflected": Measure(title="thrown back, of those that came to where it stood", is_share=True, digits=3),
            "points": Measure(title="gained", unit=per, better="", digits=1),
        }

    @property
    def ranked_by(self) -> Sequence[str]:
        return [f"{setting.label}/vanished" for setting in self.settings]

    def missing(self, study: Study) -> str | None:
        """It needs a ball that can be followed, and the actions for it."""
        return follow_obstacle(study.game)

    def parts(self, study: Study) -> Sequence[Part]:
        """Batches of places."""
        return batch_parts(study, study.held_out.places(self.num_starts, 1, study.seed))

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Play all of them, and read what was shown."""
        games: dict[str, Frames] = {}
        emulator = real_game(study)
        if emulator is not None:
            games[REAL] = self._play(study, emulator, part.places).frames
        for setting in self.settings:
            with study.using(setting) as world:
                games[setting.label] = self._play(study, world, part.places).frames
        samples = []
        for row, place in enumerate(part.places):
            values: dict[str, Values] = {}
            for who, frames in games.items():
                found = ball_values(frames[row], study.game.env_id)
                values |= {f"{who}/{path}": value for path, value in found.items()}
            samples.append(Sample(place.episode, place.frame, values))
        return samples

    def sections(self, figures: Figures) -> list[Section]:
        """One table."""
        who = [one for one in (REAL, *(s.label for s in self.settings)) if f"{one}/in_play" in figures]
        known = {path.split("/", 1)[1]: None for path in figures}
        titles = []
        for path in known:
            measure, *thing = path.split("/")
            title, unit = self.measures[measure].title, self.measures[measure].unit
            titles.append(" ".join([*(t.replace("_", " ") + ":" for t in thing), title, *([unit] if unit else [])]))
        rows = [(one, [figures.get(f"{one}/{path}") for path in known]) for one in who]
        return [Section("Played by somebody who follows the ball", _EXPLANATION, [Table(["", *titles], rows)])]

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """Both games, each under the actions that it was answered with; those of the dream are shown."""
        panels = {}
        emulator = real_game(study)
        if emulator is not None:
            panels["real game"] = self._play(study, emulator, [place]).frames[0]
        setting = next(s for s in self.settings if s.label == path.split("/")[0])
        with study.using(setting) as world:
            dream = self._play(study, world, [place])
        return Clip(panels | {"dream": dream.frames[0]}, dream.actions[0])

    def _play(self, study: Study, world: World, places: Sequence[Place]) -> Rollout:
        """Games from the places; a world of more slots plays the last one again in the rest of them."""
        excerpts = study.excerpts(places, 0)
        filled = [*excerpts, *[excerpts[-1]] * (world.num_worlds - len(excerpts))]
        seeds = [study.seed_of(excerpt.place) for excerpt in filled]
        return play(world, [excerpt.start for excerpt in filled], seeds, Follower(study.game), self.horizon)


def ball_values(frames: Frames, env_id: str) -> dict[str, Values]:
    """Raw values of one game, uint8 (T, H, W, 3): `measure` or `measure/object` -> (2,)."""
    shown, game = read(frames, env_id), game_objects(env_id)
    ball, length = shown.tracks[BALL], float(len(frames))
    values = {
        "in_play": np.array([ball.present.sum(), length]),
        "vanished": np.array([PER_FRAMES * vanished(ball, game.objects[BALL]), length]),
    }
    rules = rule_values(shown, env_id)
    for name in game.paddles:
        thrown = rules[f"reflected/{name}"]
        values[f"returns/{name}"] = np.array([PER_FRAMES * thrown[0], length])
        values[f"reflected/{name}"] = thrown
    return values | _points(shown, length)


def vanished(ball: Track, look: Look) -> int:
    """How often a ball that flies is gone where it could not have left what is looked at.

    It must have been seen twice in a row, and flown on as it flew it would be inside for `GONE_FRAMES` more.
    """
    places = np.stack([ball.y, ball.x])
    count = 0
    for t in range(1, len(ball.y) - GONE_FRAMES):
        step = places[:, t] - places[:, t - 1]
        if not (np.abs(step) <= FASTEST).all() or ball.present[t + 1 : t + 1 + GONE_FRAMES].any():  # NaN is not
            continue
        y, x = places[:, t]
        end_y, end_x = places[:, t] + GONE_FRAMES * step
        inside = look.columns[0] < end_x < look.columns[1]
        count += bool(inside and any(top <= y < bottom and top < end_y < bottom for top, bottom in look.rows))
    return count


def _points(shown: Reading, length: float) -> dict[str, Values]:
    return {
        f"points/{name}": np.array([PER_FRAMES * gained(numbers), length]) for name, numbers in shown.numbers.items()
    }


_EXPLANATION = (
    "A player who sees the picture alone moves to where the ball is, and asks for a new one where none is. It plays "
    "from the same real starts in the real game and in the dream, so the two rows are two games of the same player: "
    "in a good dream it has about as many balls, throws back as many and gains and loses as much. `Balls that vanish "
    f"in flight`: seen twice in a row, then not for {GONE_FRAMES} frames, though on its way it would still be inside. "
    "`Of those that came to where it stood`: as under Rules. What a number gains is read at both ends of a game."
)
