"""The output folder of one stage: what made it (run.json), refusal of another run's folder, the plan of a dry run."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import shutil
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gamengen import __version__
from gamengen.config import to_plain
from gamengen.durable import TEMPORARY_SUFFIX, read_json, write_json

RUN_FILE = "run.json"
IGNORED = (
    "preset",  # only a name for the values of the other fields
    "output_dir",  # a folder may be moved, or named from another working directory
    "overwrite",
    "dry_run",
    "max_train_minutes",  # a run may be given more of a budget, or less
    "max_train_steps",
    "num_train_epochs",
    "resume_from_checkpoint",
    "checkpoints_total_limit",
    "dataloader_num_workers",
    "num_workers",
    "report_to",
    "push_to_hub",
    "hub_model_id",
    "hub_private_repo",
)
"""Fields that may differ between two starts of the same run."""
PACKAGES = (
    "torch",
    "diffusers",
    "accelerate",
    "transformers",
    "datasets",
    "gymnasium",
    "ale-py",
    "stable-baselines3",
    "safetensors",
    "huggingface_hub",
    "numpy",
    "pillow",
)


class RunFolder:
    """One stage's output folder. Make it with `open`."""

    path: Path
    finished: bool
    """A run of this config has ended here; `results` holds what it measured."""
    results: dict[str, Any] | None
    continued: bool
    """The folder was already this run's: go on where it stopped."""
    changed: tuple[str, ...]
    """Ignored fields that differ from the last start, such as a longer `max_train_minutes`."""

    def __init__(self, path: Path, record: dict[str, Any], file_name: str, is_main_process: bool) -> None:
        self.path = path
        self.finished = record.get("finished") is not None
        self.results = record.get("results")
        self.continued = bool(record.get("continued"))
        self.changed = ()
        self._record = record
        self._file = path / file_name
        self._is_main_process = is_main_process

    @classmethod
    def open(
        cls,
        path: str | Path,
        stage: str,
        config: object,
        *,
        overwrite: bool = False,
        data_fingerprint: str | None = None,
        ignore: Collection[str] = (),
        accelerate_state: Mapping[str, Any] | None = None,
        is_main_process: bool = True,
        file_name: str = RUN_FILE,
    ) -> RunFolder:
        """Make the folder, or take up the one that the same stage, config and data made before.

        Args:
            config: a config dataclass; it is stored as `to_plain` gives it.
            overwrite: start over: remove what is in the folder, except run folders inside it.
            data_fingerprint: of the stage's input; another one is another run.
            ignore: fields that may differ, besides `IGNORED`.
            accelerate_state: launch topology, stored only.
            is_main_process: other processes write and check nothing; call it there after the main process.
            file_name: `run.json`; another name for each of several processes that write into one folder.
        Raises:
            ValueError: the folder holds another run (each differing field is named with both values), or
                files that no run of this project made.
        """
        path = Path(path)
        file = path / file_name
        if not is_main_process:
            return cls(path, read_json(file) if file.is_file() else {}, file_name, is_main_process)
        record: dict[str, Any] = {
            "stage": stage,
            "config": to_plain(config),
            "data_fingerprint": data_fingerprint,
            "accelerate_state": dict(accelerate_state or {}),
            "git_commit": git_commit(),
            "versions": package_versions(),
            "started": _now(),
            "continued": [],
            "finished": None,
            "results": None,
        }
        changed: tuple[str, ...] = ()
        path.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _wipe(path, file_name)
        if file.is_file():
            before = read_json(file)
            changed = _check_same_run(file, before, record, {*IGNORED, *ignore})
            kept = {name: before[name] for name in ("started", "finished", "results")}
            record |= {**kept, "continued": [*before["continued"], _now()]}
        else:
            _check_ours(path, file_name)
        write_json(file, record)
        folder = cls(path, record, file_name, is_main_process)
        folder.changed = changed
        return folder

    def finish(self, results: Mapping[str, Any]) -> None:
        """Store what the run measured (JSON values) and mark it finished. Only the main process writes."""
        self.finished, self.results = True, dict(results)
        self._record |= {"finished": _now(), "results": self.results}
        if self._is_main_process:
            write_json(self._file, self._record)


def git_commit() -> str | None:
    """The commit of the checkout that runs, `+changes` when files differ from it; None without git or a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None  # no git, no commit yet, or a checkout that belongs to another user
    return commit.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def package_versions() -> dict[str, str]:
    """Versions of Python, gamengen and of the packages that decide about numbers, those that are installed."""
    versions = {"python": platform.python_version(), "gamengen": __version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that this stage does not need
    return versions


def print_plan(stage: str, config: object, cost: Mapping[str, str]) -> None:
    """What a dry run prints: every field of the config, then what the run will cost (`{"disk": "1.2 GB"}`)."""
    values = flatten(to_plain(config))
    width = max(map(len, [*values, *cost]), default=0)
    print(f"{stage}: dry run, nothing is written")
    for name, value in values.items():
        print(f"  {name:<{width}}  {value}")
    print("cost")
    for name, text in cost.items():
        print(f"  {name:<{width}}  {text}")


def flatten(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Nested config values under their flag names."""
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        flat |= flatten(value) if isinstance(value, Mapping) and value else {name: value}
    return flat


def _check_same_run(
    file: Path, before: dict[str, Any], now: dict[str, Any], ignored: Collection[str]
) -> tuple[str, ...]:
    """Refuse another run; give back the names of the ignored fields that differ."""
    if not isinstance(before, dict) or not {"stage", "config", "started"} <= set(before):
        raise ValueError(f"{file} is not a run of this project; choose another output folder")
    old = {"stage": before["stage"], "data_fingerprint": before["data_fingerprint"], **flatten(before["config"])}
    new = {"stage": now["stage"], "data_fingerprint": now["data_fingerprint"], **flatten(now["config"])}
    absent = "absent"
    differing = [name for name in {**old, **new} if old.get(name, absent) != new.get(name, absent)]
    refused = [name for name in differing if name not in ignored]
    if refused:
        lines = [f"  {name}: {old.get(name, absent)!r} there, {new.get(name, absent)!r} now" for name in refused]
        raise ValueError(
            f"{file.parent} belongs to another run:\n"
            + "\n".join(lines)
            + "\nChoose another output folder, repeat the old command to continue it, or start over with --overwrite."
        )
    return tuple(differing)


def _check_ours(path: Path, file_name: str) -> None:
    """A folder without this run file must be empty, or hold nothing but other run files and run folders."""
    if file_name != RUN_FILE and any(path.glob("run*.json")):
        return  # another process of the same job was first
    # Of a start that was killed while it wrote its first file, or of another process that is writing its own just now.
    unfinished = {item.name for item in path.glob(f"run*.json{TEMPORARY_SUFFIX}")}
    foreign = [item for item in sorted(path.iterdir()) if item.name not in unfinished and not _holds_run(item)]
    if foreign:
        raise ValueError(
            f"{path} holds {foreign[0].name!r} but no {file_name}: it is not the output folder of a run; "
            "choose another or empty it yourself"
        )


def _holds_run(item: Path) -> bool:
    return item.is_dir() and not item.is_symlink() and any(item.rglob("run*.json"))


def _wipe(path: Path, file_name: str) -> None:
    """Remove what the run left. Run folders inside stay; so does a folder that no run made."""
    if not (path / file_name).is_file():
        return  # nothing of ours: `_check_ours` refuses it unless it is empty
    if path.resolve() in (Path.cwd(), Path.home(), Path("/")) or (path / ".git").exists():
        raise ValueError(f"--overwrite would empty {path.resolve()}; choose an output folder of its own")
    others = [other.name for other in path.glob("run*.json") if other.name != file_name]
    if others:
        names = ", ".join(sorted(others))
        raise ValueError(f"--overwrite: {path} also holds {names} of other processes; remove the folder yourself")
    for item in sorted(path.iterdir()):
        if item.name == file_name or _holds_run(item):
            continue
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()
    (path / file_name).unlink()  # last: after a kill in between the folder is still known as a run's


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
