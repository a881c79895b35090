"""gamengen.media: what is written reads back with the right pixels, lengths and bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from gamengen.contract import Action, GameContract
from gamengen.media import (
    Frames,
    caption,
    draw_actions,
    grid,
    side_by_side,
    upscale,
    write_animation,
    write_image,
    write_raw_frames,
)

GAME = GameContract(
    env_id="Toy-v0",
    frame_height=8,
    frame_width=120,
    fps=15,
    actions=(
        Action(meaning="NOOP"),
        Action(meaning="RIGHT", keys=("ArrowRight",)),
        Action(meaning="RIGHTFIRE", keys=("ArrowRight", " ")),
    ),
)


def clip(length: int, colours: int, seed: int = 0, height: int = 12, width: int = 10) -> Frames:
    """Random frames of so many colours."""
    random = np.random.default_rng(seed)
    palette = random.integers(0, 256, (colours, 3), dtype=np.uint8)
    return palette[random.integers(0, colours, (length, height, width))]


def read(path: Path) -> tuple[Frames, list[int]]:
    with Image.open(path) as image:
        shown = [
            (np.asarray(frame.convert("RGB")), int(frame.info["duration"])) for frame in ImageSequence.Iterator(image)
        ]
    return np.stack([frame for frame, _ in shown]), [duration for _, duration in shown]


@pytest.mark.parametrize("colours", [2, 200])
@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_few_colours_are_exact_and_the_length_is_right(tmp_path: Path, suffix: str, colours: int) -> None:
    frames = clip(31, colours)
    shown, durations = read(write_animation(tmp_path / f"a{suffix}", frames, fps=15))
    assert np.array_equal(shown, frames)
    assert sum(durations) == pytest.approx(1000 * 31 / 15, abs=5)
    assert max(durations) - min(durations) <= 10


def test_equal_frames_in_a_row_keep_their_time_in_a_gif(tmp_path: Path) -> None:
    one = clip(1, 4)
    frames = np.concatenate([one, one, one, clip(1, 4, seed=1), one])
    shown, durations = read(write_animation(tmp_path / "a.gif", frames, fps=10))
    assert sum(durations) == 500
    times = np.repeat(np.arange(len(durations)), [duration // 100 for duration in durations])
    assert np.array_equal(shown[times], frames)


def test_many_colours_keep_common_and_rare_ones_in_a_gif(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = np.full((6, 40, 60, 3), (144, 72, 17), np.uint8)  # a court
    noise = random.integers(0, 12, (6, 40, 30, 3), dtype=np.uint8)
    frames[:, :, 30:] = np.array((80, 170, 80), np.uint8) + noise  # a dream's many greens
    frames[:, 5:9, 5:7] = (236, 20, 236)  # a ball
    assert len(np.unique(frames.reshape(-1, 3), axis=0)) > 256
    shown, _ = read(write_animation(tmp_path / "a.gif", frames, fps=10))
    assert np.array_equal(shown[:, :, :30], frames[:, :, :30])
    assert np.abs(shown.astype(int) - frames).max() <= 6


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_equal_frames_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    if suffix == ".mp4":
        pytest.importorskip("av", reason="the extra `video` is not installed")
    frames = clip(5, 300)
    first = write_animation(tmp_path / f"a{suffix}", frames, fps=15).read_bytes()
    assert first == write_animation(tmp_path / f"b{suffix}", frames.copy(), fps=15).read_bytes()
    assert not list(tmp_path.glob("*.tmp"))


def test_mp4_reads_back_close_and_with_its_rate(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="the extra `video` is not installed")
    frames = upscale(clip(9, 3, height=7, width=9), 5)  # odd sides
    with av.open(str(write_animation(tmp_path / "a.mp4", frames, fps=15))) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 15
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    assert shown.shape == (9, 36, 46, 3)
    assert np.abs(shown[:, :35, :45].astype(int) - frames).mean() < 12


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown suffix '\.avi'; expected one of: \.gif, \.mp4, \.webp"):
        write_animation(tmp_path / "a.avi", clip(2, 2), fps=15)
    with pytest.raises(ValueError, match="at least one frame"):
        write_animation(tmp_path / "a.gif", clip(2, 2)[:0], fps=15)
    with pytest.raises(ValueError, match="float64"):
        write_animation(tmp_path / "a.gif", clip(2, 2) / 255, fps=15)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_upscale_repeats_pixels() -> None:
    frames = clip(2, 50)
    big = upscale(frames, 3)
    assert big.shape == (2, 36, 30, 3)
    assert all(np.array_equal(big[:, row::3, column::3], frames) for row in range(3) for column in range(3))


def test_panels_hold_their_frames_unchanged_under_their_names() -> None:
    real, dream = clip(3, 9, width=40), clip(3, 9, seed=1, width=50)
    both = side_by_side({"real": real, "dream": dream})
    assert both.shape == (3, 12 + 15, 40 + 4 + 50, 3)
    assert np.array_equal(both[:, 15:, :40], real) and np.array_equal(both[:, 15:, 44:], dream)
    assert np.array_equal(both[:, :, :40], caption(real, "real"))
    assert not np.array_equal(caption(real, "real")[:, :15], caption(real, "dream")[:, :15])
    with pytest.raises(ValueError, match="one length"):
        side_by_side({"a": real, "b": dream[:2]})


def test_a_grid_puts_clips_row_by_row_and_holds_the_last_frame() -> None:
    clips = [clip(length, 9, seed=length) for length in (2, 3, 4)]
    together = grid(clips, columns=2)
    assert together.shape == (4, 12 * 2 + 4, 10 * 2 + 4, 3)
    assert np.array_equal(together[:, :12, 14:], np.concatenate([clips[1], clips[1][-1:]]))
    assert np.array_equal(together[:, 16:, :10], clips[2])
    assert grid(clips, columns=5).shape == (4, 12, 10 * 3 + 4 * 2, 3)


def test_drawn_actions_differ_by_action_and_leave_the_frames_alone() -> None:
    frames = clip(4, 9, height=8, width=120)
    drawn = draw_actions(frames, [0, 1, 2, -1], GAME)
    assert np.array_equal(drawn[:, :8], frames)
    strips = {strip.tobytes() for strip in drawn[:, 8:]}
    assert len(strips) == 4
    lit = (drawn[:, 8:] > 200).all(-1).sum((1, 2))
    assert lit[2] > lit[1] > lit[0] > lit[3]  # two keys, one key, a name only, nothing
    with pytest.raises(ValueError, match="expected 4 actions"):
        draw_actions(frames, [0], GAME)
    with pytest.raises(ValueError, match="action 3 is not in the table of Toy-v0"):
        draw_actions(frames, [0, 1, 2, 3], GAME)


def test_raw_frames_and_images_are_exact(tmp_path: Path) -> None:
    frames = clip(3, 300)
    with np.load(write_raw_frames(tmp_path / "a.npz", frames, actions=np.arange(3)), allow_pickle=False) as file:
        assert np.array_equal(file["frames"], frames) and file["actions"].tolist() == [0, 1, 2]
    assert np.array_equal(np.asarray(Image.open(write_image(tmp_path / "a.png", frames[0]))), frames[0])
    with pytest.raises(ValueError, match=r"\.npz"):
        write_raw_frames(tmp_path / "a.zip", frames)


def test_a_gif_of_a_fast_game_lasts_as_long_with_fewer_frames(tmp_path: Path) -> None:
    """A browser shows a delay under 2/100 s for a tenth of a second."""
    frames = clip(121, 9)
    shown, durations = read(write_animation(tmp_path / "a.gif", frames, fps=60))
    assert np.array_equal(shown, frames[::2]) and min(durations) >= 20
    assert sum(durations) == pytest.approx(61 / 30 * 1000, abs=10)
