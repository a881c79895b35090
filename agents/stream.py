"""One game's stream of episodes: every episode seeded from the stream's name, every frame tapped into the dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gamengen.contract import GameContract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.splits import split_of
from gamengen.games.emulator import Emulator
from gamengen.noise import key_of


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """What all streams of one recording share."""

    seed: int = 0
    num_streams: int = 1
    """Over all shards."""
    max_episode_frames: int = 5_000
    """Recorded frames after which an episode is truncated; an idle player's game may never end."""
    validation_share: float = 0.05
    test_share: float = 0.05

    def __post_init__(self) -> None:
        if self.max_episode_frames < 1:
            raise ValueError(f"max_episode_frames {self.max_episode_frames}: expected at least 1")
        split_of(0, self.validation_share, self.test_share)


def fire_action(game: GameContract) -> int | None:
    """The button that starts many a game and is pressed for agents; None where there is none."""
    return next((number for number, action in enumerate(game.actions) if action.meaning == "FIRE"), None)


class GameStream:
    """An emulator and, unless `writer` is None, the record of all it shows.

    Episode n of a stream depends on (seed, stream id, n) and the actions alone.

    Args:
        stream_number: 0 to `num_streams` - 1, over all shards.
    """

    rng: np.random.Generator
    """The running episode's own generator."""
    frame: np.ndarray
    """uint8 (H, W, 3), the newest recorded frame."""
    ram: np.ndarray | None
    lives: int | None
    episode_return: float
    episode_length: int

    def __init__(
        self, game: GameContract, settings: StreamSettings, stream_id: str, stream_number: int,
        writer: EpisodeWriter | None,
    ) -> None:  # fmt: skip
        self.game, self.writer = game, writer
        self._emulator = Emulator(game)
        self._settings, self._stream_id, self._stream_number = settings, stream_id, stream_number
        self._num_unrecorded = 0

    @property
    def episode_number(self) -> int:
        """The number of the next episode (or of the running one) over all streams of the recording."""
        index = self._num_unrecorded if self.writer is None else self.writer.num_episodes
        return index * self._settings.num_streams + self._stream_number

    def begin(self, agent: str) -> None:
        """Start the next episode."""
        number = self.episode_number
        self.rng = np.random.default_rng(key_of("episode", self._settings.seed, self._stream_id, number))
        self.seed = seed = int(self.rng.integers(1 << 31))
        noop_starts = int(self.rng.integers(self.game.noop_start_max + 1))
        self.frame = self._emulator.reset(seed, noop_starts)
        self._look()
        self.episode_return, self.episode_length = 0.0, 0
        if self.writer is not None:
            split = split_of(number, self._settings.validation_share, self._settings.test_share)
            self.writer.begin(
                self.frame, seed=seed, noop_starts=noop_starts, split=split, agent=agent, lives=self.lives, ram=self.ram
            )

    def step(self, action: int) -> tuple[float, bool, bool]:
        """One recorded frame further: (reward, terminated, truncated). An ended episode is already in the dataset."""
        self.frame, reward, terminated, truncated = self._emulator.step(action)
        self._look()
        self.episode_return += reward
        self.episode_length += 1
        truncated = truncated or (not terminated and self.episode_length >= self._settings.max_episode_frames)
        if self.writer is not None:
            self.writer.append(action, reward, self.frame, lives=self.lives, ram=self.ram)
        if terminated or truncated:
            self._end(terminated, truncated)
        return reward, terminated, truncated

    def cut(self) -> None:
        """End the running episode as truncated, where recording stops."""
        self._end(False, True)

    def close(self) -> None:
        """Free the emulator."""
        self._emulator.close()

    def _look(self) -> None:
        self.ram, self.lives = self._emulator.ram(), self._emulator.lives()

    def _end(self, terminated: bool, truncated: bool) -> None:
        if self.writer is None:
            self._num_unrecorded += 1
        else:
            self.writer.end(terminated, truncated)
