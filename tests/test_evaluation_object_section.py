"""evaluation.object_section on figures of readings: every object has its row, no object no section."""

from __future__ import annotations

import numpy as np

from gamengen.evaluation.figures import Sample, figures_of
from gamengen.evaluation.object_section import object_section
from gamengen.evaluation.object_values import OBJECT_MEASURES, STILL, object_values, read, still_values
from tests.test_evaluation_object_values import MARKS, PONG_ID, REAL


def test_every_object_and_number_has_its_rows() -> None:
    reading = read(REAL, PONG_ID)
    dream = object_values(reading, read(REAL[1:], PONG_ID), PONG_ID, MARKS)
    values = {f"1 step/{name}": value for name, value in dream.items()}
    values |= {f"{STILL}/{name}": value for name, value in still_values(reading, PONG_ID, MARKS).items()}
    figures = figures_of([Sample(episode, 0, values) for episode in ("a", "b")], OBJECT_MEASURES, seed=0)
    section = object_section(figures, ["1 step"], OBJECT_MEASURES)
    assert section is not None
    by_title = {table.title: table for table in section.tables}
    errors = by_title["Position error, px, by frames of the dream"]
    assert list(errors.columns) == ["frames", "1", "2-4", "5-12"]
    assert [name for name, _ in errors.rows][:2] == ["own_paddle, 1 step", f"own_paddle, {STILL}"]
    numbers = by_title["Numbers on the screen, over the whole rollout"]
    assert [name for name, _ in numbers.rows] == ["score, 1 step", "enemy_score, 1 step"]
    kept = section.plots[0].series["1 step"]
    assert np.allclose(np.array(kept.y, float), 1)


def test_a_game_without_readers_has_no_section() -> None:
    assert object_section({}, ["1 step"], OBJECT_MEASURES) is None
