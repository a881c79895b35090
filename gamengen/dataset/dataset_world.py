"""A recorded dataset as a World: it shows the episodes as they are, so the actions are the recording's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gamengen.codecs.codec import IdentityCodec
from gamengen.contract import WorldContract, check_actions
from gamengen.dataset.episodes import EpisodeInfo, list_episodes, read_contract, read_stream, read_table, read_verified
from gamengen.dataset.frame_png import decode_png
from gamengen.dataset.start_states import locate
from gamengen.world import Option, StartState, WorldState, WorldStep, check_option


@dataclass(frozen=True)
class StoredEpisode:
    """One episode, its frames still PNG."""

    info: EpisodeInfo
    images: tuple[bytes, ...]
    """T + 1 PNG files."""
    actions: np.ndarray
    """int64 (T,)."""
    rewards: np.ndarray
    """float32 (T,)."""

    def frame(self, t: int) -> np.ndarray:
        """uint8 (H, W, 3)."""
        return decode_png(self.images[t], f"episode {self.info.episode_id}, frame {t}")


class DatasetWorld:
    """`num_worlds` episodes being shown.

    A step goes one frame on and takes the recorded action only; after the last frame an episode stands still and
    `ended` says so. Frames are decoded one at a time: an episode in memory is as small as on disk.
    """

    def __init__(self, folder: str | Path, num_worlds: int = 1) -> None:
        self.folder = Path(folder)
        self._game = read_contract(folder)
        self._contract = WorldContract(codec=IdentityCodec(self._game).contract, kind="dataset", context_length=1)
        self._infos = {info.episode_id: info for info in list_episodes(folder)}
        self._showing: list[tuple[StoredEpisode, int] | None] = [None] * num_worlds
        self._newest_file: tuple[str, pa.Table] | None = None

    @property
    def contract(self) -> WorldContract:
        """Identity codec: its arrays are the frames."""
        return self._contract

    @property
    def num_worlds(self) -> int:
        """B."""
        return len(self._showing)

    @property
    def options(self) -> Mapping[str, Option]:
        """None: a recording cannot be changed."""
        return {}

    def set_option(self, name: str, value: Any) -> None:
        """Always a ValueError."""
        check_option(self.options, name, value)

    def read(self, episode_id: str) -> StoredEpisode:
        """An episode's rows, checked against the index; ValueError names what is damaged or missing."""
        if episode_id not in self._infos:
            raise ValueError(f"{self.folder} has no episode {episode_id!r}; it has {len(self._infos)}")
        info = self._infos[episode_id]
        rows = self._rows(info).slice(info.first_row, info.num_frames)
        if set(rows.column("episode_id").to_pylist()) != {episode_id}:
            raise ValueError(f"{self.folder / info.file}: episode {episode_id} is not where the index says")
        actions = rows.column("action").to_pylist()[:-1]
        check_actions(actions, self._game, f"{self.folder}, episode {episode_id}")
        return StoredEpisode(
            info,
            tuple(image["bytes"] for image in rows.column("image").to_pylist()),
            np.array(actions, np.int64),
            np.array(rows.column("reward").to_pylist()[:-1], np.float32),
        )

    def reset(self, starts: Sequence[StartState], seeds: Sequence[int], slots: Sequence[int] | None = None) -> None:
        """Show episodes from the frame that the start states name; seeds change nothing."""
        showing = []
        for slot, start, _ in zip(self._slots(slots), starts, seeds, strict=True):
            episode_id, frame = locate(start.name)
            before = self._showing[slot]
            again = before is not None and before[0].info.episode_id == episode_id
            episode = before[0] if before is not None and again else self.read(episode_id)
            if not 0 <= frame < len(episode.images):
                raise ValueError(f"start state {start.name!r}: the episode has {len(episode.images)} frames")
            showing.append((slot, (episode, frame)))
        for slot, place in showing:
            self._showing[slot] = place

    def step(self, actions: Sequence[int] | np.ndarray) -> WorldStep:
        """The next frame of every episode.

        Raises:
            ValueError: another action than the recorded one: what it would have led to is not in the recording.
        """
        if len(actions) != self.num_worlds:
            raise ValueError(f"expected {self.num_worlds} actions, one a world, got {len(actions)}")
        places = [self._place(slot) for slot in range(self.num_worlds)]
        for (episode, t), action in zip(places, actions, strict=True):
            if t < len(episode.actions) and int(action) != episode.actions[t]:
                raise ValueError(
                    f"episode {episode.info.episode_id}, frame {t}: the recorded action is {episode.actions[t]}, got "
                    f"{int(action)}; a recording can only be repeated"
                )
        rewards = [float(episode.rewards[t]) if t < len(episode.rewards) else 0.0 for episode, t in places]
        self._showing = [(episode, min(t + 1, len(episode.actions))) for episode, t in places]
        over = [episode.info.terminated and t + 1 == len(episode.actions) for episode, t in places]
        frames = [episode.frame(t) for episode, t in map(self._place, range(self.num_worlds))]
        return WorldStep(np.stack(frames), np.array(rewards, np.float32), np.array(over, bool))

    def ended(self) -> np.ndarray:
        """bool (B,): the last frame is shown."""
        places = [self._place(slot) for slot in range(self.num_worlds)]
        return np.array([t == len(episode.actions) for episode, t in places], bool)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray | None:
        """None: there is no codec."""
        return None

    def snapshot(self, slots: Sequence[int] | None = None) -> WorldState:
        """Which frame of which episode."""
        return [self._place(slot) for slot in self._slots(slots)]

    def restore(self, state: WorldState, slots: Sequence[int] | None = None) -> None:
        """Back to a snapshot."""
        for slot, place in zip(self._slots(slots), state, strict=True):
            self._showing[slot] = place

    def close(self) -> None:
        """Nothing is held open."""

    def _rows(self, info: EpisodeInfo) -> pa.Table:
        if self._newest_file is None or self._newest_file[0] != info.file:
            path = self.folder / info.file
            stream = read_stream(self.folder, info.stream_id) or {"files": []}
            entry = next((entry for entry in stream["files"] if entry["file"] == info.file), None)
            if entry is None:
                raise ValueError(f"{path}: the index of stream {info.stream_id} has no checksum of it")
            self._newest_file = (info.file, read_table(read_verified(path, entry), self._game, path))
        return self._newest_file[1]

    def _place(self, slot: int) -> tuple[StoredEpisode, int]:
        place = self._showing[slot]
        if place is None:
            raise ValueError(f"world {slot} shows no episode yet; call reset first")
        return place

    def _slots(self, slots: Sequence[int] | None) -> Sequence[int]:
        return range(self.num_worlds) if slots is None else slots


def episode_start(episode: StoredEpisode) -> StartState:
    """The state that shows an episode from its first frame, its recorded actions to come."""
    return StartState(
        frames=episode.frame(0)[None],
        actions=np.zeros(0, np.int64),
        future_actions=episode.actions,
        name=f"episode {episode.info.episode_id} frame 000000",
    )
