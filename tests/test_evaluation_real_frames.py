"""real_frames: each distance answers to what it is for, and the limits let real frames pass."""

from __future__ import annotations

import numpy as np
import pytest

from gamengen.evaluation.real_frames import (
    DISTANCES,
    FLOORS,
    Look,
    RealFrames,
    _squares,
    colour_histogram,
    sharpness,
    still_runs,
)
from gamengen.evaluation.responses import response
from tests.liar_worlds import Blurs, pong_study


def look(frames: np.ndarray, stride: int = 2, kind: str = "") -> Look:
    found = Look(frames[0], stride, kind)
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


def test_a_frozen_picture_that_flickers_stands_still(real: tuple[RealFrames, np.ndarray]) -> None:
    """The liar: single pixels that change from frame to frame are no game that goes on."""
    frames, shown = real
    rng = np.random.default_rng(0)
    noise = rng.integers(-8, 9, (61, *shown.shape[1:]))
    flickers = np.clip(shown[:1] + noise, 0, 255).astype(np.uint8)
    frozen = look(flickers)
    assert np.abs(np.diff(flickers.astype(int), axis=0)).max() > 12 and not frozen.changed.any()
    when, what = frames.first_outside(frames.distances(frozen))
    assert when is not None and (frames.distances(frozen)[3] > frames.limits[3]).any() and what is not None
    # The same flicker over a game that goes on: it moves as often as without.
    both = look(np.clip(shown + noise, 0, 255).astype(np.uint8)).changed, look(shown).changed
    assert both[1].mean() > 0.5 and abs(both[0].mean() - both[1].mean()) < 0.1


def test_each_kind_of_actions_may_stand_still_as_long_as_it_really_does() -> None:
    """Breakout waits for its player: nobody playing is no sign of a frozen dream, random play that stands still is."""
    moving = np.zeros((61, 24, 24, 3), np.uint8)
    for t, frame in enumerate(moving):
        frame[4:12, t % 16 : t % 16 + 8] = 200
    still = moving[:1].repeat(61, axis=0)
    pieces = [look(moving, kind="random"), look(still, kind="no-op")]
    frames = RealFrames(moving[::3], pieces, window=3, fps=10.0)
    assert frames.limits_of("random")[3] == 20 < 60 < frames.limits_of("no-op")[3] == frames.limits[3]
    assert (frames.limits_of("random")[:3] == frames.limits[:3]).all()
    assert (frames.limits_of("recorded") == frames.limits).all(), "no piece of this kind: those of all"
    frozen = frames.distances(look(still))
    assert frames.first_outside(frozen, frames.limits_of("no-op")) == (None, None)
    when, what = frames.first_outside(frozen, frames.limits_of("random"))
    assert what == DISTANCES.index("stillness") and when is not None and 9 <= when <= 11
    wider = np.array([9.0, 9.0, 9.0, 99.0])
    assert frames.limits_of("random", wider).tolist() == [9, 9, 9, 20] and wider[3] == 99


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


def test_squares_are_those_of_a_response() -> None:
    for height, width in ((210, 160), (84, 85), (16, 16), (107, 50)):
        one, other = np.random.default_rng(0).integers(0, 256, (2, height, width, 3)).astype(np.uint8)
        assert np.allclose(_squares(one) - _squares(other), response(one, other))


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
