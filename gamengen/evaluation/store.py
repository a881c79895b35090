"""Raw values on disk, a file a part: what is there is not measured again."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gamengen.durable import write_file
from gamengen.evaluation.figures import Sample


class PartStore:
    """`<folder>/<metric>/<part>.npz`: samples' episodes and frames, and per path the raw values (N, ...)."""

    def __init__(self, folder: str | Path, metric: str) -> None:
        self.folder = Path(folder) / metric

    def read(self, part: str) -> list[Sample] | None:
        """A part's samples, None before it was measured. ValueError names a damaged file."""
        path = self._path(part)
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as arrays:
                episodes, frames = arrays["episode"], arrays["frame"]
                values = {name.removeprefix("value:"): arrays[name] for name in arrays.files if ":" in name}
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, KeyError, ValueError, OSError) as error:
            raise ValueError(f"{path} is damaged: {error}; delete it, it will be measured again") from error
        return [
            Sample(str(episode), int(frame), {name: column[i] for name, column in values.items()})
            for i, (episode, frame) in enumerate(zip(episodes, frames, strict=True))
        ]

    def write(self, part: str, samples: Sequence[Sample]) -> None:
        """Store a part: all of it or nothing, whatever happens meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        names = sorted({name for sample in samples for name in sample.values})
        incomplete = [sample for sample in samples if set(sample.values) != set(names)]
        if incomplete:
            raise ValueError(f"{self.folder.name}, part {part!r}: its samples have different paths")
        arrays = {
            f"value:{name}": np.stack([np.asarray(s.values[name], np.float64) for s in samples]) for name in names
        }
        arrays["episode"] = np.array([sample.episode for sample in samples], dtype=np.str_)
        arrays["frame"] = np.array([sample.frame for sample in samples], np.int64)
        write_file(self._path(part), lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))

    def _path(self, part: str) -> Path:
        return self.folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', part)}.npz"
