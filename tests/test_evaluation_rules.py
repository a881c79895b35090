"""evaluation.rules: real games keep them, painted pictures that break one are caught by its measure."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.figures import Sample, figures_of, ratio
from gamengen.evaluation.horizons import marks_within
from gamengen.evaluation.object_values import OBJECT_MEASURES, Reading, object_values, read
from gamengen.evaluation.rules import (
    BOUNCE_FRAMES,
    PAID_FRAMES,
    PER_FRAMES,
    REAL,
    RULE_MEASURES,
    likeness_values,
    rule_section,
    rule_values,
)
from gamengen.objects import BREAKOUT, PONG
from tests.played_games import play
from tests.test_evaluation_object_values import PONG_ID, picture
from tests.test_objects_grids import BREAKOUT_ID, follow_the_ball, wall_picture


def follow_in_pong(memory: np.ndarray, random: np.random.Generator, t: int) -> int:
    """NOOP, FIRE, RIGHT (up), LEFT (down), ..."""
    offset = memory[54] - memory[51] - 7
    return 0 if memory[54] == 0 or abs(offset) <= 4 else 2 if offset < 0 else 3


def test_real_pong_throws_its_balls_back() -> None:
    frames, _ = play(PONG_ID, follow_in_pong, 800)
    values = rule_values(read(frames, PONG_ID), PONG_ID)
    for paddle in ("own_paddle", "enemy_paddle"):
        thrown, came = values[f"reflected/{paddle}"]
        assert came >= 4 and thrown >= 0.9 * came, paddle


def test_real_breakout_keeps_every_rule() -> None:
    frames, _ = play(BREAKOUT_ID, follow_the_ball, 800)
    values = rule_values(read(frames, BREAKOUT_ID), BREAKOUT_ID)
    for measure in ("reflected/own_paddle", "paid/bricks", "earned/bricks"):
        kept, count = values[measure]
        assert count >= 5 and kept >= 0.95 * count, measure
    assert values["returned/bricks"].tolist() == [0, 800]


def pong(columns: list[int], own: int = 95) -> np.ndarray:
    """A ball that flies level at row 100 through these columns; the paddle's upper end is at row `own`."""
    return np.stack([picture((100, column), own) for column in columns])


@pytest.mark.parametrize(
    ("columns", "own", "expected"),
    [
        ([124, 128, 132, 136, 132, 128, 124, 120, 116, 112], 95, [1, 1]),
        ([124, 128, 132, 136, 144, 148, 152, 156, 158, 158], 95, [0, 1]),  # flies through the paddle
        ([124, 128, 132, 136, 144, 148, 152, 156, 158, 158], 150, [0, 0]),  # the paddle is elsewhere
        ([124, 128, 132, 136, 132, 128], 95, [0, 0]),  # the end comes before the answer
        ([136, 132, 128, 124, 120, 116, 112, 108, 104, 100], 95, [0, 0]),  # flies away all the time
    ],
)
def test_a_ball_that_comes_to_a_paddle_is_judged_by_where_it_flies_then(
    columns: list[int], own: int, expected: list[int]
) -> None:
    assert PONG.objects["own_paddle"].width == 4 and BOUNCE_FRAMES == 4
    assert rule_values(read(pong(columns, own), PONG_ID), PONG_ID)["reflected/own_paddle"].tolist() == expected


def wall(frames: list[tuple[int, int] | None], scores: list[int]) -> Reading:
    """Walls without one brick each (or whole ones), and the score."""
    shown = read(np.stack([wall_picture(missing) for missing in frames]), BREAKOUT_ID)
    return Reading(shown.tracks, {"score": np.array(scores, float)}, shown.grids)


def test_a_brick_is_paid_by_its_row_and_in_time() -> None:
    top, bottom = (0, 3), (5, 3)
    late = PAID_FRAMES + 1
    cases = [
        ([None] * 5 + [top] * 8, [0] * 6 + [7] * 7, [1, 1], [1, 1]),
        ([None] * 5 + [bottom] * 8, [0] * 6 + [7] * 7, [0, 1], [0, 1]),  # a blue brick is worth 1
        ([None] * 5 + [top] * 8, [0] * 13, [0, 1], [0, 0]),  # for nothing
        ([None] * 13, [0] * 6 + [7] * 7, [0, 0], [0, 1]),  # points without a brick
        ([None] * 5 + [top] * (late + 8), [0] * (5 + late) + [7] * 8, [0, 1], [0, 1]),
    ]
    for frames, scores, paid, earned in cases:
        values = rule_values(wall(frames, scores), BREAKOUT_ID)
        assert values["paid/bricks"].tolist() == paid and values["earned/bricks"].tolist() == earned


def test_a_brick_that_comes_back_is_told_from_a_new_wall_and_from_a_flicker() -> None:
    def returned(frames: list[np.ndarray]) -> float:
        shown = read(np.stack(frames), BREAKOUT_ID)
        reading = Reading(shown.tracks, {"score": np.zeros(len(frames))}, shown.grids)
        return float(ratio(rule_values(reading, BREAKOUT_ID)["returned/bricks"]))

    one, two = wall_picture((0, 3)), np.minimum(wall_picture((0, 3)), wall_picture((2, 2)))
    assert returned([two] * 5 + [one] * 5) == pytest.approx(PER_FRAMES / 10)
    assert returned([two] * 5 + [wall_picture()] * 5) == 0, "the whole wall is there: a new one"
    assert returned([two] * 5 + [one] * 2 + [two] * 5) == 0


def test_the_wall_is_compared_with_the_recordings() -> None:
    real = read(np.stack([wall_picture()] * 5), BREAKOUT_ID)
    dream = read(np.stack([wall_picture()] * 2 + [wall_picture((1, 1))] * 2), BREAKOUT_ID)
    found = ratio(likeness_values(real, dream, (1, 4))["like_recording/bricks"])
    assert found.tolist() == [1.0, pytest.approx(1 - 2 / 3 / 108)]


def test_the_section_has_the_real_game_in_its_last_row_and_is_not_there_without_rules() -> None:
    frames, _ = play(BREAKOUT_ID, follow_the_ball, 60)
    real, dream = read(frames, BREAKOUT_ID), read(frames[1:], BREAKOUT_ID)
    marks = marks_within(len(frames) - 1)
    values = object_values(real, dream, BREAKOUT_ID, marks) | rule_values(dream, BREAKOUT_ID)
    values |= likeness_values(real, dream, marks)
    named = {f"1 step/{name}": value for name, value in values.items()}
    named |= {f"{REAL}/{name}": value for name, value in rule_values(real, BREAKOUT_ID).items()}
    measures = {**OBJECT_MEASURES, **RULE_MEASURES}
    figures = figures_of([Sample(episode, 0, named) for episode in ("a", "b")], measures, seed=0)
    section = rule_section(figures, ["1 step"], measures)
    assert section is not None and [name for name, _ in section.tables[0].rows] == ["1 step", REAL]
    assert len(section.tables[0].columns) == 1 + len(BREAKOUT.paddles) + 3
    assert section.tables[1].rows[0][1][0].value == 1.0  # type: ignore[union-attr]
    assert rule_section({}, ["1 step"], measures) is None
