"""Held-out episodes as the metrics read them: any piece of any episode, decoded when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from gamengen.dataset.episodes import (
    NO_SEED,
    STREAM_FOLDER,
    Episode,
    EpisodeInfo,
    episode_from_rows,
    list_episodes,
    read_contract,
    read_table,
    read_verified,
)
from gamengen.durable import read_json
from gamengen.noise import key_of
from gamengen.world import Replay, StartState

KEPT_FILES = 64
SAME_PLAY = 64
"""Actions: two episodes of one seed that begin with the same ones show the same frames."""


class TooShort(ValueError):
    """No episode has as many steps as are asked for: what needs them cannot be measured, everything else can."""


@dataclass(frozen=True)
class Place:
    """A frame of an episode: the newest one that a world sees."""

    episode: str
    frame: int


@dataclass(frozen=True)
class Excerpt:
    """What a world sees, and what the real game did next."""

    place: Place
    start: StartState
    """At most L frames up to `place.frame`, with replay and the next actions."""
    frames: np.ndarray
    """uint8 (n + 1, H, W, 3); the first is the last of `start`."""
    actions: np.ndarray
    """int64 (n,)."""
    rewards: np.ndarray
    """float32 (n,)."""
    lives: np.ndarray | None
    """int64 (n + 1,)."""
    ram: np.ndarray | None
    """uint8 (n + 1, 128)."""


class Recordings:
    """Episodes of one split, read from a dataset folder (`open`) or held in memory (`of`)."""

    def __init__(self, lengths: Mapping[str, int], seeds: Mapping[str, tuple[int, int]], read: _Read) -> None:
        self.lengths = dict(lengths)
        """Episode id -> T, its number of actions."""
        self.seeds = dict(seeds)
        """Episode id -> (seed, no-op starts); the seed is NO_SEED where no emulator can replay the episode."""
        self._read = read

    @classmethod
    def open(cls, folder: str | Path, split: str) -> Recordings:
        """Of a dataset folder. Compressed files stay in memory, frames do not.

        Raises:
            FileNotFoundError, ValueError: no dataset, an empty split, or (later) a damaged file, by name.
        """
        infos = {info.episode_id: info for info in list_episodes(folder, split)}
        if not infos:
            raise ValueError(f"{folder} has no {split} episodes; record more, or choose another --split")
        lengths = {name: info.num_frames - 1 for name, info in infos.items()}
        seeds = {name: (info.seed, info.noop_starts) for name, info in infos.items()}
        return cls(lengths, seeds, _FromDisk(Path(folder), infos))

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> Recordings:
        """Of episodes in memory."""
        if not episodes:
            raise ValueError("expected at least one episode")
        lengths = {e.episode_id: len(e.actions) for e in episodes}
        seeds = {e.episode_id: (e.seed, e.noop_starts) for e in episodes}
        return cls(lengths, seeds, _FromMemory({e.episode_id: e for e in episodes}))

    def excerpt(self, place: Place, context_length: int, horizon: int) -> Excerpt:
        """The L frames up to a place and the `horizon` steps after it; fewer where the episode ends."""
        first = max(0, place.frame - context_length + 1)
        end = min(place.frame + horizon, self.lengths[place.episode])
        piece, before = self._read(place.episode, first, end)
        now = place.frame - first
        replay = Replay(piece.seed, np.concatenate([before, piece.actions[:now]]), piece.noop_starts)
        start = StartState(
            frames=piece.frames[: now + 1], actions=piece.actions[:now],
            replay=None if piece.seed == NO_SEED else replay,
            future_actions=piece.actions[now:], name=f"episode {place.episode} frame {place.frame:06d}",
        )  # fmt: skip
        return Excerpt(
            place, start, piece.frames[now:], piece.actions[now:], piece.rewards[now:],
            None if piece.lives is None else piece.lives[now:], None if piece.ram is None else piece.ram[now:],
        )  # fmt: skip

    def actions(self, episode: str) -> np.ndarray:
        """int64 (T,): all actions of an episode; only its last frame is decoded."""
        length = self.lengths[episode]
        return self._read(episode, length, length)[1]

    def common_length(self, longest: int) -> int:
        """Steps, at most `longest`, that at least half of the episodes have (and two, where there are two)."""
        lengths = sorted(self.lengths.values(), reverse=True)
        enough = max(min(2, len(lengths)), (len(lengths) + 1) // 2)
        return min(longest, lengths[enough - 1])

    def shared_with(self, other: Recordings) -> list[str]:
        """Episodes that the other has too: of the same id, or the same seed with the same actions to begin with."""
        theirs: dict[tuple[int, int], list[str]] = {}
        for name, seed in other.seeds.items():
            if seed[0] != NO_SEED:
                theirs.setdefault(seed, []).append(name)
        return [
            name
            for name, seed in self.seeds.items()
            if name in other.lengths
            or any(_begin_alike(self.actions(name), other.actions(one)) for one in theirs.get(seed, ()))
        ]

    def places(self, count: int, horizon: int, seed: int, *, first_frame: int = 0) -> list[Place]:
        """Up to `count` different places with `horizon` recorded steps after each.

        Every beginning of the list is as evenly spread over the episodes as can be: one place of every episode in
        turn, the episodes in random order.

        Raises:
            TooShort: no episode is long enough.
        """
        rng = np.random.default_rng(key_of("places", seed, horizon))
        long_enough = {name: n - horizon + 1 - first_frame for name, n in self.lengths.items()}
        names = sorted(name for name, number in long_enough.items() if number > 0)
        if not names:
            raise TooShort(
                f"no episode has {horizon} recorded steps after frame {first_frame} (the longest has "
                f"{max(self.lengths.values())} steps); ask for a shorter horizon or record longer episodes"
            )
        names = [names[i] for i in rng.permutation(len(names))]
        frames = {n: first_frame + rng.choice(long_enough[n], min(count, long_enough[n]), replace=False) for n in names}
        rounds = range(max(len(chosen) for chosen in frames.values()))
        order = [Place(n, int(frames[n][r])) for r in rounds for n in names if r < len(frames[n])]
        return order[:count]


def _begin_alike(one: np.ndarray, other: np.ndarray) -> bool:
    length = min(len(one), len(other), SAME_PLAY)
    return np.array_equal(one[:length], other[:length])


_Piece = tuple[Episode, np.ndarray]


class _Read:
    def __call__(self, episode: str, first: int, last: int) -> _Piece:
        """Frames `first` to `last` (included) as an episode of its own, and the actions before them."""
        raise NotImplementedError


class _FromMemory(_Read):
    def __init__(self, episodes: dict[str, Episode]) -> None:
        self._episodes = episodes

    def __call__(self, episode: str, first: int, last: int) -> _Piece:
        whole = self._episodes[episode]
        piece = Episode(
            whole.frames[first : last + 1], whole.actions[first:last], whole.rewards[first:last],
            whole.terminated and last == len(whole.actions), whole.truncated and last == len(whole.actions),
            whole.episode_id, whole.stream_id, whole.index_in_stream, whole.seed, whole.noop_starts, whole.split,
            whole.agent, None if whole.lives is None else whole.lives[first : last + 1],
            None if whole.ram is None else whole.ram[first : last + 1],
        )  # fmt: skip
        return piece, whole.actions[:first]


class _FromDisk(_Read):
    def __init__(self, folder: Path, infos: dict[str, EpisodeInfo]) -> None:
        self._folder, self._infos, self._game = folder, infos, read_contract(folder)
        self._table = lru_cache(KEPT_FILES)(self._load)

    def __call__(self, episode: str, first: int, last: int) -> _Piece:
        info = self._infos[episode]
        table = self._table(info.stream_id, info.file)
        rows = table.slice(info.first_row + first, last - first + 1)
        before = table.column("action").slice(info.first_row, first).to_numpy()
        where = f"{self._folder / info.file}, episode {episode}, frames {first} to {last}"
        return episode_from_rows(rows, info.split, where), np.asarray(before, np.int64)

    def _load(self, stream: str, file: str) -> pa.Table:
        path = self._folder / file
        index = read_json(self._folder / STREAM_FOLDER / f"{stream}.json")
        entry = next((entry for entry in index["files"] if entry["file"] == file), None)
        if entry is None:
            raise ValueError(f"{path}: the index of stream {stream} has no checksum of it; record again")
        return read_table(read_verified(path, entry), self._game, path)
