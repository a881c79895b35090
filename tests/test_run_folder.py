"""gamengen.run_folder: a folder belongs to one run; nothing of another run is lost or mixed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gamengen import run_folder
from gamengen.run_folder import RunFolder, git_commit, print_plan


@dataclass(frozen=True, kw_only=True)
class Network:
    channels: tuple[int, ...] = (8, 16)


@dataclass(frozen=True, kw_only=True)
class Config:
    preset: str = "small"
    seed: int = 0
    max_train_minutes: float | None = None
    max_train_steps: int = 10
    overwrite: bool = False
    network: Network = field(default_factory=Network)


@dataclass(frozen=True, kw_only=True)
class Batches:
    train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    num_processes: int | None = None


def test_a_new_folder_records_what_made_it(tmp_path: Path) -> None:
    folder = RunFolder.open(tmp_path / "a" / "b", "train_vae", Config(), data_fingerprint="abc")
    record = json.loads((folder.path / "run.json").read_text())
    assert record["stage"] == "train_vae" and record["data_fingerprint"] == "abc"
    assert record["config"]["network"]["channels"] == [8, 16]
    assert record["versions"]["torch"] and record["versions"]["python"].startswith("3.")
    assert record["started"].endswith("+00:00") and record["finished"] is None
    assert not folder.finished and not folder.continued and folder.results is None


def test_the_same_config_continues_and_sees_the_results(tmp_path: Path) -> None:
    first = RunFolder.open(tmp_path, "train_vae", Config())
    (tmp_path / "weights").write_text("kept")
    first.finish({"psnr": 31.5})
    again = RunFolder.open(tmp_path, "train_vae", Config())
    assert again.continued and again.finished and again.results == {"psnr": 31.5}
    record = json.loads((tmp_path / "run.json").read_text())
    assert len(record["continued"]) == 1 and record["results"] == {"psnr": 31.5}
    assert (tmp_path / "weights").read_text() == "kept"


def test_another_config_is_refused_with_both_values_and_nothing_is_lost(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "train_vae", Config(), data_fingerprint="abc")
    before = (tmp_path / "run.json").read_bytes()
    other = Config(seed=3, network=Network(channels=(4,)))
    with pytest.raises(ValueError) as error:
        RunFolder.open(tmp_path, "train_unet", other, data_fingerprint="xyz")
    text = str(error.value)
    for part in (
        "seed: 0 there, 3 now",
        "channels: [8, 16] there, [4] now",
        "'train_vae' there",
        "'abc'",
        "'xyz'",
        "--overwrite",
    ):
        assert part in text
    assert str(tmp_path) in text and (tmp_path / "run.json").read_bytes() == before


def test_fields_that_do_not_make_another_run(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "s", Config())
    same = RunFolder.open(tmp_path, "s", replace(Config(), preset="tiny", overwrite=True, max_train_minutes=2.0))
    assert set(same.changed) == {"preset", "overwrite", "max_train_minutes"}
    longer = RunFolder.open(tmp_path, "s", replace(Config(), preset="tiny", overwrite=True, max_train_steps=20))
    assert set(longer.changed) == {"max_train_minutes", "max_train_steps"}
    with pytest.raises(ValueError, match="seed"):
        RunFolder.open(tmp_path, "s", Config(seed=1))
    assert RunFolder.open(tmp_path, "s", Config(seed=1), ignore=("seed",)).continued


def test_a_run_that_is_extended_is_unfinished_until_it_ends_again(tmp_path: Path) -> None:
    """Other ranks read the file after the main process: they would think that there is nothing to do, and leave."""
    RunFolder.open(tmp_path, "s", Config()).finish({"psnr": 31.5})
    longer = replace(Config(), max_train_steps=20)
    main = RunFolder.open(tmp_path, "s", longer)
    other = RunFolder.open(tmp_path, "s", longer, is_main_process=False)
    assert not main.finished and not other.finished and main.results is None and other.results is None
    # Killed here, the same command goes on instead of calling the shorter run finished.
    again = RunFolder.open(tmp_path, "s", longer)
    assert not again.finished and again.changed == ()
    again.finish({"psnr": 32.0})
    assert RunFolder.open(tmp_path, "s", longer).results == {"psnr": 32.0}


def test_a_run_goes_on_with_another_number_of_processes_but_not_with_another_global_batch(tmp_path: Path) -> None:
    def start(size: int, accumulation: int, processes: int | None) -> RunFolder:
        config = Batches(train_batch_size=size, gradient_accumulation_steps=accumulation, num_processes=processes)
        state = {} if processes is None else {"num_processes": processes}
        return RunFolder.open(tmp_path, "train_unet", config, accelerate_state=state)

    start(8, 1, 2).finish({})
    assert set(start(4, 4, 1).changed) == {"train_batch_size", "gradient_accumulation_steps", "num_processes"}
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ValueError, match=r"train_batch_size x .* processes: 16 there, 32 now"):
        start(4, 4, 2)
    assert (tmp_path / "run.json").read_bytes() == before
    assert start(4, 4, None).continued and start(8, 8, 8).continued, "an older start did not say how many there were"


def test_a_run_of_a_version_that_did_not_know_a_field_is_continued_with_its_default(tmp_path: Path) -> None:
    config = Config(network=Network(channels=(8, 16)))
    RunFolder.open(tmp_path, "s", config).finish({"psnr": 31.5})
    record = json.loads((tmp_path / "run.json").read_text())
    del record["config"]["seed"], record["config"]["network"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    for other, name in ((replace(config, seed=1), "seed: 0 there, 1"), (Config(network=Network(channels=(4,))), "16")):
        with pytest.raises(ValueError, match=name):
            RunFolder.open(tmp_path, "s", other)
    assert RunFolder.open(tmp_path, "s", config).finished


def test_overwrite_empties_the_folder_but_keeps_run_folders_inside_and_targets_of_links(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    RunFolder.open(run, "demo", Config()).finish({})
    RunFolder.open(run / "vae", "train_vae", Config())
    (run / "old").mkdir()
    (run / "old" / "file").write_text("x")
    (run / "link").symlink_to(outside)
    folder = RunFolder.open(run, "demo", Config(seed=1), overwrite=True)
    assert not folder.finished and not folder.continued
    assert sorted(item.name for item in run.iterdir()) == ["run.json", "vae"]
    assert (run / "vae" / "run.json").is_file() and (outside / "precious").is_file()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_no_run_made_is_never_touched(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        RunFolder.open(tmp_path, "s", Config(), overwrite=overwrite)
    assert [item.name for item in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_start_killed_while_it_wrote_its_first_file_is_not_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run.json.tmp").write_text("{")
    assert not RunFolder.open(tmp_path, "s", Config()).continued


def test_overwrite_refuses_the_working_directory_and_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder.open(tmp_path, "s", Config())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="would empty"):
        RunFolder.open(tmp_path, "s", Config(), overwrite=True)
    monkeypatch.chdir("/")
    (tmp_path / ".git").mkdir()
    with pytest.raises(ValueError, match="would empty"):
        RunFolder.open(tmp_path, "s", Config(), overwrite=True)


def test_several_processes_of_a_job_share_a_folder(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "record", Config(), file_name="run-0.json").finish({"frames": 1})
    second = RunFolder.open(tmp_path, "record", Config(seed=1), file_name="run-1.json")
    assert not second.finished
    with pytest.raises(ValueError, match=r"run-0\.json"):
        RunFolder.open(tmp_path, "record", Config(seed=1), file_name="run-1.json", overwrite=True)


def test_one_process_continues_what_several_began(tmp_path: Path) -> None:
    RunFolder.open(tmp_path, "encode", Config(), file_name="run-0-of-2.json")
    (tmp_path / "train-00000.pt").write_text("made by it")
    with pytest.raises(ValueError, match="seed: 0 there, 1 now"):
        RunFolder.open(tmp_path, "encode", Config(seed=1))
    with pytest.raises(ValueError, match="'encode' there"):
        RunFolder.open(tmp_path, "train_unet", Config())
    with pytest.raises(ValueError, match=r"run-0-of-2\.json of other processes"):
        RunFolder.open(tmp_path, "encode", Config(), overwrite=True)
    RunFolder.open(tmp_path, "encode", Config()).finish({})
    assert RunFolder.open(tmp_path, "encode", Config(), file_name="run-1-of-2.json").path == tmp_path
    assert (tmp_path / "train-00000.pt").is_file()


def test_a_process_does_not_stumble_over_the_run_file_that_another_one_is_writing(tmp_path: Path) -> None:
    (tmp_path / "run-0-of-2.json.tmp").write_text('{"sta')
    assert not RunFolder.open(tmp_path, "encode", Config(), file_name="run-1-of-2.json").finished
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "notes.json.tmp").write_text("mine")
    with pytest.raises(ValueError, match=r"notes\.json\.tmp"):
        RunFolder.open(tmp_path / "elsewhere", "encode", Config(), file_name="run-1-of-2.json")


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    other = RunFolder.open(tmp_path / "new", "s", Config(), is_main_process=False)
    assert not (tmp_path / "new").exists()
    RunFolder.open(tmp_path / "new", "s", Config()).finish({"x": 1})
    before = (tmp_path / "new" / "run.json").read_bytes()
    other = RunFolder.open(tmp_path / "new", "s", Config(seed=9), is_main_process=False)
    assert other.finished and other.results == {"x": 1}
    other.finish({"x": 2})
    assert (tmp_path / "new" / "run.json").read_bytes() == before


def test_figures_that_json_cannot_hold_are_null_or_those_of_before(tmp_path: Path) -> None:
    """A finished recording that is repeated ends no episode: their mean return is not a number."""
    nan = float("nan")
    RunFolder.open(tmp_path, "s", Config()).finish({"mean_return": 2.5, "logs": {"loss": nan}, "rows": (nan, 1.0)})
    RunFolder.open(tmp_path, "s", Config()).finish({"mean_return": nan, "logs": {"loss": nan}, "rows": [1.0]})
    text = (tmp_path / "run.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["results"] == {"mean_return": 2.5, "logs": {"loss": None}, "rows": [1.0]}


def test_a_damaged_run_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        RunFolder.open(tmp_path, "s", Config())
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="not a run of this project"):
        RunFolder.open(tmp_path, "s", Config())


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit() is None
    monkeypatch.setattr(run_folder, "__file__", str(tmp_path / "site" / "gamengen" / "run_folder.py"))
    assert git_commit() is None


def test_the_plan_names_every_flag_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan("train_vae", Config(), {"disk": "1.2 MB", "time": "3 minutes"})
    text = capsys.readouterr().out
    for part in ("seed", "channels", "[8, 16]", "disk", "1.2 MB", "3 minutes", "dry run"):
        assert part in text
