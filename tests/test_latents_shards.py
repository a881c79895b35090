"""shards: rows come back as they were stored; what is damaged, foreign or hostile is refused by name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gamengen.codecs.autoencoder import AutoencoderCodec, save_codec
from gamengen.codecs.codec import IdentityCodec
from gamengen.contract import ContractMismatch
from gamengen.dataset.episodes import Episode
from gamengen.durable import read_json, sha256_file, write_json
from gamengen.latents import shards
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import finalise
from gamengen.latents.shards import (
    NULL_ACTION,
    latents_fingerprint,
    load_codec,
    load_table,
    read_contract,
    read_index,
    read_statistics,
    write_tensors,
)
from gamengen.latents.windows import Windows
from gamengen.manifest import write_manifest
from tests.codec_data import block_dataset, block_game, small_codec


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Episode], AutoencoderCodec]:
    root = tmp_path_factory.mktemp("shards")
    episodes, codec = block_dataset(root / "data"), small_codec()
    encode_dataset(root / "data", codec, root / "latents", shard_rows=12, progress=False)
    finalise(root / "data", codec, root / "latents", shard_rows=12)
    return root / "latents", episodes, codec


@pytest.fixture
def copied(finished: tuple[Path, list[Episode], AutoencoderCodec], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "latents"))


@pytest.mark.parametrize("in_memory", [True, False, None])
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_rows_come_back_as_they_were(
    finished: tuple[Path, list[Episode], AutoencoderCodec], split: str, in_memory: bool | None
) -> None:
    folder, episodes, codec = finished
    episodes = [e for e in episodes if e.split == split]
    table = load_table(folder, split, in_memory=in_memory)
    assert len(table) == sum(len(e.frames) for e in episodes)
    assert (len(table.parts) > 1) == (in_memory is False and split == "train")
    assert table.episode_ids == tuple(e.episode_id for e in episodes)
    assert table.indices_in_stream == tuple(e.index_in_stream for e in episodes)
    assert set(table.stream_ids) == {"main"}
    end = 0
    for (start, stop), episode in zip(table.segments.tolist(), episodes, strict=True):
        assert start == end and stop - start == len(episode.frames)
        end = stop
        assert torch.equal(table.gather(torch.arange(start, stop)), codec.encode(torch.from_numpy(episode.frames)))
        assert table.actions[start:stop].tolist() == [*episode.actions.tolist(), NULL_ACTION]
        assert table.rewards[start:stop].tolist() == [*episode.rewards.tolist(), 0.0]
        assert table.terminated[start:stop].tolist() == [False] * (stop - start - 1) + [episode.terminated]


def test_gather_equals_direct_indexing(finished: tuple[Path, list[Episode], AutoencoderCodec]) -> None:
    mapped = load_table(finished[0], "train", in_memory=False)
    whole = torch.cat(mapped.parts)
    generator = torch.Generator().manual_seed(0)
    for shape in [(7,), (3, 5), (2, 3, 4), (0,), ()]:
        rows = torch.randint(len(whole), shape, generator=generator)
        for table in (mapped, load_table(finished[0], "train", in_memory=True)):
            gathered = table.gather(rows)
            assert gathered.dtype == torch.float16 and torch.equal(gathered, whole[rows])
            for row in (-1, len(whole)):
                with pytest.raises(IndexError, match=f"0 to {len(whole) - 1}"):
                    table.gather(torch.tensor([row]))


def test_episodes_shorter_than_the_context_make_windows(finished: tuple[Path, list[Episode], AutoencoderCodec]) -> None:
    table = load_table(finished[0], "train")
    windows = Windows(table, table.contract.game, context_length=8)
    assert len(windows) == sum(stop - start - 1 for start, stop in table.segments.tolist())
    shortest = int((table.segments[:, 1] - table.segments[:, 0]).argmin())
    start = int(table.segments[shortest, 0])
    position = int((windows.targets == start + 1).nonzero())
    window = windows.at(torch.tensor([position]))
    assert torch.equal(window.context[0], table.gather(torch.tensor([start])).expand(8, -1, -1, -1))
    assert torch.equal(window.targets[0], table.gather(torch.tensor(start + 1)))


def test_the_folder_holds_its_codec_and_statistics(finished: tuple[Path, list[Episode], AutoencoderCodec]) -> None:
    folder, episodes, codec = finished
    contract = read_contract(folder)
    arrays = torch.cat([codec.encode(torch.from_numpy(e.frames)) for e in episodes if e.split == "train"]).double()
    assert contract.mean is not None and contract.std is not None
    np.testing.assert_allclose(contract.mean, arrays.mean((0, 2, 3)).numpy(), rtol=1e-5)
    np.testing.assert_allclose(contract.std, arrays.std((0, 2, 3), correction=0).numpy(), rtol=1e-5)
    statistics = read_statistics(folder)
    assert statistics.mean.tolist() == list(contract.mean) and statistics.std.tolist() == list(contract.std)
    assert torch.equal(statistics.median, arrays.float().median(dim=0).values)
    there = load_codec(folder)
    assert there.contract == codec.contract
    episode = episodes[3]
    decoded = there.decode(load_table(folder, "validation").gather(torch.arange(len(episode.frames))))
    assert torch.equal(decoded, codec.decode(codec.encode(torch.from_numpy(episode.frames))))


def test_latents_that_a_gpu_has_no_room_for_stay_on_the_cpu(
    finished: tuple[Path, list[Episode], AutoencoderCodec], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    size = load_table(finished[0], "train").parts[0].nbytes
    asked: list[Any] = []
    original = shards._joined
    monkeypatch.setattr(shards, "_joined", lambda parts, device: asked.append(str(device)) or original(parts, "cpu"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * size, 4 * size))
    load_table(finished[0], "train", device="cuda:0")
    assert asked == ["cuda:0"] and not caplog.messages
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * size - 1, 4 * size))
    table = load_table(finished[0], "train", device="cuda:0")
    assert asked == ["cuda:0", "cpu"] and torch.equal(table.gather(torch.arange(3)), table.parts[0][:3])
    assert "50 %" in caplog.text and "cuda:0" in caplog.text and str(finished[0]) in caplog.text


def test_the_processes_of_a_machine_share_its_memory(
    finished: tuple[Path, list[Episode], AutoencoderCodec], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = load_table(finished[0], "train").parts[0].nbytes
    monkeypatch.setattr(shards, "_memory_bytes", lambda: 4 * size)
    assert len(load_table(finished[0], "train").parts) == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert len(load_table(finished[0], "train").parts) > 1


def first_shard(folder: Path) -> Path:
    return Path(folder / read_index(folder)["shards"][0]["file"])


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (truncate, ValueError, "bytes, expected"),
        (flip, ValueError, "sha256"),
        (os.unlink, FileNotFoundError, "missing"),
    ],
)
def test_a_damaged_shard_is_refused_by_name(
    copied: Path, damage: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    file = first_shard(copied)
    damage(file)
    with pytest.raises(error, match=f"{file.name} .*{message}"):
        load_table(copied, "train")
    assert len(load_table(copied, "validation")) > 0, "the other splits are whole"


def test_without_verification_a_wrong_shape_is_still_refused(copied: Path) -> None:
    file = first_shard(copied)
    values = torch.load(file, weights_only=True)
    write_tensors(file, {**values, "arrays": values["arrays"][:, :1]})
    with pytest.raises(ValueError, match=f"{file.name}: expected arrays"):
        load_table(copied, "train", verify=False)


def rewrite_index(folder: Path, index: dict[str, Any]) -> None:
    """As someone does who means it: with a manifest that fits."""
    write_json(folder / "index.json", index)
    write_manifest(folder, ("index.json", "statistics.pt", "start_states.parquet"))


class Canary:
    """A pickle that leaves a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, (f"touch {self.path}",))


def test_a_hostile_shard_is_not_executed(copied: Path, tmp_path: Path) -> None:
    canary, file = tmp_path / "canary", first_shard(copied)
    torch.save({"arrays": Canary(canary)}, file)
    index = read_json(copied / "index.json")
    index["shards"][0] |= {"sha256": sha256_file(file), "bytes": file.stat().st_size}
    rewrite_index(copied, index)
    with pytest.raises(ValueError, match=file.name):
        load_table(copied, "train")
    assert not canary.exists()


def test_another_vae_in_the_folder_is_refused(copied: Path) -> None:
    save_codec(small_codec(1), copied / "vae")
    with pytest.raises(ContractMismatch, match="fingerprint") as error:
        load_codec(copied)
    assert "index.json" in str(error.value) and small_codec(1).contract.fingerprint in str(error.value)


def test_an_unfinished_or_missing_folder_is_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="encode_latents"):
        load_table(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match="no episodes in split 'dev'; it has: test, train, validation"):
        load_table(copied, "dev")
    for change, message in (({"finalised": False}, "not finalised"), ({"version": 9}, "version 9")):
        rewrite_index(copied, {**read_json(copied / "index.json"), **change})
        with pytest.raises(ValueError, match=message):
            load_table(copied, "train")


def test_the_fingerprint_follows_the_data(copied: Path, finished: tuple[Path, list[Episode], AutoencoderCodec]) -> None:
    assert latents_fingerprint(copied) == latents_fingerprint(finished[0])
    index = read_json(copied / "index.json")
    index["shards"][0]["sha256"] = "0" * 64
    rewrite_index(copied, index)
    assert latents_fingerprint(copied) != latents_fingerprint(finished[0])


def test_bytes_do_not_depend_on_the_name_and_slices_drag_nothing(tmp_path: Path) -> None:
    values = torch.randn(1000, 10)
    for name in ("a.pt", "longer-name.pt"):
        write_tensors(tmp_path / name, {"values": values[:5]})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "longer-name.pt").read_bytes()
    assert (tmp_path / "a.pt").stat().st_size < 5000


def test_frames_themselves_can_be_the_arrays(tmp_path: Path) -> None:
    episodes = block_dataset(tmp_path / "data")
    codec = IdentityCodec(block_game())
    encode_dataset(tmp_path / "data", codec, tmp_path / "out", progress=False)
    finalise(tmp_path / "data", codec, tmp_path / "out")
    table = load_table(tmp_path / "out", "train")
    frames = np.concatenate([e.frames for e in episodes if e.split == "train"])
    assert np.array_equal(load_codec(tmp_path / "out").decode(table.gather(torch.arange(len(table)))).numpy(), frames)
