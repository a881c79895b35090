"""real_game: made once, and gone with who made it."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

from gamengen.evaluation.real_game import real_game
from gamengen.world import World
from tests.liar_worlds import CopyLastFrame, pong_study


def test_it_is_made_once_for_each_number_of_slots_and_dropped_with_its_maker() -> None:
    made = []

    def make(count: int) -> World:
        made.append(count)
        return CopyLastFrame(study.world)

    study = pong_study()
    assert real_game(replace(study, real_game=None)) is None
    study = replace(study, real_game=make)
    first = real_game(study)
    assert first is not None and real_game(study) is first and made == [study.world.num_worlds]
    alive = weakref.ref(first)
    del first, make
    study = pong_study()
    gc.collect()
    assert alive() is None
