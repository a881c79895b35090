"""evaluation.metric: batches as parts, and every metric of the suite keeps the convention."""

from __future__ import annotations

from gamengen.evaluation.metric import batch_parts
from gamengen.evaluation.study import Study
from tests.evaluated_worlds import SquareWorld, recordings


def test_batches_are_parts_with_names_that_do_not_change() -> None:
    study = Study(world=SquareWorld(4), held_out=recordings())
    places = study.held_out.places(10, 1, 0)
    parts = batch_parts(study, places)
    assert [len(part.places) for part in parts] == [4, 4, 2]
    assert [part.name for part in parts] == ["00000", "00001", "00002"]
    # A longer evaluation begins with the parts of a shorter one: its stored parts stay valid.
    assert [part.places for part in batch_parts(study, places[:8])] == [part.places for part in parts[:2]]
