"""What a bug report needs: versions of gamengen, of its packages and extras, the machine and its accelerators.

Reads   nothing but what is installed.
Writes  the report to the terminal; with --json as JSON.
Example
    gamengen info
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gamengen import __version__
from gamengen.machine import processor
from gamengen.run_folder import git_commit, package_versions

UNREPORTED = ("dev", "all")
"""Extras that say nothing of their own about how the package runs."""
VARIABLES = (
    "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT",
    "PYTORCH_ENABLE_MPS_FALLBACK",
)  # fmt: skip
"""Environment variables that change what the package does; tokens are never printed."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a bug report needs."""

    preset: str = "default"
    json: bool = False
    """As JSON instead of text."""


PRESETS = {"default": Config()}


def main(config: Config) -> dict[str, Any]:
    """Print the report; the same as a dict."""
    report = {
        "gamengen": {"version": __version__, "commit": git_commit(), "where": str(Path(__file__).parents[1])},
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "machine": {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()},
        "torch": torch_report(),
        "packages": packages(own_requirements()),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }
    print(json.dumps(report, indent=2) if config.json else as_text(report))
    return report


def torch_report() -> dict[str, Any]:
    """The torch build and what it runs on. A torch that cannot be imported is a finding, not an error."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    gpus = [
        f"{torch.cuda.get_device_name(i)}, {torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB"
        for i in range(torch.cuda.device_count())
    ]
    mps = torch.backends.mps.is_available()
    return {
        "version": torch.__version__, "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(), "cuda": torch.version.cuda,
        "devices": [*gpus, *(["mps"] if mps else [])],
    }  # fmt: skip


def own_requirements() -> list[str]:
    """The installed package's requirements, as its metadata writes them; none when it is run from a bare checkout."""
    try:
        return importlib.metadata.requires("gamengen") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def packages(requirements: Iterable[str]) -> dict[str, dict[str, str | None]]:
    """`core` and each extra -> package -> installed version, None where it is missing."""
    found: dict[str, dict[str, str | None]] = {"core": {}}
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)", requirement)
        group = "core" if extra is None else extra[1]
        if name is not None and name[0] != "gamengen" and group not in UNREPORTED:
            found.setdefault(group, {})[name[0]] = _version(name[0])
    if not found["core"]:
        found["core"] = {**package_versions()}
    return {group: dict(sorted(versions.items())) for group, versions in found.items() if versions}


def as_text(report: dict[str, Any]) -> str:
    """The report as lines that can be pasted into an issue."""
    lines = []
    for part, values in report.items():
        if part == "packages":
            for group, versions in values.items():
                shown = ", ".join(f"{name} {version or 'MISSING'}" for name, version in versions.items())
                missing = group != "core" and None in versions.values()
                lines.append((f"packages, {group}", f'{shown} (pip install "gamengen[{group}]")' if missing else shown))
        else:
            shown = ", ".join(f"{name} {_plain(value)}" for name, value in values.items() if value is not None)
            lines.append((part, shown or "nothing set"))
    width = max(len(part) for part, _ in lines)
    return "\n".join(f"{part:<{width}}  {text}" for part, text in lines)


def _plain(value: Any) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
