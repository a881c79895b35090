"""splits: held-out data from the start, shares held by every prefix, choices spread evenly."""

from __future__ import annotations

from collections import Counter

import pytest

from gamengen.dataset.splits import split_of, spread_choice


def test_three_episodes_are_enough_for_three_splits() -> None:
    assert [split_of(n) for n in range(3)] == ["train", "validation", "test"]


@pytest.mark.parametrize("shares", [(0.05, 0.05), (0.1, 0.02), (0.3, 0.3), (0.0, 0.05), (0.5, 0.5)])
def test_every_prefix_holds_the_shares(shares: tuple[float, float]) -> None:
    count: Counter[str] = Counter()
    for number in range(500):
        count[split_of(number, *shares)] += 1
        for split, share in zip(("validation", "test"), shares, strict=True):
            first = float(share > 0)
            assert count[split] <= max(share * (number + 1), first) + 1e-9
            assert count[split] > share * (number + 1) - 2  # both may be due at once: one of them waits an episode
    assert split_of(123, *shares) == [split_of(n, *shares) for n in range(124)][123]


def test_no_share_no_episode() -> None:
    assert {split_of(n, 0.0, 0.0) for n in range(100)} == {"train"}


def test_shares_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="together at most 1"):
        split_of(0, 0.6, 0.6)


def test_choices_hold_their_shares_in_any_regular_subset() -> None:
    """Validation gets every 20th episode: each player must stand in it as in the whole."""
    shares = [3.0, 1.0]
    for step in (1, 8, 20):
        chosen = Counter(spread_choice(number, shares) for number in range(0, 400 * step, step))
        assert abs(chosen[0] / 400 - 0.75) < 0.03, step
