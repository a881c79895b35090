"""The last L of a stream in order, in memory that is allocated once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Ring:
    """Windows of the last L values of B streams; adding one moves nothing.

    Every value stands at two places, L apart, so that the newest L always stand in order somewhere: the window is a
    view. The streams advance together; any of them can be given another past.

    Args:
        num_streams, length: B and L.
        shape: of a value.
    """

    def __init__(self, num_streams: int, length: int, shape: Sequence[int], device: torch.device) -> None:
        self._values = torch.zeros((num_streams, 2 * length, *shape), device=device)
        self._length, self._first = length, 0

    @property
    def window(self) -> Tensor:
        """float32 (B, L, *shape), oldest first; a view that the next `add` changes."""
        return self._values[:, self._first : self._first + self._length]

    def add(self, newest: Tensor) -> None:
        """Append one value (B, *shape) to every stream; the oldest goes."""
        self._values[:, self._first] = newest
        self._values[:, self._first + self._length] = newest
        self._first = (self._first + 1) % self._length

    def put(self, streams: Sequence[int], windows: Tensor) -> None:
        """Replace what some streams hold by windows (len(streams), L, *shape), oldest first."""
        twice = torch.cat([windows, windows], dim=1).to(self._values)
        self._values[list(streams)] = twice.roll(self._first, dims=1)
