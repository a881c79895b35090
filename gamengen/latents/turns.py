"""In which recorded frames a ball has just turned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain, groupby
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gamengen.contract import read_game_contract
from gamengen.dataset.episodes import EpisodeInfo, read_episodes
from gamengen.objects import BALL, Axes, read_objects, turns


def find_turns(
    dataset: str | Path, episodes: Sequence[EpisodeInfo], num_workers: int, axes: Axes = "xy"
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """(episode id, bool (frames,)) of recorded episodes, file by file; several processes read them."""
    files = [[info.episode_id for info in group] for _, group in groupby(episodes, key=lambda info: info.file)]
    look = partial(_turns_of, dataset, read_game_contract(dataset).env_id, axes)
    # Spawned: a fork of a process that has used torch's threads may hang.
    with ProcessPoolExecutor(num_workers, get_context("spawn")) as pool:
        yield from chain.from_iterable(pool.map(look, files))


def _turns_of(
    dataset: str | Path, env_id: str, axes: Axes, episodes: Sequence[str]
) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    return [
        (episode.episode_id, turns(read_objects(episode.frames, env_id, [BALL])[BALL], axes))
        for episode in read_episodes(dataset, episode_ids=episodes)
    ]
