"""encoding: one process or many, killed or not, give the same bytes; foreign data and codecs are refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from gamengen.codecs.autoencoder import AutoencoderCodec
from gamengen.contract import ContractMismatch
from gamengen.dataset.episodes import list_episodes
from gamengen.durable import read_json
from gamengen.latents.encoding import array_bytes, encode_dataset, plan_shards
from gamengen.latents.finishing import finalise
from gamengen.latents.shards import load_table, read_index
from tests.codec_data import LENGTHS, block_dataset, block_game, small_codec

ROWS = 12


def encode(root: Path, output: str, codec: AutoencoderCodec, processes: int = 1) -> None:
    data, folder = root / "data", root / output
    for shard_id in reversed(range(processes)):
        result = encode_dataset(
            data, codec, folder, shard_id=shard_id, num_shards=processes, shard_rows=ROWS, progress=False
        )
        assert result.complete == (shard_id == 0), "the last process, and no other, finds everything there"
    finalise(data, codec, folder, shard_rows=ROWS)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "parts"
    }  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    block_dataset(tmp_path / "data")
    return tmp_path


def test_shards_hold_whole_episodes_in_stream_order(root: Path) -> None:
    plan = plan_shards(root / "data", 100, ROWS)
    for split in ("train", "validation", "test"):
        episodes = [info for shard in plan if shard.split == split for info in shard.episodes]
        assert episodes == list_episodes(root / "data", split)
    for shard in plan:
        assert shard.rows <= ROWS or len(shard.episodes) == 1
    assert [s.file for s in plan][:2] == ["train-00000.pt", "train-00001.pt"]
    for left, right in itertools.pairwise(s for s in plan if s.split == "train"):
        assert left.rows + right.episodes[0].num_frames > ROWS, "a shard is filled before the next is begun"


def test_many_processes_give_the_bytes_of_one(root: Path) -> None:
    codec = small_codec()
    encode(root, "one", codec)
    encode(root, "three", codec, processes=3)
    assert content(root / "one") == content(root / "three")
    assert len(read_index(root / "one")["shards"]) >= 4


def test_what_is_intact_is_kept_and_the_rest_comes_back_equal(root: Path) -> None:
    codec = small_codec()
    encode(root, "latents", codec)
    before = content(root / "latents")
    times = {path: path.stat().st_mtime_ns for path in (root / "latents").glob("*.pt")}
    damaged, missing = root / "latents" / "train-00001.pt", root / "latents" / "test-00000.pt"
    damaged.write_bytes(damaged.read_bytes()[:-7])
    missing.unlink()
    with pytest.warns(UserWarning, match="encoding again"):
        result = encode_dataset(root / "data", codec, root / "latents", shard_rows=ROWS, progress=False)
    shards = {shard["file"]: shard for shard in read_index(root / "latents")["shards"]}
    assert result.frames == shards["train-00001.pt"]["rows"] + shards["test-00000.pt"]["rows"]
    finalise(root / "data", codec, root / "latents", shard_rows=ROWS)
    assert content(root / "latents") == before
    kept = [path for path in times if path not in (damaged, missing) and path.name != "statistics.pt"]
    assert kept and all(path.stat().st_mtime_ns == times[path] for path in kept)


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_killed_encode_continues_to_equal_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = small_codec()
    encode(root, "whole", codec)
    calls = itertools.count()
    original = codec.encode

    def dying(frames: torch.Tensor) -> torch.Tensor:
        if next(calls) == 3:
            raise Killed
        return original(frames)

    monkeypatch.setattr(codec, "encode", dying)
    with pytest.raises(Killed):
        encode_dataset(root / "data", codec, root / "resumed", shard_rows=ROWS, progress=False)
    assert not (root / "resumed" / "index.json").exists()
    with pytest.raises(FileNotFoundError, match="run the same command again"):
        load_table(root / "resumed", "train")
    monkeypatch.undo()
    result = encode_dataset(root / "data", codec, root / "resumed", shard_rows=ROWS, progress=False)
    assert 0 < result.frames < sum(LENGTHS) + len(LENGTHS)
    finalise(root / "data", codec, root / "resumed", shard_rows=ROWS)
    assert content(root / "resumed") == content(root / "whole")


def test_missing_shares_of_other_processes_are_named(root: Path) -> None:
    codec = small_codec()
    result = encode_dataset(
        root / "data", codec, root / "latents", shard_id=1, num_shards=2, shard_rows=ROWS, progress=False
    )
    assert not result.complete
    with pytest.raises(ValueError, match="shards are not encoded yet, the first is train-00000.pt"):
        finalise(root / "data", codec, root / "latents", shard_rows=ROWS)
    with pytest.raises(ValueError, match="shard_id 2: expected 0 to 1"):
        encode_dataset(root / "data", codec, root / "latents", shard_id=2, num_shards=2, progress=False)


def test_another_games_vae_is_refused_naming_both(root: Path) -> None:
    other = small_codec(game=block_game("Pong-v5"))
    with pytest.raises(ContractMismatch, match="Pong-v5") as error:
        encode_dataset(root / "data", other, root / "latents", codec_from="runs/pong/vae", progress=False)
    assert "Block-v0" in str(error.value) and "runs/pong/vae" in str(error.value)
    assert not (root / "latents").exists()


def test_a_folder_of_another_vae_or_of_other_data_is_refused(root: Path) -> None:
    codec, other = small_codec(0), small_codec(1)
    encode(root, "latents", codec)
    before = content(root / "latents")
    with pytest.raises(ContractMismatch, match="fingerprint") as error:
        encode_dataset(root / "data", other, root / "latents", codec_from="the other vae", progress=False)
    assert codec.contract.fingerprint in str(error.value) and other.contract.fingerprint in str(error.value)
    block_dataset(root / "more", (4, 5, 6), ("train", "train", "validation"))
    with pytest.raises(ValueError, match="was made from data with fingerprint"):
        encode_dataset(root / "more", codec, root / "latents", progress=False)
    assert content(root / "latents") == before


def test_a_dataset_without_training_episodes_is_refused(tmp_path: Path) -> None:
    block_dataset(tmp_path / "data", (4,), ("validation",))
    with pytest.raises(ValueError, match="no complete episode in its training split"):
        encode_dataset(tmp_path / "data", small_codec(), tmp_path / "latents", progress=False)


def test_the_size_of_an_array_is_that_on_disk(root: Path) -> None:
    codec = small_codec()
    encode(root, "latents", codec)
    shard = read_json(root / "latents" / "index.json")["shards"][0]
    arrays = torch.load(root / "latents" / shard["file"], weights_only=True)["arrays"]
    assert array_bytes(codec.contract) * shard["rows"] == arrays.numel() * arrays.element_size()
