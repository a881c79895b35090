"""What a client records on request: a minute of its game, to take away as GIF or MP4 or to keep as an episode."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

import numpy as np

from gamengen.contract import GameContract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import NO_SEED, Episode
from gamengen.dataset.splits import split_of
from gamengen.media import WRITERS, draw_actions, side_by_side, write_animation

MAX_CLIP_FRAMES = 900
"""A minute at 15 frames a second. A GIF of it takes a few hundred MB while it is made."""
CLIP_SUFFIXES = tuple(WRITERS)
_FAST = 1  # zlib level: 0.5 ms a frame, a tenth of the memory


class Clip:
    """Frames and actions of one unbroken piece of a game.

    Args:
        panes: what is shown when the recording begins, uint8 (H, W, 3) each; the first one is the world's.
    """

    def __init__(self, game: GameContract, panes: tuple[np.ndarray, ...], names: tuple[str, ...]) -> None:
        self.game, self.names = game, names
        self.running = True
        self._shape = panes[0].shape
        self._frames = [self._squeeze(panes)]
        self._actions: list[int] = []
        self._rewards: list[float] = []
        self._terminated = False

    def __len__(self) -> int:
        """Frames, the first one included."""
        return len(self._frames)

    def add(self, action: int, reward: float | None, terminated: bool, panes: tuple[np.ndarray, ...]) -> None:
        """One frame, and the action that led to it; the clip stops when it is full or the game ends."""
        self._actions.append(action)
        self._rewards.append(reward or 0.0)
        self._frames.append(self._squeeze(panes))
        self._terminated = terminated
        self.running = not terminated and len(self._frames) < MAX_CLIP_FRAMES

    def cut(self, num_frames: int) -> bool:
        """Forget the newest frames, after a rewind; False when the clip began later than that."""
        if num_frames >= len(self._frames):
            return False
        if num_frames > 0:
            del self._frames[-num_frames:], self._actions[-num_frames:], self._rewards[-num_frames:]
        return True

    def frames(self, pane: int = 0) -> np.ndarray:
        """uint8 (T + 1, H, W, 3)."""
        size = int(np.prod(self._shape))
        unpacked = [zlib.decompress(data)[pane * size : (pane + 1) * size] for data in self._frames]
        return np.frombuffer(b"".join(unpacked), np.uint8).reshape(len(unpacked), *self._shape)

    def animation(self, suffix: str) -> bytes:
        """The clip as `.gif`, `.webp` or `.mp4`, with the pressed keys below.

        Raises:
            ImportError: MP4 without PyAV.
        """
        panels = {name: self.frames(pane) for pane, name in enumerate(self.names)}
        frames = side_by_side(panels) if len(panels) > 1 else panels[self.names[0]]
        # The keys of a frame are those that answer to it, as in `rollout`: the last frame has none.
        frames = draw_actions(frames, [*self._actions, -1], self.game)
        with tempfile.TemporaryDirectory() as folder:
            return write_animation(Path(folder) / f"clip{suffix}", frames, self.game.fps).read_bytes()

    def episode(self, agent: str, split: str) -> Episode:
        """The clip in the training format. It says of itself that no emulator can replay it."""
        if not self._actions:
            raise ValueError("the recording has no frame after its first; record longer")
        return Episode(
            frames=self.frames(), actions=np.array(self._actions, np.int64),
            rewards=np.array(self._rewards, np.float32), terminated=self._terminated, truncated=not self._terminated,
            episode_id="", stream_id="", index_in_stream=0, seed=NO_SEED, noop_starts=0, split=split, agent=agent,
        )  # fmt: skip

    def _squeeze(self, panes: tuple[np.ndarray, ...]) -> bytes:
        return zlib.compress(b"".join(pane.tobytes() for pane in panes), _FAST)


def save_clip(clip: Clip, folder: Path, stream_id: str, agent: str) -> str:
    """Write a clip into an episode dataset, which is made when it is not there; the new episode's id.

    Raises:
        ValueError: nothing to save, or the folder holds something else.
        ContractMismatch: the folder holds another game or another setting of it.
    """
    writer = EpisodeWriter(folder, clip.game, stream_id)
    writer.write(clip.episode(agent, split_of(writer.num_episodes)))
    writer.flush()
    return f"{stream_id}-{writer.num_episodes - 1:06d}"
