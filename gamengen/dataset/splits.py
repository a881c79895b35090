"""Which split an episode belongs to: by its number, so that nothing has to be counted or agreed on."""

from __future__ import annotations

import functools
from collections.abc import Sequence

_GOLDEN = 0.6180339887498949


def split_of(number: int, validation_share: float = 0.05, test_share: float = 0.05) -> str:
    """The split of a recorder's episode `number` (from 0), by error diffusion.

    Every prefix of the episodes holds the shares within one episode. Held-out data should exist from the start,
    so episode 1 is the first of validation and episode 2 the first of test (where their share is not 0);
    from there on a split gets an episode when it lags a whole one behind its share.

    Raises:
        ValueError: shares outside [0, 1], or together above 1.
    """
    if not (0 <= validation_share <= 1 and 0 <= test_share <= 1 and validation_share + test_share <= 1):
        raise ValueError(
            f"validation_share {validation_share}, test_share {test_share}: expected 0 to 1, together at most 1"
        )
    splits = _splits(validation_share, test_share)
    while len(splits) <= number:
        _extend(splits, validation_share, test_share)
    return splits[number]


def spread_choice(number: int, shares: Sequence[float], offset: float = 0.0) -> int:
    """Which of several things with `shares` (any positive scale) number `number` gets.

    Numbers follow the golden ratio's sequence, so that even a few of them hold the shares closely, and any
    regular subset of them (such as one split) does too.
    """
    position = (offset + number * _GOLDEN) % 1.0 * sum(shares)
    for index, share in enumerate(shares):
        position -= share
        if position < 0:
            return index
    return len(shares) - 1


@functools.cache
def _splits(validation_share: float, test_share: float) -> list[str]:
    return []


def _extend(splits: list[str], validation_share: float, test_share: float) -> None:
    total = len(splits) + 1
    for split, share, first in (("validation", validation_share, 2), ("test", test_share, 3)):
        wanted = max(share * total, float(share > 0 and total >= first))
        if wanted - splits.count(split) >= 1 - 1e-9:
            splits.append(split)
            return
    splits.append("train")
