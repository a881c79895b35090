"""evaluation.budget: shares of what is left, on a clock that the test turns."""

from __future__ import annotations

import math

import pytest

from gamengen.evaluation.budget import Budget


class Clock:
    """Seconds, set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_shares_of_what_is_left_add_up_and_what_is_saved_goes_on() -> None:
    clock = Clock()
    whole = Budget(1, clock)
    first = whole.part(0.25)
    assert first.seconds_left() == pytest.approx(15)
    clock.now = 5  # the first took less than it might have
    second = whole.part(1.0)
    assert second.seconds_left() == pytest.approx(55) and not second.spent
    clock.now = 60
    assert second.spent and whole.spent and whole.seconds_left() == 0
    clock.now = 70
    assert whole.seconds_over() == pytest.approx(10) and first.seconds_over() == pytest.approx(55)


def test_without_an_end_nothing_is_ever_spent() -> None:
    clock = Clock()
    budget = Budget(None, clock).part(0.1)
    clock.now = 1e9
    assert not budget.spent and budget.seconds_left() == math.inf and budget.seconds_over() == 0


@pytest.mark.parametrize("minutes", [0, -1])
def test_no_time_at_all_is_refused(minutes: float) -> None:
    with pytest.raises(ValueError, match="max_minutes"):
        Budget(minutes)
