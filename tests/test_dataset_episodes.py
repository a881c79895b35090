"""episodes: what was written is read back, by us and by `datasets`; damaged files are refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from gamengen.contract import ContractMismatch, GameContract, read_game_contract, write_contract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import (
    Episode,
    dataset_fingerprint,
    list_episodes,
    read_contract,
    read_episodes,
    read_frames,
    verify_dataset,
)
from gamengen.dataset.splits import split_of
from gamengen.games.emulator import make_game_contract
from tests.counter_env import COUNTER_ENV, Count, draw_count


@pytest.fixture(scope="module")
def game() -> GameContract:
    return make_game_contract(COUNTER_ENV, frame_skip=1)


def counted(number: int, length: int, split: str = "train") -> Episode:
    actions = np.array([(number + t) % 4 for t in range(length)], np.int64)
    before = [0, *actions.tolist()]
    return Episode(
        frames=np.stack([draw_count(Count(number, t, before[t])) for t in range(length + 1)]), actions=actions,
        rewards=actions.astype(np.float32) / 4, terminated=number % 2 == 0, truncated=number % 2 == 1,
        episode_id=f"main-{number:06d}", stream_id="main", index_in_stream=number, seed=number, noop_starts=number % 3,
        split=split, agent=f"player-{number}", lives=np.arange(length + 1) % 3,
        ram=np.arange((length + 1) * 128, dtype=np.uint8).reshape(-1, 128),
    )  # fmt: skip


@pytest.fixture
def dataset(tmp_path: Path, game: GameContract) -> tuple[Path, list[Episode]]:
    folder = tmp_path / "dataset"
    writer = EpisodeWriter(folder, game, "main", rows_per_file=20)
    episodes = [counted(number, 3 + 4 * number, split_of(number)) for number in range(6)]
    for episode in episodes:
        writer.write(episode)
    writer.flush()
    return folder, episodes


def assert_same(ours: Episode, theirs: Episode) -> None:
    for field in dataclasses.fields(Episode):
        left, right = getattr(ours, field.name), getattr(theirs, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype and np.array_equal(left, right), field.name
        else:
            assert left == right, field.name


def test_episodes_come_back_as_they_were(dataset: tuple[Path, list[Episode]], game: GameContract) -> None:
    folder, episodes = dataset
    for ours, theirs in zip(episodes, read_episodes(folder), strict=True):
        assert_same(ours, theirs)
    assert read_contract(folder) == game
    assert [e.index_in_stream for e in read_episodes(folder, "validation")] == [1]
    assert [e.episode_id for e in read_episodes(folder, episode_ids=["main-000004"])] == ["main-000004"]


def test_some_frames_are_those_of_the_whole_episodes(dataset: tuple[Path, list[Episode]]) -> None:
    folder, written = dataset
    episodes = {episode.episode_id: episode for episode in written}
    infos = list_episodes(folder)
    wanted = {info: [info.num_frames - 1, 0, info.num_frames // 2] for info in infos[1:]}
    found = list(read_frames(folder, wanted))
    assert len(found) == len(infos) - 1 > 0
    for (info, numbers), frames in zip(wanted.items(), found, strict=True):
        assert np.array_equal(frames, episodes[info.episode_id].frames[numbers])


def test_listing_agrees_with_reading(dataset: tuple[Path, list[Episode]]) -> None:
    folder, episodes = dataset
    for info, episode in zip(list_episodes(folder), episodes, strict=True):
        assert (info.episode_id, info.split) == (episode.episode_id, episode.split)
        assert info.num_frames == len(episode.frames)
        assert info.episode_return == pytest.approx(float(episode.rewards.sum()))
    assert {info.split for info in list_episodes(folder, "test")} == {"test"}


def test_load_dataset_needs_no_code_of_ours(dataset: tuple[Path, list[Episode]], tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder, episodes = dataset
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "validation", "test"}
    for split, rows in loaded.items():
        of_split = [episode for episode in episodes if episode.split == split]
        assert len(rows) == sum(len(episode.frames) for episode in of_split)
        by_id = {episode.episode_id: episode for episode in of_split}
        for row in rows:
            episode, t = by_id[row["episode_id"]], row["step"]
            assert row["image"].mode == "RGB"
            assert np.array_equal(np.array(row["image"]), episode.frames[t])
            last = t == len(episode.actions)
            assert row["action"] == (None if last else episode.actions[t])
            assert row["reward"] == (None if last else episode.rewards[t])
            assert row["terminated"] == (last and episode.terminated)


def test_contract_is_inside_the_parquet_files_too(dataset: tuple[Path, list[Episode]], game: GameContract) -> None:
    folder, _ = dataset
    for path in (folder / "data").glob("*.parquet"):
        stored = json.loads(pq.read_schema(path).metadata[b"gamengen_contract"])
        assert stored["env_id"] == game.env_id and stored["frame_skip"] == 1


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "truncated":
        del data[len(data) // 2 :]
    elif how == "bit flipped":
        data[len(data) // 3] ^= 4
    else:
        path.unlink()
        return
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", ["truncated", "bit flipped", "missing"])
def test_damaged_files_are_refused_by_name(dataset: tuple[Path, list[Episode]], how: str) -> None:
    folder, _ = dataset
    path = sorted((folder / "data").glob("train-*.parquet"))[0]
    damage(path, how)
    with pytest.raises(ValueError, match=path.name):
        list(read_episodes(folder))
    with pytest.raises(ValueError, match=path.name):
        verify_dataset(folder)


def test_a_damaged_index_is_refused_by_name(dataset: tuple[Path, list[Episode]]) -> None:
    folder, _ = dataset
    damage(folder / "streams" / "main.json", "truncated")
    with pytest.raises(ValueError, match=r"main\.json"):
        list_episodes(folder)


def test_files_of_another_contract_are_refused(dataset: tuple[Path, list[Episode]]) -> None:
    folder, _ = dataset
    write_contract(folder, dataclasses.replace(read_game_contract(folder), frame_skip=3))
    with pytest.raises(ContractMismatch, match="parquet"):
        list(read_episodes(folder))


def test_fingerprint_follows_the_data(dataset: tuple[Path, list[Episode]], game: GameContract) -> None:
    folder, _ = dataset
    before = dataset_fingerprint(folder)
    assert before == dataset_fingerprint(folder)
    writer = EpisodeWriter(folder, game, "second")
    writer.write(counted(9, 5))
    writer.flush()
    assert dataset_fingerprint(folder) != before


def test_wrong_requests_say_what_there_is(dataset: tuple[Path, list[Episode]], tmp_path: Path) -> None:
    folder, _ = dataset
    with pytest.raises(ValueError, match="expected one of: train, validation, test"):
        list_episodes(folder, "dev")
    with pytest.raises(ValueError, match="no episode 'nobody'"):
        read_episodes(folder, episode_ids=["nobody"])
    with pytest.raises(FileNotFoundError, match="record_episodes"):
        list_episodes(tmp_path / "nowhere")
