"""evaluation.object_values on pictures of Pong whose objects and scores are known because they were painted."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.figures import ratio
from gamengen.evaluation.horizons import marks_within
from gamengen.evaluation.object_values import (
    LOST_FRAMES,
    can_read,
    number_changes,
    object_values,
    read,
    still_values,
)
from gamengen.objects import PONG

PONG_ID = "ALE/Pong-v5"
LENGTH = 12
MARKS = marks_within(LENGTH)


def picture(ball: tuple[int, int] | None, own: int | None, score: int | None = 0, ghost: bool = False) -> np.ndarray:
    """uint8 (210, 160, 3): ball at (row, column), own paddle at a row, the score in its digits."""
    frame = np.full((210, 160, 3), (144, 72, 17), np.uint8)
    looks, places = PONG.objects, []
    places += [] if ball is None else [(looks["ball"], *ball)]
    places += [(looks["ball"], 60, 80)] if ghost else []
    places += [] if own is None else [(looks["own_paddle"], own, 140)]
    for look, row, column in places:
        frame[row : row + look.height, column : column + look.width] = look.colour
    number = PONG.numbers["score"]
    if score is not None:
        glyph = number.font.glyphs[score]
        frame[1:21, 116:128][glyph] = number.colour
    return frame


def balls(rows: list[int | None], **options: object) -> np.ndarray:
    return np.stack([picture(None if row is None else (row, 50), 100, **options) for row in rows])  # type: ignore[arg-type]


REAL = balls(list(range(40, 40 + 4 * LENGTH + 1, 4)))


def figures(dream: np.ndarray, real: np.ndarray = REAL) -> dict[str, np.ndarray]:
    values = object_values(read(real, PONG_ID), read(dream, PONG_ID), PONG_ID, MARKS)
    return {name: ratio(value) for name, value in values.items()}


def test_the_real_game_itself_is_perfect() -> None:
    found = figures(REAL[1:])
    for thing in ("ball", "own_paddle"):
        assert found[f"recall/{thing}"] == pytest.approx(1) and found[f"precision/{thing}"] == pytest.approx(1)
        assert found[f"error/{thing}"] == pytest.approx(0) and found[f"doubled/{thing}"] == pytest.approx(0)
        assert found[f"visible/{thing}"] == pytest.approx(1)
    assert np.isnan(found["recall/enemy_paddle"]).all(), "it is in no real frame"
    assert found["first_lost"] == LENGTH and found["kept_curve"] == pytest.approx(1)
    assert found["readable/score"] == found["right/score"] == 1


def test_a_ball_that_is_dropped_is_lost_at_the_right_frame() -> None:
    rows: list[int | None] = [44 + 4 * t if t < 4 else None for t in range(LENGTH)]
    found = figures(balls(rows))
    assert found["recall_curve/ball"] == pytest.approx([1] * 4 + [0] * 8)
    assert found["first_lost"] == 4 + LOST_FRAMES - 1 and found["kept_curve"][4 + LOST_FRAMES - 1] == 0
    assert found["precision/ball"][0] == 1 and found["recall/own_paddle"] == pytest.approx(1)


def test_a_ball_that_flickers_for_a_frame_is_not_lost() -> None:
    rows: list[int | None] = [44 + 4 * t if t % 3 else None for t in range(LENGTH)]
    found = figures(balls(rows))
    assert found["first_lost"] == LENGTH and found["recall/ball"][-1] < 0.8


def test_a_wrong_place_a_ghost_and_a_dim_ball_are_told_apart() -> None:
    off = figures(balls([44 + 4 * t + 3 for t in range(LENGTH)]))
    assert off["error/ball"] == pytest.approx(3) and off["recall/ball"] == pytest.approx(1)
    doubled = figures(balls([100 + 4 * t for t in range(LENGTH)], ghost=True), balls(list(range(96, 145, 4))))
    assert doubled["doubled/ball"] == pytest.approx(1) and doubled["precision/ball"] == pytest.approx(0.5)
    dim = np.round(np.array([144, 72, 17]) + (REAL[1:] - np.array([144.0, 72, 17])) * 0.5).astype(np.uint8)
    faint = figures(dim)
    assert faint["visible/ball"] == pytest.approx(0.5, abs=0.03) and faint["recall/ball"] == pytest.approx(1)


def test_a_remainder_of_a_paddle_is_not_the_paddle() -> None:
    own = PONG.objects["own_paddle"]
    stump = REAL[1:].copy()
    stump[:, 104:120, 140:144] = own.background  # four of its sixteen rows are left
    found = figures(stump)
    assert found["recall/own_paddle"] == pytest.approx(0) and found["visible/own_paddle"] == pytest.approx(0.25)
    assert found["doubled/own_paddle"] == pytest.approx(0) and found["first_lost"] == LOST_FRAMES - 1


def test_own_paddle_counts_along_its_axis_and_standing_still_is_the_baseline() -> None:
    real = np.stack([picture((60, 50), 60 + 4 * t) for t in range(LENGTH + 1)])
    found = figures(np.stack([picture((60, 50), 60)] * LENGTH), real)
    still = {name: ratio(value) for name, value in still_values(read(real, PONG_ID), PONG_ID, MARKS).items()}
    assert found["error_curve/own_paddle"] == pytest.approx(4 * np.arange(1, LENGTH + 1))
    assert still["error_curve/own_paddle"] == pytest.approx(found["error_curve/own_paddle"])
    assert found["error_to/own_paddle"][-1] == pytest.approx(4 * (LENGTH + 1) / 2)


def test_a_score_must_change_when_it_should_and_by_the_right_amount() -> None:
    def scores(values: list[int | None]) -> np.ndarray:
        return np.stack([picture((60, 50), 100, score=value) for value in values])

    real = scores([3] * 6 + [4] * 7)
    right, wrong = figures(scores([3] * 7 + [4] * 5), real), figures(scores([3] * 5 + [9] * 7), real)
    never, smeared = figures(scores([3] * 12), real), figures(scores([None] * 12), real)
    assert right["change_recall/score"] == right["change_precision/score"] == 1
    assert wrong["change_recall/score"] == wrong["change_precision/score"] == 0 and wrong["right/score"] < 0.5
    assert never["change_recall/score"] == 0 and np.isnan(never["change_precision/score"])
    assert smeared["readable/score"] == 0 and smeared["change_recall/score"] == 0


def test_changes_pass_over_unreadable_frames() -> None:
    assert number_changes(np.array([1, np.nan, 1, np.nan, np.nan, 3, 3, 2.0])) == [(5, 2.0), (7, -1.0)]


def test_only_games_with_readers_are_read() -> None:
    assert can_read("ALE/Boxing-v5") and not can_read("ALE/Tennis-v5")
