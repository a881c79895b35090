"""Shards: codec arrays of whole episodes on disk, with an index and checksums; read by row.

A folder of shards holds `index.json`, one `.pt` file a shard (one contiguous tensor of raw arrays and what goes with
its rows), `statistics.pt`, the codec that made them (`vae/`) and `start_states.parquet`. `encoding` writes it.
Nothing here knows what an array means.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gamengen.codecs.codec import Codec, IdentityCodec
from gamengen.contract import CodecContract, check_compatible, codec_from_dict
from gamengen.durable import DamagedFile, read_json, sha256_file, write_file
from gamengen.manifest import MANIFEST_FILE, verify_file

INDEX_FILE = "index.json"
STATISTICS_FILE = "statistics.pt"
VAE_FOLDER = "vae"
START_STATES_FILE = "start_states.parquet"
INDEX_VERSION = 1
logger = logging.getLogger(__name__)
NULL_ACTION = -1
"""Stands in the row of an episode's last frame, on which no action was chosen."""
MEMORY_SHARE = 0.25
"""Share of the machine's memory that the tables of all its processes may take before they are mapped from disk."""
DEVICE_SHARE = 0.5
"""Share of a GPU's free memory that a table may take; the rest is for the training itself."""


@dataclass(frozen=True)
class Statistics:
    """Of the training split's raw arrays."""

    mean: Tensor
    """float32 (C,)."""
    std: Tensor
    """float32 (C,); 1 for a channel that never changes."""
    median: Tensor
    """float32 (C, h, w): the array that a still game would show. Cells that differ from it are what moves."""


@dataclass(frozen=True)
class ArrayTable:
    """One split, all rows in stream order: consecutive episodes of one stream are adjacent."""

    contract: CodecContract
    actions: Tensor
    """int64 (N,), on the CPU; -1 in the last row of an episode."""
    rewards: Tensor
    """float32 (N,): what the action of the same row earned; 0 in the last row of an episode."""
    terminated: Tensor
    """bool (N,): the episode ended in this frame; False after a truncation."""
    segments: Tensor
    """int64 (E, 2): [start, end) rows of each episode."""
    stream_ids: tuple[str, ...]
    """(E,) the recorder stream of each episode."""
    indices_in_stream: tuple[int, ...]
    episode_ids: tuple[str, ...]
    parts: tuple[Tensor, ...]
    """Raw arrays (N_k, C, h, w), in memory as one part, or mapped from disk as one part a shard."""
    starts: Tensor
    """int64 (K,): first row of each part."""

    def __len__(self) -> int:
        return len(self.actions)

    def gather(self, rows: Tensor) -> Tensor:
        """Raw arrays at any-shaped int64 rows: (*rows.shape, C, h, w), in the dtype and on the device of the table.

        Raises:
            IndexError: a row is not in 0 .. N - 1.
        """
        if rows.numel() and (int(rows.min()) < 0 or int(rows.max()) >= len(self)):
            raise IndexError(f"rows {int(rows.min())} to {int(rows.max())}: the table has 0 to {len(self) - 1}")
        if len(self.parts) == 1:
            return self.parts[0][rows.to(self.parts[0].device)]
        flat = rows.reshape(-1).cpu()
        gathered = torch.empty((len(flat), *self.contract.array_shape), dtype=getattr(torch, self.contract.array_dtype))
        part_of = torch.searchsorted(self.starts, flat, right=True) - 1
        for number in part_of.unique().tolist():
            chosen = part_of == number
            gathered[chosen] = self.parts[number][flat[chosen] - self.starts[number]]
        return gathered.view(*rows.shape, *self.contract.array_shape)


def load_table(
    folder: str | Path,
    split: str,
    *,
    device: str | torch.device = "cpu",
    in_memory: bool | None = None,
    verify: bool = True,
) -> ArrayTable:
    """Open one split of a folder of shards.

    Args:
        device: where the arrays are kept; another device than the CPU implies in_memory. A GPU of which they would take
            more than `DEVICE_SHARE` is not filled: a warning says so, and they stay on the CPU's side.
        in_memory: one tensor in memory, or maps of the files. Memory if it takes no more than `MEMORY_SHARE`, which the
            processes of a launcher on this machine share, when None.
        verify: read every shard once and compare its sha256 with the index.
    Raises:
        FileNotFoundError: no index, or a shard is missing.
        ValueError: the split is empty, the shards are not finalised, or a shard is damaged: named with its file.
    """
    folder = Path(folder)
    if verify and not (folder / MANIFEST_FILE).is_file():
        logger.warning("%s has no %s: damage to its index would not be noticed", folder, MANIFEST_FILE)
    index = read_index(folder)
    contract = codec_from_dict(index["contract"])
    shards = [shard for shard in index["shards"] if shard["split"] == split]
    if not shards:
        splits = sorted({shard["split"] for shard in index["shards"]})
        raise ValueError(f"{folder} has no episodes in split {split!r}; it has: {', '.join(splits)}")
    loaded = []
    for shard in shards:
        if verify:
            verify_shard(folder, shard)
        loaded.append(open_shard(folder, shard, contract))
    parts = [values["arrays"] for values in loaded]
    size = sum(part.numel() * part.element_size() for part in parts)
    if torch.device(device).type == "cuda" and not _fits_gpu(size, device, f"{folder}, {split}"):
        device = "cpu"
    if in_memory is None:
        in_memory = size <= MEMORY_SHARE * _memory_bytes() / int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    starts = torch.tensor([0] + [len(part) for part in parts[:-1]]).cumsum(0)
    if in_memory or torch.device(device).type != "cpu":
        parts, starts = [_joined(parts, device)], starts[:1]
    first_rows = torch.tensor([0] + [shard["rows"] for shard in shards[:-1]]).cumsum(0).tolist()
    episodes = [(first, e) for first, shard in zip(first_rows, shards, strict=True) for e in shard["episodes"]]
    return ArrayTable(
        contract=contract,
        actions=torch.cat([values["actions"] for values in loaded]),
        rewards=torch.cat([values["rewards"] for values in loaded]),
        terminated=torch.cat([values["terminated"] for values in loaded]),
        segments=torch.tensor([(first + e["start"], first + e["start"] + e["rows"]) for first, e in episodes]),
        stream_ids=tuple(e["stream_id"] for _, e in episodes),
        indices_in_stream=tuple(e["index_in_stream"] for _, e in episodes),
        episode_ids=tuple(e["episode_id"] for _, e in episodes),
        parts=tuple(parts),
        starts=starts,
    )


def read_index(folder: str | Path) -> dict[str, Any]:
    """The index of finished shards.

    Raises:
        FileNotFoundError: no index; ValueError: of another version, or not finalised.
    """
    file = Path(folder) / INDEX_FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist: expected finished shards; make them with scripts/encode_latents.py, or run "
            "the same command again to finish them"
        )
    verify_file(file)
    index = read_json(file)
    if index.get("version") != INDEX_VERSION:
        raise ValueError(f"{file} has version {index.get('version')}, this gamengen reads {INDEX_VERSION}")
    if not index["finalised"]:
        raise ValueError(f"{file} is not finalised: run scripts/encode_latents.py again to finish it")
    return cast(dict[str, Any], index)


def read_contract(folder: str | Path) -> CodecContract:
    """The contract of finished shards, mean and standard deviation included."""
    return codec_from_dict(read_index(folder)["contract"])


def latents_fingerprint(folder: str | Path) -> str:
    """Hex sha256 over the contract and the sha256 of every shard: another one is other data. Reads no shard."""
    index = read_index(folder)
    named = [index["contract"], *((shard["file"], shard["sha256"]) for shard in index["shards"])]
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()


def read_statistics(folder: str | Path) -> Statistics:
    """What `finalise` computed over the training split."""
    file = Path(folder) / STATISTICS_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist: run scripts/encode_latents.py again to finish the shards")
    verify_file(file)
    values = _load_tensors(file)
    return Statistics(values["mean"], values["std"], values["median"])


def load_codec(folder: str | Path) -> Codec:
    """The codec that made the shards, from their own folder.

    Raises:
        ContractMismatch: the codec in the folder is another one.
    """
    from gamengen.codecs.autoencoder import load_autoencoder_codec

    contract = read_contract(folder)
    if contract.kind == "identity":
        return IdentityCodec(contract.game)
    codec = load_autoencoder_codec(Path(folder) / VAE_FOLDER)
    check_compatible(contract, codec.contract, Path(folder) / INDEX_FILE, Path(folder) / VAE_FOLDER)
    return codec


def write_tensors(path: str | Path, values: Mapping[str, Tensor]) -> None:
    """Write tensors as `.pt`, atomically; the bytes depend on the values only, not on the name of the file."""
    # A slice would drag its whole storage into the file.
    contiguous = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in values.items()}
    write_file(path, lambda file: torch.save(contiguous, file))


def verify_shard(folder: str | Path, shard: Mapping[str, Any]) -> None:
    """Compare a shard with its index entry.

    Raises:
        FileNotFoundError: it is missing. ValueError: its size or its sha256 differs.
    """
    file = Path(folder) / shard["file"]
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing but stands in {INDEX_FILE}: {_AGAIN}")
    size = file.stat().st_size
    if size != shard["bytes"]:
        raise DamagedFile(f"{file} is damaged: {size} bytes, expected {shard['bytes']}: {_AGAIN}")
    if sha256_file(file) != shard["sha256"]:
        raise DamagedFile(f"{file} is damaged: its sha256 is not the one in {INDEX_FILE}: {_AGAIN}")


_AGAIN = "restore it, or run scripts/encode_latents.py again: it encodes what is missing or damaged"


def open_shard(folder: Path, shard: Mapping[str, Any], contract: CodecContract) -> dict[str, Tensor]:
    """Map a shard from disk, its bytes unread. ValueError when its tensors are not what index and contract promise."""
    file = folder / shard["file"]
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing but stands in {INDEX_FILE}: {_AGAIN}")
    values = _load_tensors(file)
    rows, dtype = shard["rows"], getattr(torch, contract.array_dtype)
    expected = {
        "arrays": ((rows, *contract.array_shape), dtype),
        "actions": ((rows,), torch.int64),
        "rewards": ((rows,), torch.float32),
        "terminated": ((rows,), torch.bool),
        "truncated": ((rows,), torch.bool),
    }
    for name, (shape, kind) in expected.items():
        value = values.get(name)
        if value is None or tuple(value.shape) != shape or value.dtype != kind:
            got = "nothing" if value is None else f"{value.dtype} {tuple(value.shape)}"
            raise ValueError(f"{file}: expected {name} as {kind} {shape}, got {got}: {_AGAIN}")
    wrong = (values["actions"] < NULL_ACTION) | (values["actions"] >= contract.game.num_actions)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"{file}, row {row}: action {int(values['actions'][row])}, {contract.game.env_id} has 0 to "
            f"{contract.game.num_actions - 1}: {_AGAIN}"
        )
    return values


def _load_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return cast(dict[str, Tensor], torch.load(file, mmap=True, weights_only=True, map_location="cpu"))
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{file} is damaged or no file of tensors: {str(error).splitlines()[0]}: {_AGAIN}") from error


def _joined(parts: Sequence[Tensor], device: str | torch.device) -> Tensor:
    """All parts as one tensor, without a second copy of them in memory on the way."""
    joined = torch.empty((sum(len(p) for p in parts), *parts[0].shape[1:]), dtype=parts[0].dtype, device=device)
    start = 0
    for part in parts:
        joined[start : start + len(part)] = part
        start += len(part)
    return joined


def _fits_gpu(size: int, device: str | torch.device, name: str) -> bool:
    free = torch.cuda.mem_get_info(device)[0]
    if size <= DEVICE_SHARE * free:
        return True
    logger.warning(
        "%s takes %.1f GB, more than %.0f %% of the %.1f GB that are free on %s: it stays on the CPU's side, and every "
        "batch is copied", name, size / 1e9, 100 * DEVICE_SHARE, free / 1e9, device,
    )  # fmt: skip
    return False


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
