"""Where the ball is in recorded frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain, groupby
from multiprocessing import get_context
from pathlib import Path

from gamengen.contract import read_game_contract
from gamengen.dataset.episodes import EpisodeInfo, read_episodes
from gamengen.objects import BALL, Track, read_objects


def find_balls(dataset: str | Path, episodes: Sequence[EpisodeInfo], num_workers: int) -> Iterator[tuple[str, Track]]:
    """(episode id, the ball in each of its frames) of recorded episodes, file by file; several processes read them."""
    files = [[info.episode_id for info in group] for _, group in groupby(episodes, key=lambda info: info.file)]
    look = partial(_balls_of, dataset, read_game_contract(dataset).env_id)
    # Spawned: a fork of a process that has used torch's threads may hang.
    with ProcessPoolExecutor(num_workers, get_context("spawn")) as pool:
        yield from chain.from_iterable(pool.map(look, files))


def _balls_of(dataset: str | Path, env_id: str, episodes: Sequence[str]) -> list[tuple[str, Track]]:
    return [
        (episode.episode_id, read_objects(episode.frames, env_id, [BALL])[BALL])
        for episode in read_episodes(dataset, episode_ids=episodes)
    ]
