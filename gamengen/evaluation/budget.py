"""The time that an evaluation may take, divided among its metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class Budget:
    """Minutes from now on; None is without end."""

    def __init__(self, minutes: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"max_minutes: expected more than 0, got {minutes}")
        self._clock = clock
        self._end = math.inf if minutes is None else clock() + 60 * minutes

    def seconds_left(self) -> float:
        """Until the end, at least 0; infinite without one."""
        return max(0.0, self._end - self._clock())

    def seconds_over(self) -> float:
        """Since the end, at least 0."""
        return max(0.0, self._clock() - self._end)

    def part(self, share: float) -> Budget:
        """A budget that ends after `share` (0 to 1) of what is left now: what one metric leaves goes to the next."""
        part = Budget(None, self._clock)
        part._end = self._clock() + share * self.seconds_left()
        return part

    @property
    def spent(self) -> bool:
        """Is nothing left?"""
        return self._clock() >= self._end
