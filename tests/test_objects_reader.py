"""gamengen.objects.reader: positions against the console's memory, also in small and spoilt pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gamengen.objects import GAMES, Track, read_objects
from tests.played_games import play

NUM_FRAMES = 500


def follow_the_ball(memory: np.ndarray, random: np.random.Generator, t: int) -> int:
    """Pong, with a fifth of the actions random."""
    if random.random() < 0.2:
        return int(random.integers(6))
    return 2 if memory[54] < memory[51] else 3


def catch_the_ball(memory: np.ndarray, random: np.random.Generator, t: int) -> int:
    """Breakout, the same."""
    if t % 10 == 0:
        return 1
    if random.random() < 0.2:
        return int(random.integers(4))
    return 2 if memory[99] > memory[72] + 8 else 3


@pytest.fixture(scope="module")
def pong() -> tuple[np.ndarray, np.ndarray]:
    return play("ALE/Pong-v5", follow_the_ball, NUM_FRAMES)


@pytest.fixture(scope="module")
def pong_tracks(pong: tuple[np.ndarray, np.ndarray]) -> dict[str, Track]:
    return read_objects(pong[0], "ALE/Pong-v5")


@pytest.fixture(scope="module")
def breakout() -> tuple[np.ndarray, np.ndarray]:
    return play("ALE/Breakout-v5", catch_the_ball, NUM_FRAMES)


def pong_truth(memory: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(surely visible, surely absent, centre y, centre x of the visible part) by the memory map of the game."""
    truth = {}
    for name, address, above, left in (("own_paddle", 51, 13.5, 140), ("enemy_paddle", 50, 15, 16)):
        top = np.clip(memory[:, address] - above, 34, 194)
        bottom = np.clip(memory[:, address] - above + 16, 34, 194)
        visible = bottom - top
        truth[name] = (visible >= 3, visible <= 0, np.stack([(top + bottom) / 2, np.full(len(memory), left + 2.0)]))
    y, x = memory[:, 54] - 12.0, memory[:, 49] - 48.0
    inside = (memory[:, 54] > 0) & (y > 36) & (y < 192) & (x > 1) & (x < 159)
    truth["ball"] = (inside, memory[:, 54] == 0, np.stack([y, x]))
    return truth


def breakout_truth(memory: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    y, x = memory[:, 101] + 11.0, memory[:, 99] - 48.0
    readable = ((y > 34) & (y < 55)) | ((y > 95) & (y < 187))
    return {"ball": ((memory[:, 101] > 0) & readable, memory[:, 101] == 0, np.stack([y, x]))}


def check(track: Track, truth: tuple[np.ndarray, np.ndarray, np.ndarray], tolerance: float, recall: float) -> None:
    visible, absent, centre = truth
    assert visible.sum() > 150
    assert track.present[visible].mean() >= recall
    assert not track.present[absent].any()
    both = visible & track.present
    for read, true in ((track.y, centre[0]), (track.x, centre[1])):
        error = np.abs(read - true)[both]
        assert (error <= tolerance).mean() >= 0.99, f"{np.sort(error)[-20:]}"


@pytest.mark.parametrize("name", ["own_paddle", "enemy_paddle", "ball"])
def test_pong_agrees_with_the_memory(
    pong: tuple[np.ndarray, np.ndarray], pong_tracks: dict[str, Track], name: str
) -> None:
    check(pong_tracks[name], pong_truth(pong[1])[name], tolerance=1.0, recall=0.99)


def test_breakout_agrees_with_the_memory(breakout: tuple[np.ndarray, np.ndarray]) -> None:
    frames, memory = breakout
    tracks = read_objects(frames, "ALE/Breakout-v5")
    check(tracks["ball"], breakout_truth(memory)["ball"], tolerance=1.0, recall=0.99)
    paddle = tracks["own_paddle"]
    assert paddle.present.mean() >= 0.99
    wide = paddle.share > 0.9  # half as wide once the ball has touched the ceiling
    assert wide.sum() > 200
    # The ball has the paddle's colour: while it is beside it the centre moves.
    clear = wide & (memory[:, 101] + 11 < 185)
    assert (np.abs(paddle.x - (memory[:, 72] - 39.0))[clear] <= 1).mean() >= 0.99


def test_half_size_pictures_give_the_same_native_positions(pong: tuple[np.ndarray, np.ndarray]) -> None:
    frames, memory = pong[0][::2], pong[1][::2]
    small = np.stack([np.asarray(Image.fromarray(frame).resize((80, 105), Image.Resampling.BOX)) for frame in frames])
    tracks, truth = read_objects(small, "ALE/Pong-v5"), pong_truth(memory)
    for name in tracks:
        check(tracks[name], truth[name], tolerance=1.5, recall=0.99)


def test_dim_and_noisy_pictures_are_read(pong: tuple[np.ndarray, np.ndarray]) -> None:
    """As a dream shows them: objects at 60 % of their contrast, noise everywhere."""
    frames, memory = pong
    frames, memory = frames[::4], memory[::4]
    background = np.array([144, 72, 17])
    noise = np.random.default_rng(0).normal(0, 4, frames.shape)
    spoilt = np.clip(background + (frames - background) * 0.6 + noise, 0, 255).round().astype(np.uint8)
    tracks, truth = read_objects(spoilt, "ALE/Pong-v5"), pong_truth(memory)
    visible, absent, centre = truth["ball"]
    ball = tracks["ball"]
    assert ball.present[visible].mean() >= 0.99 and ball.present[absent].mean() <= 0.01
    assert (np.abs(ball.y - centre[0])[visible & ball.present] <= 1.5).mean() >= 0.97
    visible, _, centre = truth["own_paddle"]
    own = tracks["own_paddle"]
    assert (np.abs(own.y - centre[0])[visible & own.present] <= 1.5).mean() >= 0.97


def test_an_empty_court_has_no_objects_and_ends_are_no_error() -> None:
    court = np.broadcast_to(np.array([144, 72, 17], np.uint8), (3, 210, 160, 3))
    assert not any(track.present.any() for track in read_objects(court, "ALE/Pong-v5").values())
    assert len(read_objects(court[:0], "ALE/Pong-v5")["ball"].y) == 0


@pytest.mark.parametrize("env_id", ["ALE/Pong-v5", "ALE/Breakout-v5"])
def test_a_painted_object_is_found_where_it_was_painted(env_id: str) -> None:
    for name, look in GAMES[env_id].objects.items():
        top, left = look.rows[-1][0], look.columns[0] + 1
        frame = np.full((1, 210, 160, 3), look.background, np.uint8)
        frame[:, top : top + look.height, left : left + look.width] = look.colour
        track = read_objects(frame, env_id)[name]
        assert (track.y[0], track.x[0]) == pytest.approx((top + look.height / 2, left + look.width / 2))
        assert track.share[0] == pytest.approx(1)


def test_a_doubled_object_is_counted_twice(pong: tuple[np.ndarray, np.ndarray], pong_tracks: dict[str, Track]) -> None:
    frames, memory = pong
    ball = pong_tracks["ball"]
    assert (ball.copies[ball.present] == 1).all() and (ball.copies[~ball.present] == 0).all()
    clear = np.flatnonzero(pong_truth(memory)["ball"][0] & (np.abs(ball.x - 80) > 10))[:50]
    ghost = frames[clear].copy()
    ghost[:, 100:104, 80:82] = (236, 236, 236)
    assert (read_objects(ghost, "ALE/Pong-v5")["ball"].copies == 2).all()


def test_of_several_the_uppermost_whole_one_is_meant() -> None:
    look = GAMES["ALE/Skiing-v5"].objects["flag"]
    frame = np.full((1, 210, 160, 3), look.background, np.uint8)
    for top, left in ((140, 30), (90, 60), (32 - 11, 100)):  # the last leaves the picture: three rows of it are there
        frame[:, max(32, top) : top + look.height, left : left + look.width] = look.colour
    track = read_objects(frame, "ALE/Skiing-v5")["flag"]
    assert (track.y[0], track.x[0]) == (90 + look.height / 2, 60 + look.width / 2)


def test_unknown_games_and_wrong_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ALE/Tennis-v5; known: ALE/Pong-v5"):
        read_objects(np.zeros((1, 210, 160, 3), np.uint8), "ALE/Tennis-v5")
    with pytest.raises(ValueError, match="float64"):
        read_objects(np.zeros((1, 210, 160, 3)), "ALE/Pong-v5")  # type: ignore[arg-type]
