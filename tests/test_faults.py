"""Damaged, foreign and hostile files of every kind, and full disks: refused by name, nothing executed, nothing lost.

docs/reliability.md lists which fault is tested where; what belongs to one module alone stands in that module's test.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import resource
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from gamengen.codecs.autoencoder import load_autoencoder_codec, load_vae, save_codec
from gamengen.config import parse
from gamengen.contract import CONTRACT_FILE
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import list_episodes, read_episodes
from gamengen.dataset.frame_png import FrameEncoder
from gamengen.dataset.start_states import read_start_states
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.durable import read_sealed_json, sha256_file, write_sealed_json
from gamengen.hub.world_push import EDITABLE
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import finalise
from gamengen.latents.shards import load_codec, load_table, read_statistics
from gamengen.manifest import verify_manifest, write_manifest
from gamengen.training.checkpoints import newest_checkpoint
from gamengen.training.loop import train
from gamengen.training.run import TrainingRun
from tests.codec_data import block_dataset, block_episode, block_game, small_codec
from tests.test_config import PRESETS
from tests.test_training_run import CONFIG, batch_fn, loss_fn, make_line
from tests.worlds import tiny_pipeline

FLIPS = 40
"""Of each of five kinds of artefact."""


def read_dataset(folder: Path) -> None:
    list(read_episodes(folder))


def read_latents(folder: Path) -> None:
    for split in ("train", "validation", "test"):
        load_table(folder, split)
    read_statistics(folder)
    read_start_states(folder / "start_states.parquet")
    load_codec(folder)


def read_checkpoint(folder: Path) -> None:
    verify_manifest(folder / "checkpoint-5")


def read_world(folder: Path) -> None:
    GameNGenPipeline.from_pretrained(folder)


READERS: dict[str, Callable[[Path], object]] = {
    "episodes": read_dataset,
    "latents": read_latents,
    "run": read_checkpoint,
    "world": read_world,
    "vae": load_autoencoder_codec,
}


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind, in a folder of its name."""
    root = tmp_path_factory.mktemp("artefacts")
    block_dataset(root / "episodes")
    codec = small_codec()
    encode_dataset(root / "episodes", codec, root / "latents", shard_rows=12, progress=False)
    finalise(root / "episodes", codec, root / "latents", shard_rows=12)
    shutil.rmtree(root / "latents" / "parts")  # what the encoder keeps to continue; tested there
    train(replace(CONFIG, checkpointing_steps=5), {"line": make_line()}, loss_fn, batch_fn, root / "run")
    tiny_pipeline().save_pretrained(root / "world")
    save_codec(codec, root / "vae")
    return root


def files_of(folder: Path) -> list[Path]:
    """What is read: not locks, logs, and what people may edit."""
    names = (*EDITABLE, "metrics.jsonl")
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size)
    return [path for path in files if path.name not in names and not path.name.startswith(".")]


def refused(reader: Callable[[Path], object], folder: Path, file: Path) -> str:
    """What is wrong with how a damaged file was refused; empty when nothing is."""
    try:
        reader(folder)
    except (ValueError, FileNotFoundError) as error:
        # A contract that still reads is found out by the files that were made under it.
        named = file.name in str(error) or (file.name == CONTRACT_FILE and CONTRACT_FILE in str(error))
        return "" if named else f"{file.name} is not named: {error}"
    except BaseException as error:
        return f"{file.name}: {error!r}"
    return f"{file.name} was read as if nothing had been"


@pytest.mark.parametrize("kind", READERS)
def test_two_hundred_random_flipped_bits_are_all_refused_by_name(kind: str, artefacts: Path) -> None:
    """40 of each kind here, so 200 over all; the bits of small files are as likely as those of large ones."""
    rng = np.random.default_rng([7, list(READERS).index(kind)])
    folder, files = artefacts / kind, files_of(artefacts / kind)
    READERS[kind](folder)
    failures = []
    for number in range(FLIPS):
        file = files[number % len(files)] if number < len(files) else files[int(rng.integers(len(files)))]
        data = file.read_bytes()
        changed = bytearray(data)
        changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        file.write_bytes(changed)
        failures.append(refused(READERS[kind], folder, file))
        file.write_bytes(data)
    assert not list(filter(None, failures))
    READERS[kind](folder)


@pytest.mark.parametrize("kind", READERS)
def test_every_truncated_or_missing_file_is_refused_by_name(kind: str, artefacts: Path) -> None:
    folder, failures = artefacts / kind, []
    for file in files_of(folder):
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
        failures.append(refused(READERS[kind], folder, file))
        file.unlink()
        # Without its stream a dataset is a smaller one, and a folder without manifest is only warned of.
        optional = file.name == "manifest.json" and kind != "run" or file.parent.name == "streams"
        failures.append("" if optional else refused(READERS[kind], folder, file))
        file.write_bytes(data)
    assert not list(filter(None, failures))


class Canary:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def hostile_checkpoint(folder: Path, canary: Path) -> None:
    torch.save({"global_batch": 4, "optimizer": Canary(canary)}, folder / "run" / "checkpoint-5" / "training_state.pt")
    write_manifest(folder / "run" / "checkpoint-5")
    TrainingRun(CONFIG, {"line": make_line()}, loss_fn, folder / "run").resume()


def hostile_statistics(folder: Path, canary: Path) -> None:
    torch.save({"mean": Canary(canary)}, folder / "latents" / "statistics.pt")
    write_manifest(folder / "latents", ("statistics.pt", "index.json"))
    read_statistics(folder / "latents")


def hostile_shard(folder: Path, canary: Path) -> None:
    file = folder / "latents" / "train-00000.pt"
    torch.save({"arrays": Canary(canary)}, file)
    index = json.loads((folder / "latents" / "index.json").read_text())
    index["shards"][0] |= {"sha256": sha256_file(file), "bytes": file.stat().st_size}
    (folder / "latents" / "index.json").write_text(json.dumps(index))
    (folder / "latents" / "manifest.json").unlink()
    load_table(folder / "latents", "train")


def hostile_codec(folder: Path, canary: Path) -> None:
    """diffusers reads pickles where there are no safetensors."""
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"encoder": Canary(canary)}, folder / "vae" / "diffusion_pytorch_model.bin")
    load_vae(folder / "vae")


def hostile_world(folder: Path, canary: Path) -> None:
    (folder / "world" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": Canary(canary)}, folder / "world" / "unet" / "diffusion_pytorch_model.bin")
    (folder / "world" / "manifest.json").unlink()
    GameNGenPipeline.from_pretrained(folder / "world")


def hostile_start_states(folder: Path, canary: Path) -> None:
    (folder / "latents" / "start_states.parquet").write_bytes(pickle.dumps(Canary(canary)))
    (folder / "latents" / "manifest.json").unlink()
    read_start_states(folder / "latents" / "start_states.parquet")


def hostile_frames(folder: Path, canary: Path) -> None:
    """A row whose picture is a pickle, in a dataset whose checksums fit."""
    stream_file = folder / "episodes" / "streams" / "main.json"
    stream = read_sealed_json(stream_file)
    file = folder / "episodes" / stream["files"][0]["file"]
    table = pq.read_table(file)
    images = table.column("image").to_pylist()
    images[0]["bytes"] = pickle.dumps(Canary(canary))
    column = table.column_names.index("image")
    table = table.set_column(column, "image", pa.array(images, table.schema.field("image").type))
    pq.write_table(table, file)
    stream["files"][0] |= {"sha256": sha256_file(file), "bytes": file.stat().st_size}
    write_sealed_json(stream_file, stream)
    list(read_episodes(folder / "episodes"))


def hostile_config(folder: Path, canary: Path) -> None:
    (folder / "run.yaml").write_text(f"seed: !!python/object/apply:os.mkdir ['{canary}']\n")
    parse(PRESETS, ["--config", str(folder / "run.yaml")], "")


HOSTILE = [
    hostile_checkpoint, hostile_statistics, hostile_shard, hostile_codec, hostile_world, hostile_start_states,
    hostile_frames, hostile_config,
]  # fmt: skip


@pytest.mark.parametrize("attack", HOSTILE, ids=lambda attack: attack.__name__)
def test_nothing_that_is_loaded_runs_code(
    attack: Callable[[Path, Path], None], artefacts: Path, tmp_path: Path
) -> None:
    """Pickles in the place of files of which an attacker made every checksum fit. (Policies: test_agents_sb3.py.)"""
    folder, canary = tmp_path / "artefacts", tmp_path / "canary"
    shutil.copytree(artefacts, folder)
    # SystemExit: a command line with a bad file. UnpicklingError: torch refuses the type, by name.
    with pytest.raises((ValueError, OSError, pickle.UnpicklingError, SystemExit)):
        attack(folder, canary)
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.is_dir(), "the canary lives: unpickling would have shown it"


@contextlib.contextmanager
def small_disk(num_bytes: int) -> Iterator[None]:
    """No file can grow beyond this, as on a full disk; the system itself refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in files_of(folder)}


def save_checkpoint(folder: Path) -> None:
    config = replace(CONFIG, max_train_steps=7)
    train(config, {"line": make_line()}, loss_fn, batch_fn, folder / "run")


def record_more(folder: Path) -> None:
    writer = EpisodeWriter(folder / "episodes", block_game(), "main", rows_per_file=16)
    writer.write(block_episode(8, 30, "train"))
    writer.flush()


def encode_again(folder: Path) -> None:
    encode_dataset(folder / "episodes", small_codec(), folder / "new", shard_rows=12, progress=False)


def save_world(folder: Path) -> None:
    tiny_pipeline(seed=1).save_pretrained(folder / "world")


WRITES = {"run": save_checkpoint, "episodes": record_more, "new": encode_again, "world": save_world}


@pytest.mark.parametrize("kind", WRITES)
def test_a_full_disk_is_an_error_that_names_the_path_and_costs_nothing(
    kind: str, artefacts: Path, tmp_path: Path
) -> None:
    shutil.copytree(artefacts, tmp_path / "full")
    before = snapshot(tmp_path / "full")
    with small_disk(2000), pytest.raises(OSError, match=str(tmp_path / "full" / kind)):
        WRITES[kind](tmp_path / "full")
    assert snapshot(tmp_path / "full") == before, "what was there is there, and nothing half written under its name"
    WRITES[kind](tmp_path / "full")  # space was made
    assert snapshot(tmp_path / "full") != before


def test_a_disk_that_fails_at_fsync_costs_nothing_either(
    artefacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system writes late, this is the first that a program hears of it."""
    shutil.copytree(artefacts, tmp_path / "full")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = snapshot(tmp_path / "full")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="checkpoint-7: .*No space left.*give the same command again"):
        save_checkpoint(tmp_path / "full")
    assert snapshot(tmp_path / "full") == before
    monkeypatch.undo()
    newest = newest_checkpoint(tmp_path / "full" / "run")
    assert newest is not None and newest.name == "checkpoint-5"


def rewrite_column(folder: Path, name: str, row: int, value: int) -> None:
    """Change one cell of a dataset, and its checksums so that they fit."""
    stream_file = folder / "streams" / "main.json"
    stream = read_sealed_json(stream_file)
    file = folder / stream["files"][0]["file"]
    table = pq.read_table(file)
    values = table.column(name).to_pylist()
    values[row] = value
    column = table.column_names.index(name)
    pq.write_table(table.set_column(column, table.schema.field(name), pa.array(values, pa.int32())), file)
    stream["files"][0] |= {"sha256": sha256_file(file), "bytes": file.stat().st_size}
    write_sealed_json(stream_file, stream)


def test_actions_out_of_range_are_refused_with_their_place(artefacts: Path, tmp_path: Path) -> None:
    """In a dataset, and in shards that were made of it some other way; an embedding is never indexed by them."""
    shutil.copytree(artefacts / "episodes", tmp_path / "episodes")
    rewrite_column(tmp_path / "episodes", "action", 2, 99)
    with pytest.raises(ValueError, match=r"train-main-000000.parquet.*main-000000: action 99 at position 2"):
        list(read_episodes(tmp_path / "episodes"))
    with pytest.raises(ValueError, match="action 99 at position 2"):
        encode_dataset(tmp_path / "episodes", small_codec(), tmp_path / "latents", progress=False)

    shutil.copytree(artefacts / "latents", tmp_path / "shards")
    file = tmp_path / "shards" / "train-00000.pt"
    values = torch.load(file, weights_only=True)
    values["actions"][3] = 99
    torch.save(values, file)
    with pytest.raises(ValueError, match=r"train-00000.pt, row 3: action 99, Block-v0 has 0 to 2"):
        load_table(tmp_path / "shards", "train", verify=False)


def test_frames_of_another_size_than_the_contracts_are_refused(artefacts: Path, tmp_path: Path) -> None:
    shutil.copytree(artefacts / "episodes", tmp_path / "episodes")
    stream = read_sealed_json(tmp_path / "episodes" / "streams" / "main.json")
    file = tmp_path / "episodes" / stream["files"][0]["file"]
    table = pq.read_table(file)
    image = {"bytes": FrameEncoder().encode(np.zeros((24, 28, 3), np.uint8)), "path": None}
    images = pa.array([image] * table.num_rows, table.schema.field("image").type)
    table = table.set_column(table.column_names.index("image"), table.schema.field("image"), images)
    pq.write_table(table, file)
    stream["files"][0] |= {"sha256": sha256_file(file), "bytes": file.stat().st_size}
    write_sealed_json(tmp_path / "episodes" / "streams" / "main.json", stream)
    with pytest.raises(ValueError, match=r"main-000000.*24"):
        list(read_episodes(tmp_path / "episodes"))
    assert list_episodes(tmp_path / "episodes"), "the index alone still reads"
