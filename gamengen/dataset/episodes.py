"""Episodes on disk: a row a frame in parquet, whole episodes only, every file known by its sha256.

A dataset folder holds

    contract.json            how the stream was made (`GameContract`)
    README.md                the dataset card: `datasets.load_dataset(folder)` works with no code of ours
    data/<split>-*.parquet   the rows, palette PNG frames; `episode_writer` makes them
    streams/<stream>.json    per recorder stream: its files with size and sha256, its episodes in order
    writers/                 what wrote them
    imports/                 per imported clip: what it was made from, what was dropped and why

`actions[t]` is chosen on seeing `frames[t]` and leads to `frames[t + 1]`: an episode has T actions and T + 1
frames, and in its last row action and reward are null.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gamengen.contract import ContractMismatch, GameContract, check_actions, read_game_contract, to_dict
from gamengen.dataset.frame_png import decode_pngs
from gamengen.durable import DamagedFile, read_sealed_json
from gamengen.frames import check_size
from gamengen.hub.repository import read_bytes

SPLITS = ("train", "validation", "test")
DATA_FOLDER = "data"
STREAM_FOLDER = "streams"
CONTRACT_KEY = b"gamengen_contract"
NO_SEED = -1
"""The seed of an episode that no emulator can replay, such as an imported one."""
_STREAM_KEYS = ("version", "stream_id", "files", "episodes")
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
ROW_FIELDS = (
    pa.field("episode_id", pa.string()),
    pa.field("step", pa.int32()),
    pa.field("image", _IMAGE),
    pa.field("action", pa.int32()),
    pa.field("reward", pa.float32()),
    pa.field("terminated", pa.bool_()),
    pa.field("truncated", pa.bool_()),
    pa.field("stream_id", pa.string()),
    pa.field("index_in_stream", pa.int32()),
    pa.field("seed", pa.int64()),
    pa.field("noop_starts", pa.int32()),
    pa.field("agent", pa.string()),
    pa.field("lives", pa.int32()),
    pa.field("ram", pa.binary()),
)
"""The row schema. `terminated` and `truncated`: in the last row only. `lives` and `ram`: the console's, or null."""


@dataclass(frozen=True)
class Episode:
    """One episode, frames decoded."""

    frames: np.ndarray
    """uint8 (T + 1, H, W, 3)."""
    actions: np.ndarray
    """int64 (T,)."""
    rewards: np.ndarray
    """float32 (T,): the reward that came with `frames[t + 1]`."""
    terminated: bool
    truncated: bool
    episode_id: str
    stream_id: str
    index_in_stream: int
    seed: int
    """What the emulator was seeded with; with `noop_starts` and the actions it replays to any frame. Or NO_SEED."""
    noop_starts: int
    split: str
    agent: str
    lives: np.ndarray | None = None
    """int64 (T + 1,), None where the game has none."""
    ram: np.ndarray | None = None
    """uint8 (T + 1, 128): the console's memory, None where there is none."""


@dataclass(frozen=True)
class EpisodeInfo:
    """What the stream's index says of an episode; no frame is read."""

    episode_id: str
    stream_id: str
    index_in_stream: int
    num_frames: int
    split: str
    agent: str
    episode_return: float
    terminated: bool
    truncated: bool
    seed: int
    noop_starts: int
    file: str
    """Relative to the dataset folder."""
    first_row: int


def row_schema(game: GameContract | None, extra: Collection[pa.Field] = ()) -> pa.Schema:
    """The parquet schema, with the contract and the features that Hugging Face `datasets` reads in its metadata."""
    columns = [*ROW_FIELDS, *extra]
    features = {field.name: _feature(field.type) for field in columns}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    if game is not None:
        metadata[CONTRACT_KEY] = json.dumps(to_dict(game), sort_keys=True).encode()
    return pa.schema(columns, metadata=metadata)


def read_contract(folder: str | Path) -> GameContract:
    """The game contract of a dataset folder; FileNotFoundError names what is missing."""
    return read_game_contract(folder)


def list_episodes(folder: str | Path, split: str | None = None) -> list[EpisodeInfo]:
    """All complete episodes, or those of a split: by stream, then in the order they were played.

    Raises:
        FileNotFoundError: not a dataset folder.
        ValueError: unknown split, or a damaged index.
    """
    _check_split(split)
    read_contract(folder)
    names = [field.name for field in fields(EpisodeInfo)]
    infos = []
    for path, stream in _streams(folder):
        try:
            infos += [EpisodeInfo(**{name: row[name] for name in names}) for row in stream["episodes"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: expected the index of a stream, {error!r}") from error
    return [info for info in infos if split in (None, info.split)]


def read_episodes(
    folder: str | Path, split: str | None = None, *, episode_ids: Collection[str] | None = None
) -> Iterator[Episode]:
    """Stream episodes in the order of `list_episodes`; one episode's frames are decoded at a time.

    Args:
        episode_ids: only these.
    Raises:
        ValueError: unknown split or episode id; a file that is missing, truncated, changed since it was written
            or of another contract, by name.
    """
    folder = Path(folder)
    infos = list_episodes(folder, split)
    if episode_ids is not None:
        missing = sorted(set(episode_ids) - {info.episode_id for info in infos})
        if missing:
            where = f"{folder}, split {split or 'any'}"
            raise ValueError(f"{where} has no episode {missing[0]!r} ({len(missing)} of those asked for are missing)")
        infos = [info for info in infos if info.episode_id in set(episode_ids)]
    return _read(folder, infos, read_contract(folder))


def read_frames(folder: str | Path, wanted: Mapping[EpisodeInfo, Sequence[int]]) -> Iterator[np.ndarray]:
    """Some frames of some episodes, in the order of `wanted`: only these are decoded.

    Args:
        wanted: episodes of `list_episodes`, in its order, and the numbers of n >= 1 frames of each.
    Returns:
        uint8 (n, H, W, 3) of each episode. Raises as `read_episodes`.
    """
    for info, rows, where in _read_rows(Path(folder), list(wanted), read_contract(folder)):
        images = rows.column("image").take(pa.array(wanted[info])).to_pylist()
        yield decode_pngs([image["bytes"] for image in images], where)


def dataset_fingerprint(folder: str | Path) -> str:
    """Hex sha256 over the contract and the sha256 of every data file: changes when any of them does. Reads no frame."""
    digest = hashlib.sha256(json.dumps(to_dict(read_contract(folder)), sort_keys=True).encode())
    for _, stream in _streams(folder):
        for file in stream["files"]:
            digest.update(f"{file['file']} {file['sha256']}\n".encode())
    return digest.hexdigest()


def verify_dataset(folder: str | Path) -> int:
    """Check every data file against its stream's index; how many there are. ValueError names the first that differs."""
    entries = [entry for _, stream in _streams(folder) for entry in stream["files"]]
    for entry in entries:
        read_verified(Path(folder) / entry["file"], entry)
    return len(entries)


def read_verified(path: Path, entry: dict[str, Any]) -> bytes:
    """The bytes of a file that its index entry (`bytes`, `sha256`) describes.

    Raises:
        ValueError: names the file and what differs.
    """
    advice = "restore it from a copy, or delete the stream's json beside it and record again"
    try:
        data = read_bytes(path)
    except FileNotFoundError as error:
        missing = f"{path} is missing: the index lists it with {entry['bytes']} bytes"
        raise DamagedFile(f"{missing} ({error}); {advice}") from error
    if len(data) != entry["bytes"]:
        raise DamagedFile(f"{path} is damaged: expected {entry['bytes']} bytes, got {len(data)}; {advice}")
    found = hashlib.sha256(data).hexdigest()
    if found != entry["sha256"]:
        raise DamagedFile(f"{path} is damaged: expected sha256 {entry['sha256']}, got {found}; {advice}")
    return data


def read_table(data: bytes, game: GameContract | None, path: Path) -> pa.Table:
    """A parquet file's rows; ContractMismatch when it was made for another game (unless `game` is None)."""
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}; restore it or record it again") from error
    theirs = (table.schema.metadata or {}).get(CONTRACT_KEY, b"{}")
    if game is not None and json.loads(theirs) != to_dict(game):
        raise ContractMismatch(
            f"{path} was recorded as {theirs.decode()}, its folder's contract.json says {json.dumps(to_dict(game))}; "
            "keep datasets of different settings in different folders"
        )
    return table


def episode_from_rows(rows: pa.Table, split: str, where: str) -> Episode:
    """The rows of one episode, in order, as an `Episode`."""
    columns = {name: rows.column(name).to_pylist() for name in rows.column_names}
    if columns["step"] != list(range(columns["step"][0], columns["step"][0] + rows.num_rows)):
        raise ValueError(f"{where}: steps are not consecutive; the file and its index do not belong together")
    lives, ram = columns["lives"], columns["ram"]
    return Episode(
        frames=decode_pngs([image["bytes"] for image in columns["image"]], where),
        actions=np.array(columns["action"][:-1], np.int64),
        rewards=np.array(columns["reward"][:-1], np.float32),
        terminated=columns["terminated"][-1], truncated=columns["truncated"][-1],
        episode_id=columns["episode_id"][0], stream_id=columns["stream_id"][0],
        index_in_stream=columns["index_in_stream"][0], seed=columns["seed"][0],
        noop_starts=columns["noop_starts"][0], split=split, agent=columns["agent"][0],
        lives=None if None in lives else np.array(lives, np.int64),
        ram=None if None in ram else np.stack([np.frombuffer(row, np.uint8) for row in ram]),
    )  # fmt: skip


def read_stream(folder: str | Path, stream_id: str) -> dict[str, Any] | None:
    """A stream's index, None before its first file."""
    path = Path(folder) / STREAM_FOLDER / f"{stream_id}.json"
    return read_sealed_json(path, unsealed=_STREAM_KEYS) if path.is_file() else None


def _streams(folder: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((Path(folder) / STREAM_FOLDER).glob("*.json")):
        stream = read_sealed_json(path, unsealed=_STREAM_KEYS)
        if not {"files", "episodes"} <= set(stream):
            raise ValueError(f"{path} is damaged: expected the index of a stream; restore it or record again")
        yield path, stream


def _read(folder: Path, infos: list[EpisodeInfo], game: GameContract) -> Iterator[Episode]:
    for info, rows, where in _read_rows(folder, infos, game):
        episode = episode_from_rows(rows, info.split, where)
        check_actions(episode.actions.tolist(), game, where)
        height, width = episode.frames.shape[1:3]
        check_size(height, width, game.frame_height, game.frame_width, where)
        yield episode


def _read_rows(
    folder: Path, infos: list[EpisodeInfo], game: GameContract
) -> Iterator[tuple[EpisodeInfo, pa.Table, str]]:
    entries = {entry["file"]: entry for _, stream in _streams(folder) for entry in stream["files"]}
    tables: dict[str, tuple[str, pa.Table]] = {}  # the newest file of each split: a stream's splits take turns
    for info in infos:
        path = folder / info.file
        if tables.get(info.split, ("",))[0] != info.file:
            if info.file not in entries:
                raise ValueError(f"{path}: the stream's index names it for {info.episode_id} but has no checksum of it")
            tables[info.split] = (info.file, read_table(read_verified(path, entries[info.file]), game, path))
        rows = tables[info.split][1].slice(info.first_row, info.num_frames)
        where = f"{path}, episode {info.episode_id}"
        if rows.num_rows != info.num_frames or set(rows.column("episode_id").to_pylist()) != {info.episode_id}:
            raise ValueError(f"{where}: the rows are not where the index says; restore both or record again")
        yield info, rows, where


def _check_split(split: str | None) -> None:
    if split is not None and split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; expected one of: {', '.join(SPLITS)}")


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == _IMAGE:
        return {"mode": "RGB", "_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    name = {"float": "float32"}.get(str(kind), str(kind))
    return {"dtype": name, "_type": "Value"}
