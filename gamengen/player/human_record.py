"""Every episode of the real game into a dataset, while it is played in the browser; it trains like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gamengen.contract import GameContract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.splits import split_of
from gamengen.world import StartState


class HumanRecorder:
    """Writes one client's episodes as one stream. An episode is on disk as soon as it has ended.

    Args:
        folder: the dataset; made when it is not there.
    Raises:
        ContractMismatch: the folder holds another game or another setting of it.
    """

    def __init__(self, folder: str | Path, game: GameContract, stream_id: str) -> None:
        self._writer = EpisodeWriter(folder, game, stream_id)
        self._num_steps = 0
        self._running = False

    @property
    def num_episodes(self) -> int:
        """Complete ones."""
        return self._writer.num_episodes

    @property
    def num_steps(self) -> int:
        """Actions of the complete episodes and of the one that runs."""
        return self._writer.num_steps

    def begin(self, start: StartState, agent: str, ram: Any, lives: Any) -> None:
        """A new game, from its first frame.

        Raises:
            ValueError: the state is in the middle of a game, so that the episode could not be replayed.
        """
        replay = start.replay
        if replay is None or len(replay.actions) or len(start.frames) != 1:
            raise ValueError(f"start state {start.name!r} is not the beginning of a game; recorded games begin anew")
        self.cut()
        self._writer.begin(
            start.frames[0], seed=replay.seed, noop_starts=replay.noop_starts,
            split=split_of(self._writer.num_episodes), agent=agent, ram=ram,
            lives=None if lives is None else int(lives),
        )  # fmt: skip
        self._num_steps, self._running = 0, True

    def add(self, action: int, reward: float, frame: np.ndarray, ram: Any, lives: Any) -> None:
        """One step of the running game."""
        self._writer.append(action, reward, frame, ram=ram, lives=None if lives is None else int(lives))
        self._num_steps += 1

    def end(self, terminated: bool) -> None:
        """The game is over: by its own rules, or by a time limit."""
        self._writer.end(terminated, not terminated)
        self._writer.flush()
        self._running = False

    def cut(self) -> None:
        """Keep what was played of a game that is left; a game without an action is forgotten."""
        if self._running and self._num_steps > 0:
            self.end(terminated=False)
        self._running = False
