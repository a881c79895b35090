"""player.clip: a piece of a game as it was shown, as an animation and as an episode that trains like any other."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gamengen.dataset.episodes import NO_SEED, read_episodes
from gamengen.player import clip as clips
from gamengen.player.clip import Clip, save_clip
from tests.counter_env import Count, draw_count
from tests.counter_world import counter_game

GAME = counter_game()
ACTIONS = [1, 2, 3, 0, 1]


def made(num_panes: int = 1, length: int = 5) -> tuple[Clip, np.ndarray]:
    frames = np.stack([draw_count(Count(7, t, ACTIONS[t % 5 - 1] if t else 0)) for t in range(length + 1)])
    panes = [(frame, 255 - frame)[:num_panes] for frame in frames]
    clip = Clip(GAME, panes[0], ("dream", "real game")[:num_panes])
    for t in range(length):
        clip.add(ACTIONS[t % 5], None if num_panes == 1 else 0.5, False, panes[t + 1])
    return clip, frames


def test_frames_and_actions_come_back() -> None:
    clip, frames = made(num_panes=2)
    assert np.array_equal(clip.frames(), frames) and np.array_equal(clip.frames(1), 255 - frames) and len(clip) == 6
    episode = clip.episode("dream-human", "train")
    assert episode.actions.tolist() == ACTIONS and (episode.rewards == 0.5).all() and episode.seed == NO_SEED
    assert episode.truncated and not episode.terminated


def test_a_rewind_takes_the_end_away() -> None:
    clip, frames = made()
    assert clip.cut(0) and len(clip) == 6
    assert clip.cut(2) and np.array_equal(clip.frames(), frames[:4])
    clip.add(3, 1.0, True, (frames[5],))
    assert clip.episode("a", "train").actions.tolist() == [1, 2, 3, 3] and clip.episode("a", "train").terminated
    assert not clip.running, "the game has ended"
    assert not clip.cut(5), "it began later than that"


def test_it_stops_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "MAX_CLIP_FRAMES", 4)
    clip, _ = made(length=3)
    assert not clip.running


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".mp4"])
def test_an_animation_has_the_frames_and_the_keys(suffix: str) -> None:
    if suffix == ".mp4":
        pytest.importorskip("av")
    clip, frames = made()
    data = clip.animation(suffix)
    if suffix == ".mp4":
        assert data[4:8] == b"ftyp"
        return
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 6  # type: ignore[attr-defined]
        image.seek(3)
        shown = np.asarray(image.convert("RGB"))
    assert np.array_equal(shown[:32], frames[3]) and shown.shape[0] > 32, "the strip of keys is below"


def test_it_is_saved_as_an_episode_that_can_be_trained_on(tmp_path: Path) -> None:
    clip, frames = made()
    names = [save_clip(clip, tmp_path, "clip-1", "dream-human") for _ in range(2)]
    assert names == ["clip-1-000000", "clip-1-000001"]
    first, _ = sorted(read_episodes(tmp_path), key=lambda episode: episode.index_in_stream)
    assert np.array_equal(first.frames, frames) and first.agent == "dream-human" and first.split == "train"
    empty = Clip(GAME, (frames[0],), ("dream",))
    with pytest.raises(ValueError, match="record longer"):
        save_clip(empty, tmp_path, "clip-2", "a")
