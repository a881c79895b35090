"""player.measures: quantiles of the newest samples, in the text that Prometheus reads."""

from __future__ import annotations

import mmap
import re

from gamengen.player.measures import Durations, Measures, prometheus, resident_bytes


def test_quantiles_are_of_the_newest_samples() -> None:
    durations = Durations(kept=100)
    assert durations.quantiles() == {}
    for value in range(1000):
        durations.add(value)
    quantiles = durations.quantiles()
    assert durations.count == 1000 and quantiles[0.5] == 949.5 and 997 < quantiles[0.99] <= 999


def test_the_text_is_that_of_prometheus() -> None:
    measures = Measures()
    measures.frame_ms.add(12.0)
    measures.dropped = 3
    text = prometheus(measures, {"clients": 2})
    sample = re.compile(r'gamengen_\w+(\{quantile="0\.\d+"\})? [\d.e+-]+')
    assert all(line.startswith("# ") or sample.fullmatch(line) for line in text.splitlines()), text
    assert 'gamengen_frame_ms{quantile="0.99"} 12.000' in text
    assert "gamengen_dropped_total 3" in text and "gamengen_clients 2" in text


def test_memory_is_that_of_this_process() -> None:
    before = resident_bytes()
    # Pages of its own, which an allocator with free memory would not ask for; written to, so that they are in RAM.
    with mmap.mmap(-1, 64 << 20) as block:
        block.write(b"x" * len(block))
        assert before > 1 << 20 and resident_bytes() - before > 32 << 20
