"""importing/importer.py: what the recorder wrote, exported and imported again, is the same dataset; kills; faults."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.policies import RandomPolicy
from agents.recorder import Player, Recorder, RecorderSettings
from gamengen.codecs.codec import IdentityCodec
from gamengen.contract import ContractMismatch, read_game_contract
from gamengen.dataset.episode_writer import EpisodeWriter
from gamengen.dataset.episodes import NO_SEED, SPLITS, Episode, list_episodes, read_episodes, verify_dataset
from gamengen.games.emulator import make_game_contract
from gamengen.importing.clips import find_files
from gamengen.importing.importer import Imported, Importer, ImportSettings, estimate_action_offset
from gamengen.importing.sources import open_clips
from gamengen.importing.spec import ImportSpec, SourceAction
from gamengen.latents.encoding import encode_dataset
from gamengen.latents.finishing import StartStateConfig, finalise
from gamengen.latents.shards import load_table
from gamengen.latents.windows import Windows
from tests.codec_data import block_frames
from tests.counter_env import COUNTER_ENV
from tests.own_clips import encode_video, key_events, make_spec, rows_of, write_csv, write_images

SHARES = {"validation_share": 0.2, "test_share": 0.2}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the recorder writes of CounterEnv, one stream."""
    folder = tmp_path_factory.mktemp("recorded") / "data"
    settings = RecorderSettings(num_steps=200, num_envs=1, max_episode_frames=20, **SHARES)
    Recorder(folder, make_game_contract(COUNTER_ENV, frame_skip=1), [Player(RandomPolicy(4))], settings).run()
    return folder


@pytest.fixture(scope="module")
def counter_spec(recorded: Path) -> ImportSpec:
    game = read_game_contract(recorded)
    actions = tuple(SourceAction(name=action.meaning, keys=action.keys, pressed=action.keys) for action in game.actions)
    return ImportSpec(
        game="Counter", fps=game.fps, frame_height=game.frame_height, frame_width=game.frame_width, actions=actions,
        noop_action=game.noop_action,
    )  # fmt: skip


def run(source: Path, folder: Path, spec: ImportSpec, **settings: object) -> Imported:
    return Importer(folder, spec, ImportSettings(**settings)).run(open_clips(str(source), spec))


def export_videos(folder: Path, episodes: list[Episode], spec: ImportSpec) -> None:
    for number, episode in enumerate(episodes):
        (folder / f"{number:03d}.mkv").write_bytes(encode_video(episode.frames, spec.fps))
        write_csv(folder / f"{number:03d}.csv", rows_of([episode]))


def export_videos_with_keys(folder: Path, episodes: list[Episode], spec: ImportSpec) -> None:
    for number, episode in enumerate(episodes):
        (folder / f"{number:03d}.mkv").write_bytes(encode_video(episode.frames, spec.fps))
        write_csv(folder / f"{number:03d}.csv", key_events(episode.actions, spec, spec.fps, jitter=0.4))


def export_images(folder: Path, episodes: list[Episode], spec: ImportSpec) -> None:
    for number, episode in enumerate(episodes):
        write_images(folder / f"{number:03d}", episode.frames)
        write_csv(folder / f"{number:03d}" / "actions.csv", rows_of([episode]))


def export_arrays(folder: Path, episodes: list[Episode], spec: ImportSpec) -> None:
    for number, e in enumerate(episodes):
        ends = np.zeros(len(e.actions), bool)
        np.savez_compressed(
            folder / f"{number:03d}.npz", frames=e.frames, actions=e.actions, rewards=e.rewards,
            terminated=ends | (e.terminated & (np.arange(len(ends)) == len(ends) - 1)),
            truncated=ends | (e.truncated & (np.arange(len(ends)) == len(ends) - 1)),
        )  # fmt: skip


def export_one_video(folder: Path, episodes: list[Episode], spec: ImportSpec) -> None:
    frames = np.concatenate([episode.frames for episode in episodes])
    (folder / "all.mkv").write_bytes(encode_video(frames, spec.fps))
    write_csv(folder / "all.csv", rows_of(episodes))


def encoded(dataset: Path, folder: Path) -> Path:
    codec = IdentityCodec(read_game_contract(dataset))
    encode_dataset(dataset, codec, folder, progress=False)
    starts = StartStateConfig(num_start_states=3, start_state_frames=4, start_state_horizon=4)
    finalise(dataset, codec, folder, starts=starts)
    return folder


EXPORTS = [export_videos, export_videos_with_keys, export_images, export_arrays, export_one_video]


@pytest.mark.parametrize("export", EXPORTS, ids=lambda export: export.__name__)
def test_what_was_recorded_comes_back(
    export: Callable[..., None], recorded: Path, counter_spec: ImportSpec, tmp_path: Path
) -> None:
    """Frames, actions, rewards, ends and splits; and the windows that training sees, over resets too."""
    before = sorted(read_episodes(recorded), key=lambda episode: episode.index_in_stream)
    (tmp_path / "clips").mkdir()
    export(tmp_path / "clips", before, counter_spec)
    imported = run(tmp_path / "clips", tmp_path / "data", counter_spec, **SHARES)
    after = list(read_episodes(tmp_path / "data"))
    assert len(after) == len(before) > 8 and len({episode.split for episode in after}) == 3
    knows_rewards = export is not export_videos_with_keys
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.frames, old.frames)
        np.testing.assert_array_equal(new.actions, old.actions)
        np.testing.assert_array_equal(new.rewards, old.rewards if knows_rewards else np.zeros_like(old.rewards))
        assert new.split == old.split and new.seed == NO_SEED
        if knows_rewards:
            assert (new.terminated, new.truncated) == (old.terminated, old.truncated)
    assert verify_dataset(tmp_path / "data") > 0
    assert sum(report.steps for report in imported.clips) == sum(len(episode.actions) for episode in before)
    tables = [
        load_table(encoded(d, tmp_path / name), "train") for name, d in (("a", recorded), ("b", tmp_path / "data"))
    ]
    for cross_resets in (False, True)[: 1 + (export is export_one_video)]:
        left, right = (Windows(t, t.contract.game, 3, cross_resets=cross_resets) for t in tables)
        assert len(left) == len(right)
        for position in range(0, len(left), 7):
            one, other = left.at(torch.tensor([position])), right.at(torch.tensor([position]))
            assert torch.equal(one.context, other.context) and torch.equal(one.targets, other.targets)
            assert torch.equal(one.actions, other.actions)


def test_a_lossy_video_keeps_the_actions_and_nearly_the_frames(tmp_path: Path) -> None:
    frames = block_frames(30, height=40, width=56).repeat(2, axis=1).repeat(2, axis=2)
    actions = np.random.default_rng(0).integers(0, 5, 30)
    (tmp_path / "a.mp4").write_bytes(
        encode_video(frames, 15, codec="libx264", pix_fmt="yuv420p", container="mp4", options={"crf": "12"})
    )
    write_csv(tmp_path / "a.csv", {"action": actions.tolist()})
    spec = make_spec(frame_height=80, frame_width=112)
    report = run(tmp_path, tmp_path / "data", spec).clips[0]
    (episode,) = read_episodes(tmp_path / "data")
    np.testing.assert_array_equal(episode.actions, actions[:-1])
    error = np.abs(episode.frames.astype(int) - frames)
    assert 0 < error.mean() < 4 and np.percentile(error, 99) < 24
    assert any("colours are rounded" in remark for remark in report.remarks)


def test_a_variable_rate_is_resampled_by_the_times(tmp_path: Path) -> None:
    """Frame n shows n; it is shown from its own time on, and the keys are read at the ticks."""
    frames = np.stack([np.full((20, 28, 3), 4 * n, np.uint8) for n in range(40)])
    times = np.cumsum(np.random.default_rng(1).choice([0.02, 0.033, 0.2], 40))
    times = np.round(times - times[0], 3)
    (tmp_path / "a.mkv").write_bytes(encode_video(frames, 30, times=times))
    write_csv(tmp_path / "a.csv", {"time": [0.5, 0.9], "key": ["a", "a"], "event": ["down", "up"]})
    report = run(tmp_path, tmp_path / "data", make_spec(source_fps="variable")).clips[0]
    (episode,) = read_episodes(tmp_path / "data")
    ticks = np.arange(len(episode.frames)) / 15
    expected = [max(n for n in range(40) if times[n] <= tick + 1e-3) for tick in ticks]
    assert episode.frames[:, 0, 0, 0].tolist() == [4 * n for n in expected]
    assert episode.actions.tolist() == [int(0.5 - 1e-3 <= tick < 0.9 - 1e-3) for tick in ticks[:-1]]
    assert report.repeated_ticks == sum(a == b for a, b in zip(expected, expected[1:], strict=False)) > 0
    assert report.unshown_frames == 40 - len(set(expected)) > 0


def block_clips(folder: Path, count: int = 3, length: int = 40) -> None:
    for number in range(count):
        frames = block_frames(length, seed=number)
        actions = np.random.default_rng(number).integers(0, 5, length)
        np.savez_compressed(folder / f"clip_{number}.npz", frames=frames, actions=actions)


def test_a_killed_import_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    block_clips(clips)
    settings = {"max_episode_frames": 7, "rows_per_file": 16}
    run(clips, tmp_path / "whole", make_spec(), **settings)
    whole = {p.relative_to(tmp_path / "whole"): p.read_bytes() for p in sorted((tmp_path / "whole").rglob("*.parquet"))}
    for stop_at in (("clip_0", 33), ("clip_1", 20), ("clip_2", 39)):
        folder = tmp_path / f"killed_{stop_at[0]}"

        def kill(clip: str, done: int, total: int, stop_at: tuple[str, int] = stop_at) -> None:
            if (clip, done) == stop_at:
                raise KeyboardInterrupt

        spec = make_spec()
        with pytest.raises(KeyboardInterrupt):
            Importer(folder, spec, ImportSettings(**settings)).run(open_clips(str(clips), spec), kill)
        complete = {info.stream_id for info in list_episodes(folder)}
        assert complete == {f"import-clip_{n}" for n in range(int(stop_at[0][-1]))}  # whole clips or nothing
        run(clips, folder, spec, **settings)
        assert {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*.parquet"))} == whole
        assert not any((folder / ".importing").iterdir()) and verify_dataset(folder) == len(whole)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_kill_while_a_clip_is_published_goes_on(
    replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the clip is replaced by another of its name before: nothing of the first one stays."""
    (tmp_path / "clips").mkdir()
    block_clips(tmp_path / "clips", count=1)
    settings = {"max_episode_frames": 7, "rows_per_file": 16}
    run(tmp_path / "clips", tmp_path / "whole", make_spec(), **settings)
    replace = os.replace
    moved: list[str] = []

    def dies(source: str | Path, target: str | Path) -> None:
        if Path(source).suffix == ".parquet":
            if moved:
                raise KeyboardInterrupt
            moved.append(str(target))
        replace(source, target)

    monkeypatch.setattr("gamengen.importing.importer.os.replace", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "clips", tmp_path / "data", make_spec(), **settings)
    monkeypatch.setattr("gamengen.importing.importer.os.replace", replace)
    assert moved and list_episodes(tmp_path / "data") == []
    if replaced:
        np.savez(tmp_path / "clips/clip_0.npz", frames=block_frames(3, seed=9), actions=[1, 2, 3])
        run(tmp_path / "clips", tmp_path / "data", make_spec(), **settings)
        (episode,) = read_episodes(tmp_path / "data")
        assert episode.actions.tolist() == [1, 2]
        assert len(list((tmp_path / "data/data").iterdir())) == verify_dataset(tmp_path / "data") == 1
        return
    run(tmp_path / "clips", tmp_path / "data", make_spec(), **settings)
    assert [e.actions.tolist() for e in read_episodes(tmp_path / "data")] == [
        e.actions.tolist() for e in read_episodes(tmp_path / "whole")
    ]
    assert verify_dataset(tmp_path / "data") == verify_dataset(tmp_path / "whole")


def test_clips_that_came_since_are_added_and_changed_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    block_clips(tmp_path / "clips", count=2)
    assert len(run(tmp_path / "clips", tmp_path / "data", make_spec()).new_clips) == 2
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.parquet")}
    block_clips(tmp_path / "clips", count=3)
    again = run(tmp_path / "clips", tmp_path / "data", make_spec())
    assert [report.clip for report in again.new_clips] == ["clip_2"] and len(again.clips) == 3
    assert all(path.stat().st_mtime_ns == when for path, when in files.items())
    np.savez_compressed(tmp_path / "clips/clip_1.npz", frames=block_frames(9), actions=np.zeros(9, int))
    with pytest.raises(ValueError, match=r"clip_1.npz or its log was changed .* --overwrite"):
        run(tmp_path / "clips", tmp_path / "data", make_spec())


def test_a_broken_clip_leaves_nothing_of_itself(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    block_clips(tmp_path / "clips", count=1)
    frames = block_frames(400, height=20)
    video = encode_video(frames, 15, codec="ffv1", pix_fmt="bgr0", options={"slicecrc": "1"})
    (tmp_path / "clips/clip_1.mkv").write_bytes(video[: len(video) // 2])
    write_csv(tmp_path / "clips/clip_1.csv", {"action": [0] * 400})
    with pytest.raises(ValueError, match="clip_1"):
        run(tmp_path / "clips", tmp_path / "data", make_spec(), rows_per_file=16, max_episode_frames=8)
    assert {info.stream_id for info in list_episodes(tmp_path / "data")} == {"import-clip_0"}
    assert all("clip_0" in path.name for path in (tmp_path / "data/data").iterdir())


def test_two_imports_at_once_are_refused(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    block_clips(tmp_path / "clips", count=1)
    spec = make_spec()
    refused = []

    def second(*_: object) -> None:
        if not refused:
            with pytest.raises(ValueError, match="another import 'import' into .* runs; .*--name"):
                run(tmp_path / "clips", tmp_path / "data", spec)
            refused.append(True)

    Importer(tmp_path / "data", spec, ImportSettings()).run(open_clips(str(tmp_path / "clips"), spec), second)
    assert refused


def test_imports_of_two_names_run_side_by_side_and_do_not_touch_each_other(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    block_clips(tmp_path / "clips")
    spec = make_spec()
    for name in ("one", "two"):
        run(tmp_path / "clips", tmp_path / name, spec, name=name, max_episode_frames=9)
    inner = []

    def second(*_: object) -> None:
        if not inner:
            inner.append(run(tmp_path / "clips", tmp_path / "both", spec, name="two", max_episode_frames=9))

    settings = ImportSettings(name="one", max_episode_frames=9)
    Importer(tmp_path / "both", spec, settings).run(open_clips(str(tmp_path / "clips"), spec), second)
    together = {path.name: path.read_bytes() for path in (tmp_path / "both/data").iterdir()}
    assert together == {p.name: p.read_bytes() for n in ("one", "two") for p in (tmp_path / n / "data").iterdir()}
    assert verify_dataset(tmp_path / "both") == len(together)


def test_another_game_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    block_clips(tmp_path / "clips", count=1)
    run(tmp_path / "clips", tmp_path / "data", make_spec())
    with pytest.raises(ContractMismatch, match="fps"):
        run(tmp_path / "clips", tmp_path / "data", make_spec(fps=30.0))


def test_other_default_keys_in_the_yaml_are_no_other_dataset(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    block_clips(tmp_path / "clips", count=1)
    spec = make_spec()
    other = replace(spec, actions=tuple(replace(action, keys=(f"F{n}",)) for n, action in enumerate(spec.actions)))
    episodes = 0
    for name, given in (("mine", spec), ("yours", other)):
        imported = run(tmp_path / "clips", tmp_path / "data", given, name=name)
        episodes += sum(clip.episodes for clip in imported.new_clips)
    assert read_game_contract(tmp_path / "data") == spec.contract() != other.contract()
    assert len(list(read_episodes(tmp_path / "data"))) == episodes > 1


def test_exchanged_colours_are_told_from_the_first_clip_and_from_a_known_colour(tmp_path: Path) -> None:
    frames = block_frames(20)
    frames[..., 0] //= 4
    frames[..., 2] //= 2
    frames[:, :6] = (230, 120, 20)
    for name, pixels in (("a", frames), ("b", frames[..., ::-1])):
        np.savez(tmp_path / f"{name}.npz", frames=pixels, actions=np.arange(20) % 5)
    with pytest.raises(ValueError, match=r"b.npz: its colours overlap .* red and blue exchanged"):
        run(tmp_path, tmp_path / "data", make_spec())
    assert {info.stream_id for info in list_episodes(tmp_path / "data")} == {"import-a"}
    with pytest.raises(ValueError, match=r"b.npz: no pixel has the known colour #e67814.*colour_order"):
        run(tmp_path / "b.npz", tmp_path / "known", make_spec(known_colours=((230, 120, 20),)))
    run(tmp_path / "b.npz", tmp_path / "swapped", make_spec(known_colours=((230, 120, 20),), colour_order="BGR"))
    (episode,) = read_episodes(tmp_path / "swapped")
    np.testing.assert_array_equal(episode.frames, frames)


def test_folders_say_the_split(tmp_path: Path) -> None:
    for split in SPLITS:
        (tmp_path / "clips" / split).mkdir(parents=True)
        block_clips(tmp_path / "clips" / split, count=1)
    assert [files.split for files in find_files(tmp_path / "clips")] == ["test", "train", "validation"]
    run(tmp_path / "clips", tmp_path / "data", make_spec(), max_episode_frames=10)
    for info in list_episodes(tmp_path / "data"):
        assert info.stream_id == f"import-{info.split}-clip_0"


def test_long_clips_are_cut_and_no_step_is_lost(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    block_clips(tmp_path / "clips", count=1, length=40)
    run(tmp_path / "clips", tmp_path / "data", make_spec(), max_episode_frames=16)
    episodes = list(read_episodes(tmp_path / "data"))
    with np.load(tmp_path / "clips/clip_0.npz") as file:
        frames, actions = file["frames"], file["actions"]
    assert [len(episode.actions) for episode in episodes] == [16, 16, 7]
    np.testing.assert_array_equal(np.concatenate([episode.actions for episode in episodes]), actions[:-1])
    for start, episode in zip((0, 16, 32), episodes, strict=True):
        np.testing.assert_array_equal(episode.frames, frames[start : start + len(episode.frames)])
        assert episode.truncated and not episode.terminated


def test_an_import_stands_beside_a_recording_of_the_same_contract(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    block_clips(tmp_path / "clips", count=1)
    spec = make_spec()
    writer = EpisodeWriter(tmp_path / "data", spec.contract(), "other")
    writer.begin(block_frames(1)[0], seed=1)
    writer.append(0, 0.0, block_frames(1)[0])
    writer.end(False, True)
    writer.flush()
    run(tmp_path / "clips", tmp_path / "data", spec, name="mine")
    assert [info.stream_id for info in list_episodes(tmp_path / "data")] == ["mine-clip_0", "other"]
    assert "Blocks" in (tmp_path / "data/README.md").read_text()


def test_the_offset_of_a_late_log_is_found_and_a_right_one_confirmed(tmp_path: Path) -> None:
    """A block that goes where it is told; the log writes the action that led to each frame: one row late."""
    random = np.random.default_rng(3)
    for number in range(2):
        x, frames, actions = 12, [], random.integers(0, 3, 400).repeat(random.integers(1, 6, 400))[:400]
        for action in actions:
            frame = np.full((20, 28, 3), 40, np.uint8)
            frame[8:12, x : x + 4] = 220
            frames.append(frame)
            x = int(np.clip(x + (0, -2, 2)[action], 0, 24))
        log = np.append(0, actions[:-1])
        np.savez_compressed(tmp_path / f"{number}.npz", frames=np.stack(frames), actions=log)
    spec = make_spec()
    found = estimate_action_offset(open_clips(str(tmp_path), spec), spec, max_shift=3)
    assert found.best == 1 and len(found.scores) == 7, found.table()
    imported = run(tmp_path, tmp_path / "wrong", spec)
    assert imported.offset is not None and imported.offset.best == 1
    imported = run(tmp_path, tmp_path / "right", make_spec(action_offset=1.0))
    assert imported.offset is not None and imported.offset.best == 0
    (first, _) = read_episodes(tmp_path / "right")
    with np.load(tmp_path / "0.npz") as file:
        np.testing.assert_array_equal(first.actions, file["actions"][1:])
    assert imported.clips[0].dropped == {}
