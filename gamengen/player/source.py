"""What is played: a world, the real game or a recorded dataset, and where its games begin."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from gamengen.contract import GameContract
from gamengen.dataset.dataset_world import DatasetWorld, episode_start
from gamengen.dataset.episode_writer import open_dataset
from gamengen.dataset.episodes import list_episodes
from gamengen.games.emulator import Emulator
from gamengen.games.emulator_world import EmulatorWorld
from gamengen.noise import key_of
from gamengen.player.controllers import BUILT_IN, ControllerFactory, built_in
from gamengen.player.protocol import MAX_SEED
from gamengen.world import Replay, StartState, World

MAX_GALLERY = 64
"""Start states that the page shows."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Everything that the server has to know of what it plays. `make_world` and the callables run in one thread."""

    title: str
    kind: Literal["dream", "game", "replay"]
    game: GameContract
    make_world: Callable[[int], World]
    starts: Sequence[StartState]
    """The gallery."""
    further_starts: int = 0
    """How many more there are that the page does not show."""
    start_at: Callable[[int, int], StartState]
    """(index in the gallery, seed) -> where a game begins."""
    next_start: Callable[[int, int], tuple[int, int]]
    """(index, seed) of the game that follows when one has ended."""
    controllers: Mapping[str, ControllerFactory] = field(default_factory=lambda: BUILT_IN)
    first_controller: str = "human"
    human: bool = True
    """Whether the keys may play."""
    make_truth: Callable[[], World] | None = None
    """The real game of one slot, for the second pane."""
    truth_missing: str = "there is no other game to compare with"
    """Why there is no second pane, where there is none."""
    record_dir: Path | None = None
    """Where saved clips, or with `record_all` every episode, go."""
    record_all: bool = False

    @property
    def num_starts(self) -> int:
        """Indices that `start_at` takes."""
        return len(self.starts) + self.further_starts


def dream_source(
    title: str, make_world: Callable[[int], World], game: GameContract, starts: Sequence[StartState], *,
    agents: Mapping[str, ControllerFactory] | None = None, record_dir: Path | None = None,
) -> Source:  # fmt: skip
    """A learned world. The real game stands beside it on request, where ale-py (or the game) is installed."""
    if not starts:
        raise ValueError(f"{title}: expected at least one start state, got none")
    for start in starts:
        start.check(game)
    missing = _truth_missing(game, starts)
    return Source(
        title=title, kind="dream", game=game, make_world=make_world, starts=tuple(starts[:MAX_GALLERY]),
        start_at=lambda index, seed: starts[index], next_start=lambda index, seed: (index, (seed + 1) % MAX_SEED),
        controllers={**built_in(game), **(agents or {})}, record_dir=record_dir,
        make_truth=None if missing else lambda: EmulatorWorld(game), truth_missing=missing,
    )  # fmt: skip


def game_source(
    game: GameContract, *, agents: Mapping[str, ControllerFactory] | None = None, record_dir: Path | None = None,
    first_seed: int = 0,
) -> Source:  # fmt: skip
    """The real game; with `record_dir` every episode is recorded. Game `seed` begins in its own way."""
    if record_dir is not None:
        open_dataset(record_dir, game)  # now and not when the first game begins: another game's folder is refused
    emulator = Emulator(game)
    # Nothing recorded to repeat.
    players = {name: factory for name, factory in built_in(game).items() if name != "recorded"}
    return Source(
        title=game.env_id, kind="game", game=game, make_world=lambda size: EmulatorWorld(game, size),
        starts=(new_game(emulator, first_seed),), start_at=lambda index, seed: new_game(emulator, seed),
        next_start=lambda index, seed: (0, (seed + 1) % MAX_SEED), controllers={**players, **(agents or {})},
        truth_missing="this is the real game", record_dir=record_dir, record_all=record_dir is not None,
    )  # fmt: skip


def dataset_source(folder: str | Path) -> Source:
    """A recorded dataset, episode after episode.

    Raises:
        FileNotFoundError, ValueError: not a dataset, empty or damaged.
    """
    reader = DatasetWorld(folder)
    infos = list_episodes(folder)
    if not infos:
        raise ValueError(f"{folder} holds no episode yet; record some with scripts/record_episodes.py")
    return Source(
        title=str(Path(folder).name), kind="replay", game=reader.contract.game,
        make_world=lambda size: DatasetWorld(folder, size),
        starts=tuple(episode_start(reader.read(info.episode_id)) for info in infos[:MAX_GALLERY]),
        further_starts=max(0, len(infos) - MAX_GALLERY),
        start_at=lambda index, seed: episode_start(reader.read(infos[index].episode_id)),
        next_start=lambda index, seed: ((index + 1) % len(infos), seed),
        controllers={"recorded": BUILT_IN["recorded"]}, first_controller="recorded", human=False,
        truth_missing="a recording is the real game",
    )  # fmt: skip


def new_game(emulator: Emulator, seed: int) -> StartState:
    """The first frame of a game, with the replay that leads to it."""
    noop_starts = int(key_of("new_game", seed) % (emulator.game.noop_start_max + 1))
    frame = emulator.reset(seed, noop_starts)
    replay = Replay(seed, np.zeros(0, np.int64), noop_starts)
    return StartState(frame[None], np.zeros(0, np.int64), replay, name=f"game {seed}")


def _truth_missing(game: GameContract, starts: Sequence[StartState]) -> str:
    """Why the real game cannot stand beside the dream; empty when it can."""
    if game.env_id.startswith("ALE/") and importlib.util.find_spec("ale_py") is None:
        return 'the real game needs ale-py: pip install "gamengen[record]"'
    if all(start.replay is None for start in starts):
        return "the start states do not say how the real game gets into them"
    return ""
