"""gamengen.training.checkpoints: complete under their name or not there; the last sound one is never lost."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gamengen.durable import DamagedFile
from gamengen.manifest import MANIFEST_FILE, verify_manifest
from gamengen.training.checkpoints import list_checkpoints, newest_checkpoint, publish_checkpoint, step_of


def publish(root: Path, step: int, total_limit: int | None = None) -> Path:
    def write(folder: Path) -> None:
        (folder / "unet").mkdir()
        (folder / "unet" / "weights.bin").write_bytes(bytes(range(256)) * step)
        (folder / "state.pt").write_bytes(b"state")

    return publish_checkpoint(root, step, write, total_limit=total_limit)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_the_newest_is_the_one_of_the_highest_step(tmp_path: Path) -> None:
    for step in (2, 9, 10, 100):  # not in the order of their names
        publish(tmp_path, step)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [2, 9, 10, 100]


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    assert newest_checkpoint(tmp_path / "missing") is None


def flip_a_bit(folder: Path) -> None:
    file = folder / "unet" / "weights.bin"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)


def truncate(folder: Path) -> None:
    file = folder / "unet" / "weights.bin"
    file.write_bytes(file.read_bytes()[:-1])


def lose_a_file(folder: Path) -> None:
    (folder / "state.pt").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).unlink()


def cut_the_manifest(folder: Path) -> None:
    (folder / MANIFEST_FILE).write_text('{"files": {')


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_bit, "weights.bin was changed or damaged: its sha256"),
        (truncate, "weights.bin has 767 bytes, expected 768"),
        (lose_a_file, "state.pt is missing"),
        (lose_the_manifest, "has no manifest.json: it was not completely written"),
        (cut_the_manifest, "manifest.json is damaged"),
    ],
)
def test_damage_is_named_and_passed_over(
    damage: object, message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = publish(tmp_path, 2), publish(tmp_path, 3)
    verify_manifest(newer)
    damage(newer)  # type: ignore[operator]
    with pytest.raises(DamagedFile, match=message):
        verify_manifest(newer)
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(tmp_path) == older
    assert "falling back to the checkpoint before it" in caplog.text and "checkpoint-3" in caplog.text


def test_nothing_sound_left_is_an_error_and_not_a_new_beginning(tmp_path: Path) -> None:
    for step in (1, 2):
        lose_a_file(publish(tmp_path, step))
    with pytest.raises(
        DamagedFile, match="every checkpoint in .* is damaged.*checkpoint-2.*--resume_from_checkpoint none"
    ):
        newest_checkpoint(tmp_path)
    assert len(names(tmp_path)) == 2, "for the user to look at"


def test_the_limit_prunes_only_after_publishing(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    publish(tmp_path, 2)

    def fail(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish_checkpoint(tmp_path, 3, fail, total_limit=1)
    assert [step_of(path) for path in list_checkpoints(tmp_path)] == [1, 2], "nothing goes before the new one is there"
    publish(tmp_path, 3, total_limit=1)
    assert names(tmp_path) == ["checkpoint-3"]
    for step in (4, 5, 6):
        publish(tmp_path, step, total_limit=2)
    assert names(tmp_path) == ["checkpoint-5", "checkpoint-6"]
    publish(tmp_path, 7, total_limit=None)
    assert len(names(tmp_path)) == 3


def test_leftovers_of_a_kill_are_no_checkpoints_and_are_cleared_away(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    for leftover in ("checkpoint-2.tmp", "checkpoint-1.replaced"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "weights.bin").write_bytes(b"torn")
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-1"
    final = publish(tmp_path, 2)  # its own .tmp is in the way
    assert sorted(path.name for path in final.iterdir()) == [MANIFEST_FILE, "state.pt", "unet"]
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2"]


def test_a_step_can_be_published_again(tmp_path: Path) -> None:
    flip_a_bit(publish(tmp_path, 2))
    verify_manifest(publish(tmp_path, 2))
    assert names(tmp_path) == ["checkpoint-2"]


def test_a_damaged_later_checkpoint_does_not_push_the_new_one_out(tmp_path: Path) -> None:
    """Falling back from damaged 20 to 10, the run publishes 15; pruning by step alone would keep 20 and delete 15."""
    publish(tmp_path, 10)
    flip_a_bit(publish(tmp_path, 20))
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-10"
    publish(tmp_path, 15, total_limit=1)
    assert names(tmp_path) == ["checkpoint-15"]
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-15"


def test_going_back_leaves_the_branch_that_was_ahead(tmp_path: Path) -> None:
    """`latest` after a run that started over is that run, not the one before it."""
    publish(tmp_path, 10)
    publish(tmp_path, 20)
    publish(tmp_path, 5)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-5"


def test_only_the_main_process_writes_and_all_meet_before_pruning(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    seen: list[list[str]] = []
    other = publish_checkpoint(
        tmp_path, 2, lambda folder: pytest.fail("written by another rank"), is_main_process=False, total_limit=1
    )
    assert other == tmp_path / "checkpoint-2" and names(tmp_path) == ["checkpoint-1"]
    publish_checkpoint(
        tmp_path,
        2,
        lambda folder: (folder / "file").write_bytes(b""),
        barrier=lambda: seen.append(names(tmp_path)),
        total_limit=1,
    )
    assert seen == [["checkpoint-1", "checkpoint-2"]]
    assert names(tmp_path) == ["checkpoint-2"]


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint-x", "checkpoint-3.tmp", "unet"])
def test_a_folder_of_another_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a folder named checkpoint-<step>"):
        step_of(Path("runs") / name)
