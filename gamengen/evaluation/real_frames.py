"""What real frames of a game look like, so that a dream that leaves them is noticed: four distances, their limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.responses import BLOCKS_DOWN

SMALL_SIDE = 80
BLOCK = 8
COLOUR_BITS = 3
MARGIN = 1.5
"""A limit is so many times the largest distance of any real piece,"""
FLOORS = (0.1, 0.01, 4.0)
"""and at least this: a tenth of the sharpness, a hundredth of the pixels, four grey levels. Nobody sees less, and games
of a few flat colours have real distances near zero."""
STILL_SECONDS = 2.0
"""The same for standing still."""
STILL_LEVELS = 6.0
"""Grey levels by which the mean of some square must change for a picture to move: a ball does that to the square that
it enters, noise and a flickering codec do not."""

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

DISTANCES = ("sharpness", "colours", "picture", "stillness")


def sharpness(frame: Frames) -> float:
    """Mean absolute difference of neighbouring pixels, over both directions and all colours, of uint8 (H, W, 3)."""
    values = frame.astype(np.int16)
    return float(np.abs(np.diff(values, axis=0)).mean() + np.abs(np.diff(values, axis=1)).mean())


def colour_histogram(frame: Frames) -> Floats:
    """Shares of 8 x 8 x 8 colours: uint8 (H, W, 3) -> (512,)."""
    steps = (frame >> (8 - COLOUR_BITS)).astype(np.int64)
    index = (steps[..., 0] << 2 * COLOUR_BITS) | (steps[..., 1] << COLOUR_BITS) | steps[..., 2]
    return np.bincount(index.ravel(), minlength=1 << 3 * COLOUR_BITS) / index.size


def still_runs(changed: Iterable[bool]) -> Floats:
    """For each frame, for how many frames the picture has stood still."""
    runs, run = [], 0
    for moves in changed:
        run = 0 if moves else run + 1
        runs.append(float(run))
    return np.array(runs)


class Look:
    """What is kept of successive frames: every `stride`-th one, and at which of them the picture had moved.

    It has moved when the mean of some square is another than when it moved last: single pixels may flicker.

    Args:
        first: uint8 (H, W, 3), before the first one that is added.
        kind: of the actions that it was played with, such as `no-op`.
    """

    def __init__(self, first: Frames, stride: int, kind: str = "") -> None:
        self.stride, self.kind = stride, kind
        self._before, self._kept, self._changed = _squares(first), list[Frames](), list[bool]()

    def add(self, frame: Frames) -> None:
        """The next frame, uint8 (H, W, 3)."""
        squares = _squares(frame)
        moved = bool((np.abs(squares - self._before) > STILL_LEVELS).any())
        self._changed.append(moved)
        if moved:
            self._before = squares
        if len(self._changed) % self.stride == 0:
            self._kept.append(frame)

    def through(self, codec: Callable[[Frames], Frames | None]) -> Look | None:
        """The same as a codec shows it: kept frames (N, H, W, 3) to as many; None where there is no codec."""
        shown = codec(self.frames)
        if shown is None:
            return None
        look = Look(shown[0], self.stride, self.kind)
        look._before, look._kept, look._changed = self._before, list(shown), self._changed
        return look

    @property
    def frames(self) -> Frames:
        """uint8 (N, H, W, 3): every `stride`-th frame."""
        return np.stack(self._kept)

    @property
    def changed(self) -> npt.NDArray[np.bool_]:
        """(T,) of every frame."""
        return np.array(self._changed)


class RealFrames:
    """Distances of frames from real ones, and how large they are among real ones.

    Args:
        bank: uint8 (N, H, W, 3) real frames, spread over many episodes.
        pieces: successive real frames that are not in the bank, from which the limits come; the limit of standing
            still from those of each kind, since a game may rightly stand still for ever where nobody plays.
        window: kept frames over which the median of a distance is taken: a single odd frame is no drift.
        fps: of the recorded stream.
    """

    def __init__(self, bank: Frames, pieces: Sequence[Look], window: int, fps: float) -> None:
        self._window = window
        self._sharpness = float(np.median([sharpness(frame) for frame in bank]))
        self._histograms = np.stack([colour_histogram(frame) for frame in bank])
        blocks = np.stack([_blocks(frame) for frame in bank], axis=1)  # (places, N, d)
        self._blocks, self._sizes = blocks, (blocks**2).sum(-1)
        self.limits: Floats = np.array([*FLOORS, STILL_SECONDS * fps])
        """By `DISTANCES`; of all kinds together."""
        floors = self.limits
        reached = [self._reached(piece) for piece in pieces]
        self.limits = np.max([floors, *(MARGIN * one for one in reached)], axis=0)
        self._still = {piece.kind: float(floors[-1]) for piece in pieces}
        for piece, one in zip(pieces, reached, strict=True):
            self._still[piece.kind] = max(self._still[piece.kind], MARGIN * float(one[-1]))

    def limits_with(self, pieces: Sequence[Look]) -> Floats:
        """(4,) the limits if these pieces were real too."""
        return np.asarray(np.max([self.limits, *(MARGIN * self._reached(piece) for piece in pieces)], axis=0))

    def limits_of(self, kind: str, limits: Floats | None = None) -> Floats:
        """(4,) the limits for one kind of actions: standing still as long as real pieces of that kind, if there are."""
        found = (self.limits if limits is None else limits).copy()
        found[-1] = self._still.get(kind, found[-1])
        return found

    def relative_sharpness(self, frames: Frames) -> Floats:
        """(N, H, W, 3) -> (N,): 1 is the median real frame's."""
        return np.array([sharpness(frame) for frame in frames]) / max(self._sharpness, 1e-9)

    def distances(self, look: Look) -> Floats:
        """(4, N) in the order of `DISTANCES`.

        `sharpness`: the logarithm of its ratio to the median real one; `colours`: the share of pixels that would
        have to change colour to give the histogram of the nearest real frame; `picture`: each block of the frame
        against the nearest real one at its place, root of the mean square, in grey levels; `stillness`: frames without
        a change.
        """
        sharp = np.abs(np.log(np.maximum(self.relative_sharpness(look.frames), 1e-6)))
        colours = [np.abs(self._histograms - colour_histogram(frame)).sum(1).min() / 2 for frame in look.frames]
        runs = still_runs(look.changed)[look.stride - 1 :: look.stride]
        return np.stack([sharp, np.array(colours), [self._novelty(frame) for frame in look.frames], runs])

    def first_outside(self, distances: Floats, limits: Floats | None = None) -> tuple[int | None, int | None]:
        """When and by what frames left the real ones.

        Args:
            distances: (4, N) as `distances` gives them.
            limits: (4,), those of real frames by default.
        Returns:
            The number of the first kept frame of the first window whose median is over a limit, and which distance
            it is; None, None where there is no such window.
        """
        outside = self._medians(distances) > (self.limits if limits is None else limits)[:, None]
        if not outside.any():
            return None, None
        when = int(outside.any(0).argmax())
        return when, int(outside[:, when].argmax())

    def _reached(self, piece: Look) -> Floats:
        """(4,): how far a piece gets from real frames by each distance."""
        return np.asarray(self._medians(self.distances(piece)).max(1))

    def _medians(self, distances: Floats) -> Floats:
        """(4, N) -> (4, N - window + 1); of fewer frames than a window the median of all."""
        window = min(self._window, distances.shape[1])
        medians: Floats = np.median(np.lib.stride_tricks.sliding_window_view(distances, window, axis=1), axis=-1)
        return medians

    def _novelty(self, frame: Frames) -> float:
        blocks = _blocks(frame)
        products = (self._blocks @ blocks[:, :, None])[:, :, 0]  # (places, N)
        squares = self._sizes - 2 * products + (blocks**2).sum(-1, keepdims=True)
        return float(np.sqrt(max(0.0, float(squares.min(1).mean())) / blocks.shape[1]))


def _squares(frame: Frames) -> Floats:
    """uint8 (H, W, 3) -> (h, w, 3): means over squares, those of `responses.response`."""
    side = max(1, round(frame.shape[0] / BLOCKS_DOWN))
    rows, columns = (np.arange(0, length, side) for length in frame.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(frame, rows, axis=0, dtype=np.int32), columns, axis=1)
    means: Floats = sums / side**2
    return means


def _blocks(frame: Frames) -> npt.NDArray[np.float32]:
    """uint8 (H, W, 3) -> float32 (places, d): the frame made smaller by a whole factor, in squares."""
    factor = max(1, min(frame.shape[:2]) // SMALL_SIDE)
    height, width = frame.shape[0] // factor, frame.shape[1] // factor
    small = frame[: height * factor, : width * factor].astype(np.float32)
    small = small.reshape(height, factor, width, factor, 3).mean((1, 3))
    small = np.pad(small, [(0, -height % BLOCK), (0, -width % BLOCK), (0, 0)])
    rows, columns = small.shape[0] // BLOCK, small.shape[1] // BLOCK
    split = small.reshape(rows, BLOCK, columns, BLOCK, 3).transpose(0, 2, 1, 3, 4)
    blocks: npt.NDArray[np.float32] = split.reshape(rows * columns, -1)
    return blocks
