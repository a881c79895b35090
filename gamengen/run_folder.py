"""The output folder of one stage: what made it (run.json), refusal of another run's folder, the plan of a dry run."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import math
import platform
import shutil
import subprocess
from collections.abc import Callable, Collection, Mapping
from functools import partial
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
    "train_batch_size",  # how a global batch is shared out; their product may not differ, see `_global_batch`
    "gradient_accumulation_steps",
    "num_processes",
    "gradient_checkpointing",
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
BATCH = "train_batch_size x gradient_accumulation_steps x processes"
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
    """A run of this config has ended here, with nothing changed since; `results` holds what it measured."""
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
            accelerate_state: launch topology, stored; `num_processes` in it counts in the comparison of global batches.
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
        check = partial(_check_same_run, record, {*IGNORED, *ignore}, _defaults(config))
        changed: tuple[str, ...] = ()
        path.mkdir(parents=True, exist_ok=True)
        if overwrite:
            _wipe(path, file_name)
        if file.is_file():
            before = read_json(file)
            changed = check(file, before)
            # A run that is extended is unfinished again: for other ranks, and for the next start if this one is killed.
            kept = {name: before[name] for name in ("started", *(() if changed else ("finished", "results")))}
            record |= {**kept, "continued": [*before["continued"], _now()]}
        else:
            _check_ours(path, file_name, check)
        write_json(file, record)
        folder = cls(path, record, file_name, is_main_process)
        folder.changed = changed
        return folder

    def finish(self, results: Mapping[str, Any]) -> None:
        """Store what the run measured and mark it finished. Only the main process writes.

        Args:
            results: JSON values. A figure that is not finite, such as the mean over no new episodes, keeps the value
                of the start before, else it is null.
        """
        self.finished, self.results = True, _finite(results, self.results)
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


def _finite(values: Any, before: Any) -> Any:
    """JSON has no nan and no infinity: what `before` holds in their place, or None."""
    if isinstance(values, Mapping):
        earlier = before if isinstance(before, Mapping) else {}
        return {name: _finite(value, earlier.get(name)) for name, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_finite(value, None) for value in values]
    return before if isinstance(values, float) and not math.isfinite(values) else values


def _defaults(config: Any) -> dict[str, Any]:
    """The defaults of a config's fields under their flag names, as a run file would hold them."""
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, factory = getattr(config, field.name), field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        if dataclasses.is_dataclass(value):
            defaults |= _defaults(value)
        elif default is not dataclasses.MISSING:
            defaults[field.name] = list(default) if isinstance(default, tuple) else default
    return defaults


def _check_same_run(
    now: dict[str, Any], ignored: Collection[str], defaults: Mapping[str, Any], file: Path, before: Any
) -> tuple[str, ...]:
    """Refuse another run; give back the names of the ignored fields that differ. Newer fields had their defaults."""
    if not isinstance(before, dict) or not {"stage", "config", "started"} <= set(before):
        raise ValueError(f"{file} is not a run of this project; choose another output folder")
    old = {"stage": before["stage"], "data_fingerprint": before["data_fingerprint"], **flatten(before["config"])}
    new = {"stage": now["stage"], "data_fingerprint": now["data_fingerprint"], **flatten(now["config"])}
    batches = _global_batch(before), _global_batch(now)
    if None not in batches:
        old[BATCH], new[BATCH] = batches
    old = {**{name: defaults[name] for name in new if name in defaults}, **old}
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


def _global_batch(record: Mapping[str, Any]) -> int | None:
    """Samples of an optimizer step; None where the record does not tell, as those of older starts."""
    values = flatten(record["config"]) | {"processes": (record.get("accelerate_state") or {}).get("num_processes")}
    factors: list[Any] = [values.get(name) for name in ("train_batch_size", "gradient_accumulation_steps", "processes")]
    return None if None in factors else math.prod(factors)


def _check_ours(path: Path, file_name: str, check: Callable[[Path, Any], object]) -> None:
    """A folder without this run file must be empty, or hold nothing but other run files and run folders."""
    others = sorted(path.glob("run*.json"))
    if others and file_name == RUN_FILE:
        check(others[0], read_json(others[0]))  # several processes began, one goes on
    if others:
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
    others = [other.name for other in path.glob("run*.json") if other.name != file_name]
    if not (path / file_name).is_file() and not (others and file_name == RUN_FILE):
        return  # nothing of ours: `_check_ours` refuses it unless it is empty
    if path.resolve() in (Path.cwd(), Path.home(), Path("/")) or (path / ".git").exists():
        raise ValueError(f"--overwrite would empty {path.resolve()}; choose an output folder of its own")
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
