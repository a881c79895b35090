"""The finishing touches of a folder of shards: statistics, codec, start states, and the index that makes it a whole."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gamengen.codecs.autoencoder import AutoencoderCodec, save_codec
from gamengen.codecs.codec import Codec
from gamengen.contract import CodecContract, codec_from_dict, to_dict
from gamengen.dataset.episodes import dataset_fingerprint, list_episodes, read_episodes
from gamengen.dataset.start_states import start_states, write_start_states
from gamengen.durable import folder_lock, json_bytes, write_bytes
from gamengen.latents.array_statistics import channel_statistics, median_array
from gamengen.latents.encoding import PARTS_FOLDER, array_bytes, finished_shards, plan_shards
from gamengen.latents.shards import (
    INDEX_FILE,
    INDEX_VERSION,
    START_STATES_FILE,
    STATISTICS_FILE,
    VAE_FOLDER,
    open_shard,
    read_index,
    verify_shard,
    write_tensors,
)
from gamengen.manifest import verify_manifest, write_manifest
from gamengen.world import StartState


@dataclass(frozen=True, kw_only=True)
class StartStateConfig:
    """Which real moments become the start states of worlds trained on these shards."""

    num_start_states: int = 32
    start_state_frames: int = 16
    """Frames of a start state; a world uses the newest of them, as many as its context holds."""
    start_state_horizon: int = 128
    """Recorded actions kept after each; at most what the longest episode has."""


def finalise(
    dataset: str | Path, codec: Codec, output_dir: str | Path, *, shard_rows: int | None = None,
    starts: StartStateConfig | None = None, seed: int = 0,
) -> CodecContract:  # fmt: skip
    """Verify all shards, compute the statistics, add codec and start states, and write the index last.

    A folder that is finished, of these shards and with these settings, is left as it is.

    Returns:
        The contract with mean and standard deviation, as the index holds it.
    Raises:
        ValueError: shards are missing or damaged; they are named.
    """
    output_dir, starts = Path(output_dir), starts or StartStateConfig()
    plan = plan_shards(dataset, array_bytes(codec.contract), shard_rows)
    found = finished_shards(output_dir)
    missing = [shard.file for shard in plan if shard.file not in found]
    if missing:
        raise ValueError(
            f"{output_dir}: {len(missing)} of {len(plan)} shards are not encoded yet, the first is {missing[0]}; "
            "run scripts/encode_latents.py for every --shard_id"
        )
    entries = [found[shard.file] for shard in plan]
    for entry in entries:
        verify_shard(output_dir, entry)
    header = {
        "version": INDEX_VERSION, "dataset_fingerprint": dataset_fingerprint(dataset),
        "finalised": True, "shards": entries, "start_states": {**asdict(starts), "seed": seed},
    }  # fmt: skip
    # Two processes may both find themselves the last one.
    with folder_lock(output_dir / PARTS_FOLDER):
        known = _finished(output_dir, header, codec)
        return known or _write_rest(dataset, codec, output_dir, header, starts, seed)


def _finished(output_dir: Path, header: dict[str, Any], codec: Codec) -> CodecContract | None:
    """The contract in the index, if nothing is left to do: statistics of millions of frames take minutes."""
    try:
        verify_manifest(output_dir)
        if isinstance(codec, AutoencoderCodec):
            verify_manifest(output_dir / VAE_FOLDER)
        known = read_index(output_dir)["contract"]
    except (FileNotFoundError, ValueError):
        return None
    contract = {**to_dict(codec.contract), "mean": known["mean"], "std": known["std"]}
    same = json_bytes({**header, "contract": contract}) == (output_dir / INDEX_FILE).read_bytes()
    return codec_from_dict(known) if same else None


def _write_rest(
    dataset: str | Path, codec: Codec, output_dir: Path, header: dict[str, Any], starts: StartStateConfig, seed: int
) -> CodecContract:
    train = [entry for entry in header["shards"] if entry["split"] == "train"]
    arrays = [open_shard(output_dir, entry, codec.contract)["arrays"] for entry in train]
    mean, std = channel_statistics(arrays)
    write_tensors(output_dir / STATISTICS_FILE, {"mean": mean, "std": std, "median": median_array(arrays)})
    if isinstance(codec, AutoencoderCodec):
        save_codec(codec, output_dir / VAE_FOLDER)
    chosen = _choose_start_states(dataset, codec.contract, starts, seed)
    write_start_states(output_dir / START_STATES_FILE, chosen, codec.contract.game)
    contract = {**to_dict(codec.contract), "mean": mean.tolist(), "std": std.tolist()}
    index = json_bytes({**header, "contract": contract})
    # The index last, since it makes the folder a finished one; the shards' checksums stand in it.
    write_manifest(output_dir, (STATISTICS_FILE, START_STATES_FILE), to_come={INDEX_FILE: index})
    write_bytes(output_dir / INDEX_FILE, index)
    return codec_from_dict(contract)


def _choose_start_states(
    dataset: str | Path, contract: CodecContract, config: StartStateConfig, seed: int
) -> list[StartState]:
    infos = [info for info in list_episodes(dataset) if info.split != "train"]
    if not infos:
        warnings.warn(f"{dataset} has no held-out episodes: the start states come from training episodes", stacklevel=3)
        infos = list_episodes(dataset)
    horizon = min(config.start_state_horizon, max(info.num_frames for info in infos) - 1)
    episodes = read_episodes(dataset, episode_ids=[info.episode_id for info in infos])
    return start_states(episodes, contract.game, config.start_state_frames, config.num_start_states, horizon, seed)
