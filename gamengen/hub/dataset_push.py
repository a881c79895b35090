"""An episode dataset's way to the Hub: checked, with a card that says what the recording holds and a clip of it."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gamengen.contract import CONTRACT_FILE, GameContract, check_compatible, read_game_contract
from gamengen.dataset.episodes import (
    DATA_FOLDER,
    SPLITS,
    STREAM_FOLDER,
    EpisodeInfo,
    list_episodes,
    read_episodes,
    verify_dataset,
)
from gamengen.durable import read_json, write_bytes, write_json
from gamengen.hub.dataset_card import dataset_card
from gamengen.hub.repository import HubConfig, open_repository, push, resolve
from gamengen.hub.world_card import CARD_FILE, PREVIEW_FILE

PREVIEW_FRAMES = 96
IMPORT_FOLDER = "imports"
"""Reports of imported clips; where these lay on this machine is left out."""


def push_dataset(folder: str | Path, config: HubConfig, message: str = "Upload episodes") -> str | None:
    """Upload a dataset folder in one commit, beside what other recorders pushed of the same game.

    Returns:
        The commit's address; None where the config does not ask for a push.
    Raises:
        ContractMismatch: the repository holds episodes of another game or recording setting.
        ValueError: a file of the dataset is damaged, by name. PermissionError, ConnectionError: in one sentence.
    """
    folder = Path(folder)
    repo_id = open_repository(config, "dataset", folder.resolve().name)
    if repo_id is None:
        return None
    game = read_game_contract(folder)
    there = resolve(repo_id, kind="dataset", files=[CONTRACT_FILE, f"{STREAM_FOLDER}/*"], token=config.hub_token)
    everything = list_episodes(folder)
    if (there / CONTRACT_FILE).is_file():
        check_compatible(game, read_game_contract(there), folder / CONTRACT_FILE, f"{repo_id}/{CONTRACT_FILE}")
        known = {info.episode_id for info in everything}
        everything += [info for info in list_episodes(there) if info.episode_id not in known]
    verify_dataset(folder)
    with tempfile.TemporaryDirectory() as place:
        staged = Path(place)
        for path in (
            CONTRACT_FILE,
            *_files(folder, DATA_FOLDER, "*.parquet"),
            *_files(folder, STREAM_FOLDER, "*.json"),
        ):
            (staged / path).parent.mkdir(exist_ok=True)
            os.symlink((folder / path).resolve(), staged / path)
        for path in _files(folder, IMPORT_FOLDER, "*.json"):
            (staged / IMPORT_FOLDER).mkdir(exist_ok=True)
            report = read_json(folder / path)
            write_json(staged / path, {name: value for name, value in report.items() if name != "where"})
        _write_preview(staged / PREVIEW_FILE, folder, game)
        splits = [split for split in SPLITS if any(info.split == split for info in everything)]
        card = dataset_card(game, splits, statistics(everything, game), preview=True, repo_id=repo_id)
        write_bytes(staged / CARD_FILE, card.encode())
        return push(staged, repo_id, kind="dataset", message=message, token=config.hub_token)


def statistics(infos: Sequence[EpisodeInfo], game: GameContract) -> list[tuple[str, Any]]:
    """What the recording holds, for the card: episodes and frames of each split, and who played how well."""
    rows: list[tuple[str, Any]] = []
    for split in SPLITS:
        mine = [info for info in infos if info.split == split]
        frames = sum(info.num_frames for info in mine)
        hours = frames / game.fps / 3600
        rows.append(
            (
                f"split {split}",
                f"{len(mine)} episode{'s' * (len(mine) != 1)}, {frames} frames, {hours:.2g} hours of play",
            )
        )
    for agent, group in itertools.groupby(sorted(infos, key=lambda info: info.agent), lambda info: info.agent):
        mine = list(group)
        mean = sum(info.episode_return for info in mine) / len(mine)
        frames = sum(info.num_frames for info in mine)
        rows.append((f"player {agent or 'unnamed'}", f"{frames} frames, mean return {mean:.4g}"))
    return rows


def _files(folder: Path, inside: str, pattern: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in (folder / inside).glob(pattern))


def _write_preview(path: Path, folder: Path, game: GameContract) -> None:
    """The last frames of the first episode, with the pressed keys: its end is where most happens."""
    from gamengen.media import draw_actions, write_animation

    first = list_episodes(folder)[0]
    episode = next(read_episodes(folder, episode_ids=[first.episode_id]))
    frames, actions = episode.frames[1:][-PREVIEW_FRAMES:], episode.actions[-PREVIEW_FRAMES:]
    write_animation(path, draw_actions(frames, actions, game), game.fps)
