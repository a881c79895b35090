"""From the frames of a source to the steady stream of the dataset: which source frame is shown at each tick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

RATE_TOLERANCE = 0.005
"""Relative: 29.97 and 30 frames a second are the same rate, 30 and 31 are not."""
TIME_TOLERANCE = 1e-3
"""Seconds: clocks of logs and containers are rounded to milliseconds."""
_JITTER = 0.5
"""A source frame that comes this many frame times away from its place is no frame of a constant rate."""

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Timeline:
    """n ticks of the dataset's stream."""

    source: npt.NDArray[np.int64]
    """(n,) index of the source frame that is shown, never falling."""
    times: Times
    """(n,) seconds on the source's clock, where its first frame is at 0."""
    source_fps: float
    """Of the source, measured where it has a clock."""
    repeated: int
    """Ticks that show the same source frame as the tick before: the source was slower there."""
    unshown: int
    """Source frames between ticks that are not in the stream."""

    @property
    def next_source(self) -> npt.NDArray[np.int64]:
        """(n,) the source frame at which the next tick begins; after the last tick, one further."""
        return np.append(self.source[1:], self.source[-1] + 1)


def make_timeline(
    num_frames: int, times: Times | None, fps: float, source_fps: float | Literal["variable"] | None, where: str
) -> Timeline:
    """Choose the source frames of a stream of `fps` frames a second.

    A source of the dataset's own rate gives all of its frames. Another constant rate, stated as `source_fps`, and a
    `variable` one give at each tick n / fps the newest frame that was shown by then.

    Args:
        times: (num_frames,) seconds at which the frames were shown; None where the source has no clock: then its
            rate is taken to be `source_fps`, or `fps`.
    Raises:
        ValueError: too few frames, times that do not rise, a rate that is not the stated one, a rate that is not
            constant where that was not stated.
    """
    if num_frames < 2:
        raise ValueError(f"{where}: has {num_frames} frames; expected at least two, with an action between them")
    if times is None:
        if source_fps == "variable":
            raise ValueError(f"{where}: source_fps is variable, but this source has no times; state its rate")
        rate = source_fps or fps
        times = np.arange(num_frames) / rate
    else:
        times = times - times[0]
        _check_rising(times, where)
        rate = (num_frames - 1) / times[-1]
        if source_fps != "variable":
            _check_rate(times, rate, fps, source_fps, where)
    if source_fps != "variable" and abs(rate - fps) <= RATE_TOLERANCE * fps:
        return Timeline(np.arange(num_frames), times, rate, repeated=0, unshown=0)
    ticks = np.arange(int(np.floor((times[-1] + TIME_TOLERANCE) * fps)) + 1) / fps
    source = np.searchsorted(times, ticks + TIME_TOLERANCE, side="right") - 1
    if len(ticks) < 2:
        raise ValueError(f"{where}: lasts {times[-1]:.3f} s, less than one frame of the dataset at {fps:g} a second")
    repeated = int((np.diff(source) == 0).sum())
    return Timeline(source, ticks, rate, repeated, unshown=num_frames - len(np.unique(source)))


def _check_rising(times: Times, where: str) -> None:
    wrong = np.flatnonzero(~(np.diff(times) > 0))
    if len(wrong) or not np.isfinite(times).all():
        at = int(wrong[0]) + 1 if len(wrong) else int(np.flatnonzero(~np.isfinite(times))[0])
        raise ValueError(
            f"{where}: frame {at} is at {times[at]:.4f} s, the one before at {times[at - 1]:.4f} s; expected times "
            "that rise: write the file again, such as with `ffmpeg -i in.mp4 -fps_mode vfr out.mkv`"
        )


def _check_rate(times: Times, rate: float, fps: float, source_fps: float | str | None, where: str) -> None:
    stated = fps if source_fps is None else float(source_fps)
    if abs(rate - stated) > RATE_TOLERANCE * stated:
        name = "fps" if source_fps is None else "source_fps"
        found = f"{_plain(rate):.6g}"
        advice = (
            f"write `source_fps: {found}` to take the dataset's {fps:g} frames a second out of it, or `fps: {rate:.6g}`"
            if rate > fps
            else f"write `fps: {found}`, for frames that were not recorded cannot be made"
        )
        raise ValueError(
            f"{where}: {found} frames a second by its times, the YAML says {name}: {stated:g}; {advice}; "
            "`source_fps: variable` where the recorder leaves out frames in which nothing moves"
        )
    steps = np.diff(times) * stated - 1
    worst = int(np.abs(steps).argmax())
    if abs(steps[worst]) > _JITTER:
        raise ValueError(
            f"{where}: not of constant rate: frame {worst + 1} comes {times[worst + 1] - times[worst]:.4f} s after the "
            f"one before, expected {1 / stated:.4f} s; write `source_fps: variable` to choose frames by their times"
        )


def _plain(rate: float) -> float:
    """The whole number that a rate is within the tolerance, for times are rounded; else the rate itself."""
    return round(rate) if abs(round(rate) - rate) <= RATE_TOLERANCE * rate else rate
