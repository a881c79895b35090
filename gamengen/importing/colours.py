"""Were red and blue exchanged? Told from colours that the game is known to show, and from what other clips show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_LEVELS = 8
"""Of each channel in a palette: colours that a lossy codec has shifted a little stay where they were, mostly."""
_NEAR = 24
"""Levels a channel by which a known colour may be off: lossy codecs, scaling."""
_SWAP_MARGIN = 0.25

Palette = npt.NDArray[np.float64]


class ColourCount:
    """The colours of a clip, from some of its frames."""

    def __init__(self, known: Sequence[tuple[int, int, int]] = ()) -> None:
        self._known = np.array(known, np.int16).reshape(-1, 3)
        self._counts = np.zeros((_LEVELS,) * 3)
        self._seen = np.zeros((2, len(self._known)), np.int64)

    def add(self, frame: npt.NDArray[np.uint8]) -> None:
        """Count a frame, uint8 RGB (H, W, 3)."""
        pixels = frame.reshape(-1, 3)
        np.add.at(self._counts, tuple((pixels // (256 // _LEVELS)).T), 1)
        for swapped, order in enumerate(([0, 1, 2], [2, 1, 0])):
            for number, colour in enumerate(self._known):
                near = (np.abs(pixels.astype(np.int16)[:, order] - colour) <= _NEAR).all(axis=1)
                self._seen[swapped, number] += int(near.sum())

    @property
    def palette(self) -> Palette:
        """(8, 8, 8) share of the pixels by red, green and blue."""
        shares: Palette = self._counts / max(self._counts.sum(), 1)
        return shares

    def check_known(self, where: str) -> None:
        """Raise ValueError when a known colour is not seen; says so when it is with red and blue exchanged."""
        for colour, straight, swapped in zip(self._known, *self._seen, strict=True):
            name = "#" + bytes(colour.astype(np.uint8)).hex()
            if straight == 0 and swapped > 0:
                raise ValueError(
                    f"{where}: no pixel has the known colour {name}, but {swapped} have it with red and blue "
                    "exchanged; change `colour_order` in the YAML (OpenCV gives and takes BGR)"
                )
            if straight == 0:
                raise ValueError(f"{where}: no pixel has the known colour {name}; another clip, or another colour?")


def check_same_order(ours: Palette, reference: Palette, where: str, reference_from: str) -> None:
    """Raise ValueError when a clip resembles another one of its game much more with red and blue exchanged.

    The measure is the overlap of the palettes, 0 to 1. Colours that hold as much red as blue tell nothing.
    """
    swapped = ours.transpose(2, 1, 0)
    straight_overlap, swapped_overlap = (float(np.minimum(p, reference).sum()) for p in (ours, swapped))
    if swapped_overlap > straight_overlap + _SWAP_MARGIN:
        raise ValueError(
            f"{where}: its colours overlap with those of {reference_from} by {straight_overlap:.2f}, and by "
            f"{swapped_overlap:.2f} with red and blue exchanged: one of the two is BGR. Convert it, or import both "
            "kinds in two runs, with `colour_order` in the YAML and another --name"
        )
