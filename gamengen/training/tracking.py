"""Where training writes its figures: an append-only metrics.jsonl always, trackers of Accelerate on request."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker, WandBTracker
from torch import Tensor

METRICS_FILE = "metrics.jsonl"


class TrackingConfig(Protocol):
    """The part of a training config that trackers read."""

    @property
    def report_to(self) -> str: ...
    @property
    def logging_dir(self) -> str: ...
    @property
    def tracker_project_name(self) -> str: ...


def _cut_torn_line(path: Path) -> None:
    """Drop what a kill or a full disk has left of a last line; the line after it would be part of it."""
    if not path.is_file() or (data := path.read_bytes()).endswith(b"\n"):
        return
    with open(path, "rb+") as file:
        file.truncate(data.rfind(b"\n") + 1)


def sum_and_count(values: Tensor) -> Tensor:
    """float (2,): sum and number of a scalar, or of the values of (B,) that are not NaN: means over ranks need both."""
    known = ~values.isnan() if values.ndim else torch.ones_like(values, dtype=torch.bool)
    return torch.stack([values.where(known, 0.0).sum(), known.sum()])


class MetricsLog:
    """One line a step in metrics.jsonl, and the same figures and images in the trackers."""

    def __init__(self, config: TrackingConfig, output_dir: Path, *, enabled: bool) -> None:
        self.enabled = enabled
        self.path = output_dir / METRICS_FILE
        self.trackers: list[GeneralTracker] = []
        if not enabled:
            return
        output_dir.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(self.path)
        makers = {
            "tensorboard": lambda name: TensorBoardTracker(name, output_dir / config.logging_dir),
            "wandb": WandBTracker,
            "trackio": TrackioTracker,
        }
        wanted = [name for name in makers if config.report_to == name]
        if config.report_to == "all":
            wanted = [name for name in makers if importlib.util.find_spec(name) is not None]
        for name in wanted:
            self.trackers.append(makers[name](config.tracker_project_name))
            self.trackers[-1].start()

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Append one line of scalars."""
        if not self.enabled:
            return
        # JSON knows no nan and no infinity: the figure of a step that went wrong is null.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": step, "time": round(time.time(), 3), **finite}, allow_nan=False) + "\n"
        try:
            with open(self.path, "a") as file:
                file.write(line)
        except OSError as error:
            raise OSError(f"could not write {self.path}: {error}; free some space and continue") from error
        for tracker in self.trackers:
            tracker.log(dict(values), step=step)

    def log_validation(self, values: Mapping[str, Any], step: int) -> None:
        """Scalars go where `log` puts them, under `val/`; uint8 arrays (N, H, W, 3) go to the tracker as images."""
        if not self.enabled:
            return
        scalars = {f"val/{k}": float(v) for k, v in values.items() if not isinstance(v, np.ndarray)}
        images = {f"val/{k}": v for k, v in values.items() if isinstance(v, np.ndarray)}
        self.log(scalars, step)
        for tracker in self.trackers:
            if images and hasattr(tracker, "log_images"):
                kwargs = {"dataformats": "NHWC"} if isinstance(tracker, TensorBoardTracker) else {}
                tracker.log_images(images, step=step, **kwargs)

    def close(self) -> None:
        """Flush and close the trackers."""
        while self.trackers:
            self.trackers.pop().finish()
