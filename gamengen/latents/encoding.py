"""Episodes to shards: which episodes stand in which shard, and encoding them.

The plan is a function of the dataset alone, so any number of processes share the work without talking: process k of n
takes every n-th shard. Each keeps a list of its finished shards, encodes only what is missing or damaged, and whoever
finds all shards there may finish the folder (`finishing.finalise`). One process or many give the same bytes.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gamengen.codecs.codec import Codec
from gamengen.contract import CodecContract, check_compatible, codec_from_dict, read_game_contract, to_dict
from gamengen.dataset.episodes import SPLITS, Episode, EpisodeInfo, dataset_fingerprint, list_episodes, read_episodes
from gamengen.durable import read_sealed_json, sha256_file, write_sealed_json
from gamengen.latents.shards import (
    INDEX_FILE,
    NULL_ACTION,
    read_index,
    verify_shard,
    write_tensors,
)

PARTS_FOLDER = "parts"
SHARD_BYTES = 128 << 20
"""Aim of a shard's size: whole episodes until the next one would pass it."""


@dataclass(frozen=True)
class PlannedShard:
    """A shard that is to be: its name and its episodes, in stream order."""

    file: str
    split: str
    episodes: tuple[EpisodeInfo, ...]

    @property
    def rows(self) -> int:
        return sum(info.num_frames for info in self.episodes)


@dataclass(frozen=True)
class EncodingResult:
    """What one process did."""

    frames: int
    """Encoded now; shards that were there are not counted."""
    seconds: float
    shards: int
    bytes: int
    complete: bool
    """Every shard of the plan, of all processes, is there: `finishing.finalise` may be called."""


def plan_shards(dataset: str | Path, array_bytes: int, shard_rows: int | None = None) -> list[PlannedShard]:
    """The shards of a dataset. Consecutive episodes of a stream stay neighbours.

    Args:
        array_bytes: size of one raw array.
        shard_rows: rows of a shard, passed only by a single episode that is longer; from `SHARD_BYTES` when None.
    Raises:
        ValueError: the dataset has no training episodes.
    """
    limit = shard_rows or max(1, SHARD_BYTES // array_bytes)
    planned = []
    for split in SPLITS:
        groups: list[list[EpisodeInfo]] = []
        rows = 0
        for info in list_episodes(dataset, split):
            if not groups or rows + info.num_frames > limit:
                groups.append([])
                rows = 0
            groups[-1].append(info)
            rows += info.num_frames
        if split == "train" and not groups:
            raise ValueError(f"{dataset} has no complete episode in its training split: record more")
        planned += [PlannedShard(f"{split}-{k:05d}.pt", split, tuple(group)) for k, group in enumerate(groups)]
    return planned


def array_bytes(contract: CodecContract) -> int:
    """Bytes of one raw array."""
    return math.prod(contract.array_shape) * torch.empty(0, dtype=getattr(torch, contract.array_dtype)).element_size()


def encode_dataset(
    dataset: str | Path,
    codec: Codec,
    output_dir: str | Path,
    *,
    shard_id: int = 0,
    num_shards: int = 1,
    shard_rows: int | None = None,
    codec_from: str | Path = "the codec",
    progress: bool = True,
) -> EncodingResult:
    """Encode this process's share of a dataset; finished shards that verify are kept.

    Args:
        shard_id, num_shards: this process and how many share the work (not the number of shard files).
        codec_from: names the codec in errors.
    Raises:
        ContractMismatch: the dataset is of another game than the codec, or `output_dir` of another codec.
        ValueError: `output_dir` was begun from other data.
    """
    output_dir = Path(output_dir)
    if not 0 <= shard_id < num_shards:
        raise ValueError(f"shard_id {shard_id}: expected 0 to {num_shards - 1}, for num_shards {num_shards}")
    check_compatible(read_game_contract(dataset), codec.contract, dataset, codec_from)
    (output_dir / PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
    data = dataset_fingerprint(dataset)
    plan = plan_shards(dataset, array_bytes(codec.contract), shard_rows)
    _check_output(output_dir, codec.contract, codec_from, data)
    part = output_dir / PARTS_FOLDER / f"{shard_id:05d}-of-{num_shards:05d}.json"
    done = finished_shards(output_dir)  # of any number of processes: another one may have begun than goes on
    header = {"contract": to_dict(codec.contract), "dataset_fingerprint": data}
    started, frames = time.perf_counter(), 0
    mine = plan[shard_id::num_shards]
    known = {s.file: done[s.file] for s in mine if s.file in done and done[s.file]["rows"] == s.rows}
    kept = {file: entry for file, entry in known.items() if _intact(output_dir, entry)}
    finished = list(kept.values())
    # Not written again as it is: another process may be reading what is finished.
    if finished != (_read_part(part)["shards"] if part.is_file() else []):
        write_sealed_json(part, {**header, "shards": finished})
    with tqdm(total=sum(s.rows for s in mine), desc="encode", unit="frame", disable=not progress) as bar:
        for shard in mine:
            if shard.file in kept:
                bar.update(shard.rows)
                continue
            finished.append(_encode_shard(Path(dataset), shard, codec, output_dir, bar))
            frames += shard.rows
            write_sealed_json(part, {**header, "shards": finished})
    found = finished_shards(output_dir)
    return EncodingResult(
        frames, time.perf_counter() - started, len(finished), sum(entry["bytes"] for entry in finished),
        complete=all(shard.file in found for shard in plan),
    )  # fmt: skip


def _encode_shard(dataset: Path, shard: PlannedShard, codec: Codec, output_dir: Path, bar: Any) -> dict[str, Any]:
    columns: dict[str, list[Tensor]] = {}
    episodes, start = [], 0
    wanted = [info.episode_id for info in shard.episodes]
    for episode in read_episodes(dataset, shard.split, episode_ids=wanted):
        for name, column in _episode_columns(episode, codec).items():
            columns.setdefault(name, []).append(column)
        rows = len(episode.frames)
        episodes.append({
            "episode_id": episode.episode_id, "stream_id": episode.stream_id,
            "index_in_stream": episode.index_in_stream, "start": start, "rows": rows,
        })  # fmt: skip
        start += rows
        bar.update(rows)
    file = output_dir / shard.file
    write_tensors(file, {name: torch.cat(values) for name, values in columns.items()})
    return {
        "file": shard.file, "sha256": sha256_file(file), "bytes": file.stat().st_size, "rows": start,
        "split": shard.split, "episodes": episodes,
    }  # fmt: skip


def _episode_columns(episode: Episode, codec: Codec) -> dict[str, Tensor]:
    last = torch.zeros(len(episode.frames), dtype=torch.bool)
    last[-1] = True
    return {
        "arrays": codec.encode(torch.from_numpy(episode.frames)).cpu(),
        "actions": torch.cat([torch.from_numpy(episode.actions), torch.tensor([NULL_ACTION])]),
        "rewards": torch.cat([torch.from_numpy(episode.rewards), torch.zeros(1)]),
        "terminated": last & episode.terminated,
        "truncated": last & episode.truncated,
    }


def _check_output(output_dir: Path, contract: CodecContract, codec_from: str | Path, data: str) -> None:
    """Refuse a folder that was begun with another codec or from other data."""
    begun = {path: _read_part(path) for path in _part_files(output_dir)}
    if (output_dir / INDEX_FILE).is_file():
        begun[output_dir / INDEX_FILE] = read_index(output_dir)
    for path, there in begun.items():
        check_compatible(contract, codec_from_dict(there["contract"]), codec_from, path)
        if there["dataset_fingerprint"] != data:
            raise ValueError(
                f"{path} was made from data with fingerprint {there['dataset_fingerprint']}, the dataset now has "
                f"{data}; encode it into another folder, or start over with --overwrite"
            )


def _intact(output_dir: Path, entry: Mapping[str, Any]) -> bool:
    try:
        verify_shard(output_dir, entry)
    except (ValueError, FileNotFoundError) as error:
        warnings.warn(f"encoding again: {error}", stacklevel=3)
        return False
    return True


def _part_files(output_dir: Path) -> Iterator[Path]:
    return iter(sorted((output_dir / PARTS_FOLDER).glob("*-of-*.json")))


def _read_part(path: Path) -> dict[str, Any]:
    return read_sealed_json(path, unsealed=("contract", "dataset_fingerprint", "shards"))


def finished_shards(output_dir: Path) -> dict[str, dict[str, Any]]:
    """File -> its entry in the index, of all shards that any process has finished."""
    return {entry["file"]: entry for path in _part_files(output_dir) for entry in _read_part(path)["shards"]}
