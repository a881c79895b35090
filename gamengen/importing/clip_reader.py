"""A clip made ready: looked at once, its timeline chosen, its log read; then its frames tick by tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from gamengen.importing.actions import NO_ACTION, Ids, KeyTable, kind_of
from gamengen.importing.clips import Clip
from gamengen.importing.frame_fit import check_source_size, fit_frame
from gamengen.importing.offset import Array, OffsetEstimate, estimate_offset, grey, motion_of
from gamengen.importing.spec import ImportSpec
from gamengen.importing.steps import Steps, make_steps
from gamengen.importing.timeline import make_timeline


class ClipReader:
    """Everything of a clip but its frames is known once this is made.

    Raises:
        ValueError: anything in the clip or its log that cannot be imported, by its place.
    """

    def __init__(self, clip: Clip, spec: ImportSpec) -> None:
        self.clip, self.spec = clip, spec
        self.scan = clip.scan()
        check_source_size(self.scan.height, self.scan.width, spec, clip.where)
        self.timeline = make_timeline(self.scan.num_frames, self.scan.times, spec.fps, spec.source_fps, clip.where)
        self.log = clip.log()
        self.kind = kind_of(self.log)
        self.notes: Counter[str] = Counter()
        self.keys = KeyTable(spec)
        self.steps = self._steps(spec.action_offset, self.keys, self.notes)

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 RGB (H, W, 3) of every tick, in order."""
        source = self.timeline.source
        tick = 0
        for index, frame in enumerate(self.clip.frames()):
            if index != source[tick]:
                continue
            fitted = fit_frame(frame, self.spec, f"{self.clip.where}, frame {index}")
            while tick < len(source) and source[tick] == index:
                yield fitted
                tick += 1
            if tick == len(source):
                return
        raise ValueError(f"{self.clip.where}: has fewer frames when it is read again; was it changed meanwhile?")

    def shifted_actions(self, max_shift: int) -> dict[int, Ids]:
        """Shift -> (n,) actions with that many frames added to the YAML's offset; NO_ACTION also where a game ends."""
        shifted = {}
        ends = self.steps.terminated | self.steps.truncated | np.append(self.steps.first[1:], True)
        for shift in range(-max_shift, max_shift + 1):
            steps = self._steps(self.spec.action_offset + shift, KeyTable(self.spec), Counter())
            shifted[shift] = np.where(ends, NO_ACTION, steps.actions)
        return shifted

    def _steps(self, offset: float, keys: KeyTable, notes: Counter[str]) -> Steps:
        return make_steps(self.log, self.timeline, self.scan.num_frames, self.spec, keys, offset, notes)


class MotionSample:
    """Motion and actions of the first steps of an import, to tell by how much the log leads or lags."""

    def __init__(self, spec: ImportSpec, max_shift: int, max_steps: int) -> None:
        self._spec, self._max_shift, self._max_steps = spec, max_shift, max_steps
        self._motions: list[Array] = []
        self._actions: list[dict[int, Ids]] = []
        self._previous: np.ndarray | None = None
        self._rows: list[Array] = []

    @property
    def full(self) -> bool:
        """No further step is taken."""
        return sum(map(len, self._motions)) + len(self._rows) >= self._max_steps

    def add(self, frame: np.ndarray) -> None:
        """The next frame of a clip, uint8 (H, W, 3)."""
        if self.full:
            return
        now = grey(frame)
        if self._previous is not None:
            self._rows.append(motion_of(self._previous, now))
        self._previous = now

    def end_clip(self, reader: ClipReader) -> None:
        """All frames of the clip are added, from its first on."""
        if self._rows:
            self._motions.append(np.array(self._rows))
            self._actions.append(reader.shifted_actions(self._max_shift))
        self._rows, self._previous = [], None

    def estimate(self) -> OffsetEstimate:
        """Shifts are counted from the YAML's `action_offset`."""
        if not self._motions:
            return OffsetEstimate((), 0, None, "not identifiable: no steps")
        return estimate_offset(self._motions, self._actions, len(self._spec.actions), self._max_shift)
