"""real_frames: each distance answers to what it is for, and the limits let real frames pass."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.real_frames import DISTANCES, FLOORS, Look, RealFrames, colour_histogram, sharpness, still_runs
from tests.liar_worlds import Blurs, pong_study


def look(frames: np.ndarray, stride: int = 2) -> Look:
    found = Look(frames[0], stride)
    for frame in frames[1:]:
        found.add(frame)
    return found


@pytest.fixture(scope="module")
def real() -> tuple[RealFrames, np.ndarray]:
    study = pong_study()
    bank, other = (e.frames for e in study.excerpts(study.held_out.places(2, 60, 0), 60))
    return RealFrames(bank[::3], [look(other)], window=3, fps=15.0), bank


def test_real_frames_are_inside_and_each_spoilt_picture_is_outside_by_its_own_distance(
    real: tuple[RealFrames, np.ndarray],
) -> None:
    frames, shown = real
    assert frames.first_outside(frames.distances(look(shown))) == (None, None)
    blur = Blurs(pong_study().world)
    blurred = np.stack([blur.lie(0, frame) for frame in shown])
    swapped = shown[:, :, :, ::-1].copy()
    moved = np.roll(shown, 40, axis=1)
    spoilt = {"sharpness": blurred, "colours": swapped, "picture": moved, "stillness": shown[:1].repeat(61, axis=0)}
    for name, what in spoilt.items():
        distances = frames.distances(look(what))
        number = DISTANCES.index(name)
        assert np.median(distances[number, -3:]) > frames.limits[number], name
    later = np.concatenate([shown[:31], swapped[31:]])
    when, what = frames.first_outside(frames.distances(look(later)))
    assert when is not None and 13 <= when <= 15 and DISTANCES[what or 0] in ("colours", "picture")


def test_limits_are_never_below_what_can_be_seen(real: tuple[RealFrames, np.ndarray]) -> None:
    frames, shown = real
    assert (frames.limits >= [*FLOORS, 30.0]).all()
    one = frames.distances(look(np.concatenate([shown[:20], shown[40:41], shown[20:40]])))
    assert frames.first_outside(one) == (None, None)  # one odd frame is no drift


def test_limits_widen_by_what_a_codec_shows(real: tuple[RealFrames, np.ndarray]) -> None:
    frames, shown = real
    blur = Blurs(pong_study().world)
    blurred = look(shown).through(lambda kept: np.stack([blur.lie(0, frame) for frame in kept]))
    assert blurred is not None and look(shown).through(lambda kept: None) is None
    distances = frames.distances(blurred)
    assert frames.first_outside(distances)[0] == 0
    assert frames.first_outside(distances, frames.limits_with([blurred])) == (None, None)
    assert (frames.limits_with([]) == frames.limits).all()


def test_the_parts() -> None:
    frame = np.zeros((4, 4, 3), np.uint8)
    assert sharpness(frame) == 0 and colour_histogram(frame)[0] == 1
    frame[:, 2:] = 255, 0, 0
    assert sharpness(frame) == pytest.approx(255 / 9)  # one of three steps to the right, in one of three colours
    assert colour_histogram(frame)[7 << 6] == 0.5 and colour_histogram(frame).sum() == 1
    assert still_runs([True, False, False, True, False]).tolist() == [0, 1, 2, 0, 1]
    seen = look(np.stack([frame, frame, frame + 20, frame + 20, frame]), stride=2)
    assert seen.changed.tolist() == [False, True, False, True] and len(seen.frames) == 2
    assert np.array_equal(seen.frames[0], frame + 20)
