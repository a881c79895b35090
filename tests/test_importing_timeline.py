"""importing/timeline.py: ticks against a direct search; rates that are wrong, not constant or too slow."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.importing.timeline import make_timeline


def steady(count: int, fps: float) -> np.ndarray:
    """Times rounded to milliseconds, as matroska stores them, from an odd start."""
    return np.round(np.arange(count) / fps, 3) + 7.25


@pytest.mark.parametrize("fps", [15.0, 29.97, 60.0])
def test_the_datasets_own_rate_gives_every_frame(fps: float) -> None:
    timeline = make_timeline(100, steady(100, fps), fps, None, "clip")
    assert timeline.source.tolist() == list(range(100)) and timeline.times[0] == 0
    assert timeline.repeated == timeline.unshown == 0
    assert make_timeline(100, steady(100, 30000 / 1001), 30, None, "clip").source.tolist() == list(range(100))


@pytest.mark.parametrize(("source_fps", "fps"), [(30, 15), (60, 15), (60, 20), (50, 30), (30, 20), (25, 24)])
def test_another_rate_shows_the_newest_frame_at_each_tick(source_fps: float, fps: float) -> None:
    for times in (steady(200, source_fps), None):
        timeline = make_timeline(200, times, fps, float(source_fps), "clip")
        exact = np.arange(200) / source_fps
        expected = [int(np.flatnonzero(exact <= n / fps + 1e-3)[-1]) for n in range(len(timeline.source))]
        assert timeline.source.tolist() == expected
        assert timeline.times[-1] <= exact[-1] + 1e-3 < timeline.times[-1] + 1 / fps
        assert timeline.repeated == 0 and timeline.unshown == 200 - len(timeline.source)
        assert timeline.next_source.tolist() == [*expected[1:], expected[-1] + 1]


def test_a_variable_rate_repeats_and_leaves_out() -> None:
    times = np.array([0.0, 0.01, 0.02, 0.5, 0.51])
    timeline = make_timeline(5, times, 10, "variable", "clip")
    assert timeline.source.tolist() == [0, 2, 2, 2, 2, 3]
    assert timeline.repeated == 3 and timeline.unshown == 2


@pytest.mark.parametrize(
    ("times", "source_fps", "message"),
    [
        (steady(50, 30), None, r"30\S* frames a second by its times, the YAML says fps: 15; write `source_fps: 30"),
        (steady(50, 10), None, r"10\S* frames a second .*write `fps: 10"),
        (steady(50, 60), 30.0, r"60\S* frames a second by its times, the YAML says source_fps: 30"),
        (np.delete(steady(300, 15), 40), None, r"not of constant rate: frame 40 comes 0.133\S* s after"),
        (np.array([0.0, 0.1, 0.1, 0.2]), None, r"frame 2 is at 0.1000 s, the one before at 0.1000"),
        (np.array([0.0, np.nan]), None, "frame 1"),
        (None, "variable", "this source has no times"),
        (np.array([0.0, 0.001]), "variable", "less than one frame"),
    ],
)
def test_rates_that_cannot_be_are_refused(times: np.ndarray | None, source_fps: object, message: str) -> None:
    count = 50 if times is None else len(times)
    with pytest.raises(ValueError, match=f"clip: .*{message}"):
        make_timeline(count, times, 15, source_fps, "clip")  # type: ignore[arg-type]


def test_one_frame_is_no_clip() -> None:
    with pytest.raises(ValueError, match="has 1 frames; expected at least two"):
        make_timeline(1, None, 15, None, "clip")
