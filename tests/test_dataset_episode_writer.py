"""episode_writer: complete episodes only, same episodes same bytes, folders of another contract refused."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gamengen.contract import ContractMismatch, GameContract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import list_episodes, read_episodes
from gamengen.games.emulator import make_game_contract
from tests.codec_data import block_dataset, block_episode, block_game
from tests.counter_env import COUNTER_ENV, Count, draw_count, read_count


@pytest.fixture(scope="module")
def game() -> GameContract:
    return make_game_contract(COUNTER_ENV, frame_skip=1)


def play(writer: EpisodeWriter, length: int, *, end: bool = True) -> None:
    number = writer.num_episodes
    writer.begin(draw_count(Count(number, 0, 0)), seed=number)
    for t in range(length):
        writer.append(t % 4, 1.0, draw_count(Count(number, t + 1, t % 4)))
    if end:
        writer.end(True, False)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_complete_episodes_reach_the_disk(tmp_path: Path, game: GameContract) -> None:
    writer = EpisodeWriter(tmp_path / "d", game, "s")
    play(writer, 5)
    play(writer, 7, end=False)
    writer.flush()
    assert [info.num_frames for info in list_episodes(tmp_path / "d")] == [6]
    assert writer.num_steps == 5 + 7


def test_other_default_keys_are_no_other_dataset(tmp_path: Path, game: GameContract) -> None:
    """They are the player's taste; files that said otherwise than contract.json made the whole dataset unreadable."""
    other = dataclasses.replace(
        game, actions=tuple(dataclasses.replace(action, keys=("x", action.meaning)) for action in game.actions)
    )
    assert other != game
    for stream, contract in (("a", game), ("b", other), ("a", other)):
        writer = EpisodeWriter(tmp_path, contract, stream)
        play(writer, 5)
        writer.flush()
        assert writer.game == game, "the folder's own"
    assert len(list(read_episodes(tmp_path))) == 3


def test_a_full_file_is_written_at_once(tmp_path: Path, game: GameContract) -> None:
    writer = EpisodeWriter(tmp_path, game, "s", rows_per_file=10)
    play(writer, 5)
    assert not list_episodes(tmp_path)
    play(writer, 5)
    assert len(list_episodes(tmp_path)) == 2


def test_a_continued_stream_equals_an_uninterrupted_one(tmp_path: Path, game: GameContract) -> None:
    lengths = [4, 9, 3, 12, 5, 6]
    whole = EpisodeWriter(tmp_path / "whole", game, "s", rows_per_file=12)
    for length in lengths:
        play(whole, length)
    whole.flush()
    for stop in (2, 4):  # the writer dies with episodes that wait and one that runs
        writer = EpisodeWriter(tmp_path / "parts", game, "s", rows_per_file=12)
        for length in lengths[writer.num_episodes : stop]:
            play(writer, length)
        play(writer, 3, end=False)
    last = EpisodeWriter(tmp_path / "parts", game, "s", rows_per_file=12)
    for length in lengths[last.num_episodes :]:
        play(last, length)
    last.flush()
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_another_contract_or_folder_is_refused(tmp_path: Path, game: GameContract) -> None:
    EpisodeWriter(tmp_path / "d", game, "s")
    with pytest.raises(ContractMismatch, match=r"frame_skip: 4 in .*, 1 in .*contract\.json"):
        EpisodeWriter(tmp_path / "d", dataclasses.replace(game, frame_skip=4), "s")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match=r"thesis\.tex"):
        EpisodeWriter(tmp_path / "other", game, "s")
    assert sorted(path.name for path in (tmp_path / "other").iterdir() if path.name[0] != ".") == ["thesis.tex"]


def test_wrong_actions_and_frames_are_refused_with_their_place(tmp_path: Path, game: GameContract) -> None:
    writer = EpisodeWriter(tmp_path, game, "s")
    writer.begin(draw_count(Count(0, 0, 0)), seed=0)
    with pytest.raises(ValueError, match="action 9 .*expected one of: 0 ACTION_0"):
        writer.append(9, 0.0, draw_count(Count(0, 1, 0)))
    with pytest.raises(ValueError, match="16x32.*expected 32x32"):
        writer.append(0, 0.0, np.zeros((16, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="letters, digits"):
        EpisodeWriter(tmp_path, game, "../escape")


def test_the_card_names_the_splits_that_exist(tmp_path: Path, game: GameContract) -> None:
    writer = EpisodeWriter(tmp_path, game, "s")
    play(writer, 5)
    writer.flush()
    card = (tmp_path / "README.md").read_text()
    assert "train-*.parquet" in card and "validation-*.parquet" not in card and game.env_id in card


def _write_stream(folder: Path, game: GameContract, name: str) -> None:
    writer = EpisodeWriter(folder, game, name, rows_per_file=8)
    for _ in range(5):
        play(writer, 6)
    writer.flush()


def test_concurrent_writers_share_a_new_folder(tmp_path: Path, game: GameContract) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_write_stream, args=(tmp_path / "d", game, f"s{i}")) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    episodes = list(read_episodes(tmp_path / "d"))
    assert len({episode.episode_id for episode in episodes}) == len(episodes) == 20
    for episode in episodes:
        assert [read_count(frame).episode for frame in episode.frames] == [episode.index_in_stream] * 7


def test_a_disk_that_was_full_for_a_moment_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second file of a flush fails; what waits is written by the next one, and stands in the index once."""
    episodes = [block_episode(number, 4, split) for number, split in enumerate(("train", "validation"))]
    writers = [EpisodeWriter(tmp_path / name, block_game(), "main") for name in ("whole", "full")]
    for writer in writers:
        for episode in episodes:
            writer.write(episode)
    writers[0].flush()
    with monkeypatch.context() as patch:
        patch.setattr(writers[1], "_write_file", failing_at_second(writers[1]._write_file))
        with pytest.raises(OSError, match="full"):
            writers[1].flush()
        assert not list_episodes(tmp_path / "full")
    writers[1].flush()
    for name in ("streams/main.json", "README.md"):
        assert (tmp_path / "full" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def failing_at_second(write: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter(range(9))

    def writing(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise OSError("full")
        return write(*arguments)

    return writing


def test_files_that_no_index_knows_are_cleared_away(tmp_path: Path) -> None:
    """As a kill leaves them; `datasets.load_dataset` reads whatever matches the card's patterns. Others' files stay."""
    block_dataset(tmp_path)
    before = {path.name for path in (tmp_path / "data").iterdir()}
    left = ["train-main-000099.parquet", "test-main-000000.parquet.tmp"]
    others = ["train-main-other-000000.parquet", "notes.txt"]
    for name in (*left, *others):
        (tmp_path / "data" / name).write_bytes(b"torn")
    (tmp_path / "streams" / "main.json.tmp").write_bytes(b"torn")
    (tmp_path / "README.md").unlink()
    EpisodeWriter(tmp_path, block_game(), "main")
    assert {path.name for path in (tmp_path / "data").iterdir()} == before | set(others)
    assert [path.name for path in (tmp_path / "streams").iterdir()] == ["main.json"]
    assert "train-*.parquet" in (tmp_path / "README.md").read_text()
