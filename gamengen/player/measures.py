"""What the server knows of its own speed, as /metrics tells it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

QUANTILES = (0.5, 0.95, 0.99)
_KEPT = 2000
"""Newest samples that a quantile is taken of: about a minute of one client."""


class Durations:
    """The newest durations in milliseconds."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._values: deque[float] = deque(maxlen=kept)
        self.count = 0

    def add(self, milliseconds: float) -> None:
        """One more; beyond the number kept the oldest goes."""
        self._values.append(milliseconds)
        self.count += 1

    def quantiles(self) -> dict[float, float]:
        """p50, p95 and p99; empty before the first sample."""
        if not self._values:
            return {}
        return dict(zip(QUANTILES, np.quantile(list(self._values), QUANTILES).tolist(), strict=True))


class Measures:
    """Counters and durations of one server, over all its clients."""

    def __init__(self) -> None:
        self.frame_ms = Durations()
        """One frame of one batch of worlds, on the worlds' thread."""
        self.interval_ms = Durations()
        """Between two frames of one client that plays: what a player feels as the frame rate."""
        self.latency_ms = Durations()
        """From the arrival of an input to the sending of the first frame that it had a say in."""
        self.frames = 0
        self.dropped = 0
        self.refused_busy = 0
        self.refused_rate = 0
        self.errors = 0


def resident_bytes() -> int:
    """Memory of this process in RAM; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.is_file() else 0


def prometheus(measures: Measures, gauges: Mapping[str, float]) -> str:
    """The text that Prometheus reads; quantiles in milliseconds."""
    lines: list[str] = []
    for name, durations, about in (
        ("frame_ms", measures.frame_ms, "milliseconds to make one frame of one batch of worlds"),
        ("interval_ms", measures.interval_ms, "milliseconds between two frames of one playing client"),
        ("latency_ms", measures.latency_ms, "milliseconds from an input's arrival to the sending of its first frame"),
    ):
        lines += [f"# HELP gamengen_{name} {about}", f"# TYPE gamengen_{name} summary"]
        lines += [f'gamengen_{name}{{quantile="{q:g}"}} {value:.3f}' for q, value in durations.quantiles().items()]
        lines.append(f"gamengen_{name}_count {durations.count}")
    counters = {
        "frames_total": measures.frames,
        "dropped_total": measures.dropped,
        "busy_total": measures.refused_busy,
        "rate_limited_total": measures.refused_rate,
        "errors_total": measures.errors,
    }
    lines += _plain(counters.items(), "counter") + _plain(gauges.items(), "gauge")
    return "\n".join(lines) + "\n"


def _plain(values: Iterable[tuple[str, float]], kind: str) -> list[str]:
    return [line for name, value in values for line in (f"# TYPE gamengen_{name} {kind}", f"gamengen_{name} {value:g}")]
