"""ball_play: the same player in both games, and what tells a dream in which it has no game."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gamengen.evaluation.ball_play import GONE_FRAMES, BallPlay, ball_values, vanished
from gamengen.evaluation.rules import REAL
from gamengen.evaluation.run import evaluate
from gamengen.objects import PONG, read_objects
from tests.counter_world import counter_game
from tests.liar_worlds import CopyLastFrame, DropsBall, IgnoresActions, pong_study

METRIC = BallPlay(num_starts=2, horizon=160)
LOOK = PONG.objects["ball"]


def court(places: list[tuple[int, int] | None]) -> np.ndarray:
    """Frames of Pong with a ball's corner (y, x), or none."""
    frames = np.full((len(places), 210, 160, 3), (144, 72, 17), np.uint8)
    for frame, place in zip(frames, places, strict=True):
        if place is not None:
            frame[place[0] : place[0] + 4, place[1] : place[1] + 2] = 236
    return frames


def count(places: list[tuple[int, int] | None]) -> int:
    return vanished(read_objects(court(places), "ALE/Pong-v5", ("ball",))["ball"], LOOK)


def test_a_ball_that_is_gone_in_the_middle_of_its_way_has_vanished() -> None:
    gone: list[tuple[int, int] | None] = [None] * GONE_FRAMES
    rest = [*gone, None]
    assert count([(100, 60), (102, 64), *rest]) == 1
    assert count([(100, 60), (102, 64), (104, 68), (106, 72)] + [(108, 76)] * 3) == 0, "it is there"
    assert count([(100, 60), (102, 64), *gone[:-1], (110, 80), *rest]) == 0, "it flickers, and is seen once"
    assert count([(100, 60), *rest]) == 0, "seen once: nobody knows where to it flew"
    assert count([(100, 144), (102, 152), *rest]) == 0, "it leaves the court"
    assert count([(180, 60), (188, 64), *rest]) == 0, "at the wall, where it may be drawn over"
    assert count([(100, 20), (102, 64), *rest]) == 0, "another ball, not the same"
    assert count([(100, 60), (102, 64), *gone[:-1]]) == 0, "the game ends before it is known"
    assert count([(100, 60), (102, 64), *rest, (60, 60), (62, 64), *rest]) == 2


def test_what_a_game_gives_is_counted_by_the_frame() -> None:
    flight: list[tuple[int, int] | None] = [(100, 100 + 4 * t) for t in range(8)]
    frames = court([*flight, *[(100, 128 - 4 * t) for t in range(8)], *[None] * 4])
    frames[:, 96:112, 140:144] = (92, 186, 92)
    values = ball_values(frames, "ALE/Pong-v5")
    assert values["in_play"].tolist() == [16, 20]
    assert values["vanished"].tolist() == [1000, 20]
    assert values["points/score"][1] == 20 and values["reflected/enemy_paddle"].tolist() == [0, 0]


def test_in_the_real_game_it_is_the_same_and_a_lost_ball_is_noticed() -> None:
    study = pong_study(num_worlds=2)
    truth = evaluate(study, [METRIC])["ball_play"].figures
    names = {path.split("/", 1)[1] for path in truth}
    assert names >= {"in_play", "vanished", "returns/own_paddle", "reflected/enemy_paddle", "points/enemy_score"}
    for name in names:
        assert truth[f"world/{name}"].value == truth[f"{REAL}/{name}"].value, name
    assert truth["world/returns/own_paddle"].value > 0 and truth["world/vanished"].value == 0
    lies = {
        lie: evaluate(pong_study(lie(study.world)), [METRIC])["ball_play"].figures
        for lie in (DropsBall, IgnoresActions, CopyLastFrame)
    }
    assert lies[DropsBall]["world/in_play"].value < truth["world/in_play"].value / 2
    assert lies[IgnoresActions]["world/points/enemy_score"].value > truth["world/points/enemy_score"].value
    for figures in lies.values():
        assert figures["world/returns/own_paddle"].value < truth["world/returns/own_paddle"].value
        assert figures[f"{REAL}/in_play"].value == truth[f"{REAL}/in_play"].value
    (section,) = METRIC.sections(truth)
    assert [row[0] for row in section.tables[0].rows] == [REAL, "world"]


def test_a_clip_shows_both_games_and_the_dreams_actions() -> None:
    study = pong_study(num_worlds=2)
    place = METRIC.parts(study)[0].places[0]
    clip = METRIC.clip(study, place, "world/vanished")
    assert clip is not None and list(clip.panels) == ["real game", "dream"]
    assert np.array_equal(clip.panels["real game"], clip.panels["dream"]), "a dream that is the real game"
    assert clip.actions is not None and len(clip.actions) == METRIC.horizon


def test_without_the_real_game_the_dream_stands_alone() -> None:
    figures = evaluate(pong_study(num_worlds=2, real_game=None), [METRIC])["ball_play"].figures
    assert not any(path.startswith(REAL) for path in figures) and "world/in_play" in figures


def test_a_game_without_a_ball_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    study = pong_study(num_worlds=2)
    assert METRIC.missing(study) is None
    game = study.game
    deaf = replace(game, actions=game.actions[:1])
    for other, why in ((counter_game(), "has no ball that could be followed"), (deaf, "following the ball takes")):
        monkeypatch.setattr(type(study), "game", property(lambda _, other=other: other))
        assert why in str(METRIC.missing(study))
