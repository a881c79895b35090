"""Minari datasets as clips, an episode each: image observations as they are, other games by playing them again."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gamengen.importing.clips import Scan, check_frame_size, fingerprint_files
from gamengen.importing.logs import Log
from gamengen.importing.spec import ImportSpec

PREFIX = "minari:"
"""Before the id of a dataset in the user's Minari folder: `minari:atari/pong/expert-v0`."""


@dataclass(frozen=True)
class MinariClip:
    """One episode."""

    data: Any
    """The minari.MinariDataset."""
    episode: int
    spec: ImportSpec
    key: str | None
    """Of the images in observations that are mappings; '' where the observation is the image; None: play again."""

    @property
    def name(self) -> str:
        return f"{self.episode:06d}"

    @property
    def where(self) -> str:
        return f"{self.data.storage.data_path}, episode {self.episode}"

    @property
    def split(self) -> str | None:
        return None

    def fingerprint(self) -> str:
        return f"{_fingerprint(self.data.storage.data_path)} {self.episode}"

    def scan(self) -> Scan:
        count = len(self.data[self.episode])
        frame = next(self.frames())
        check_frame_size(frame.shape[0], frame.shape[1], self.where)
        lossy = self.key is not None and self.data.storage.jpeg_encoding and min(frame.shape[:2]) >= 32
        notes = ["Minari has stored the images as JPEG: colours are rounded, details may be lost"] if lossy else []
        return Scan(count + 1, None, frame.shape[0], frame.shape[1], notes)

    def frames(self) -> Iterator[np.ndarray]:
        episode = self.data[self.episode]
        if self.key is None:
            yield from _play_again(self.data, episode, self.where)
            return
        images = episode.observations[self.key] if self.key else episode.observations
        for frame in images:
            yield np.asarray(frame)

    def log(self) -> Log:
        episode = self.data[self.episode]
        return Log({
            "action": np.asarray(episode.actions).tolist(), "reward": np.asarray(episode.rewards).tolist(),
            "terminated": np.asarray(episode.terminations).tolist(),
            "truncated": np.asarray(episode.truncations).tolist(),
        }, self.where)  # fmt: skip


def open_minari(name: str, spec: ImportSpec, trust_remote_code: bool) -> list[MinariClip]:
    """The episodes of a dataset.

    Args:
        name: a dataset's folder, or `minari:` and the id of one in the user's Minari folder.
        trust_remote_code: play episodes again whose observations are no images: makes the environment that the dataset
            names, which runs what it says.
    Raises:
        ImportError: Minari is not installed.
        FileNotFoundError: no such dataset.
        ValueError: actions or observations of a kind that cannot be imported; says what to do.
    """
    try:
        import minari
        from minari.storage import get_dataset_path
    except ImportError as error:
        raise ImportError('Minari datasets need Minari: pip install "gamengen[minari]"') from error
    folder = (
        find_minari(str(get_dataset_path(name.removeprefix(PREFIX)))) if name.startswith(PREFIX) else find_minari(name)
    )
    if folder is None:
        raise FileNotFoundError(f"{name}: no Minari dataset there; `minari list local` names those of this computer")
    _check_spaces(folder)
    data = minari.MinariDataset(folder)
    import gymnasium

    if not isinstance(data.action_space, gymnasium.spaces.Discrete):
        raise ValueError(
            f"{folder}: expected Discrete actions, got {data.action_space}; export it as .npz with action ids"
        )
    key = _image_key(data.observation_space, spec)
    if key is None and not trust_remote_code:
        raise ValueError(
            f"{folder}: the observations are no RGB images but {data.observation_space}. --trust_remote_code plays the "
            "episodes again in the environment that the dataset names, and records what it renders"
        )
    return [MinariClip(data, int(episode), spec, key) for episode in data.episode_indices]


def find_minari(path: str | Path) -> Path | None:
    """The folder with the data of the Minari dataset that `path` is, None where it is none."""
    for folder in (Path(path), Path(path) / "data"):
        file = folder / "metadata.json"
        if file.is_file() and b'"data_format"' in file.read_bytes()[: 1 << 20]:
            return folder
    return None


def _check_spaces(folder: Path) -> None:
    """Without stated spaces Minari would make the environment to ask it, and so run what the file says."""
    metadata = json.loads((folder / "metadata.json").read_text())
    missing = [name for name in ("observation_space", "action_space") if not isinstance(metadata.get(name), str)]
    if missing:
        raise ValueError(f"{folder}: does not state its {missing[0]}; save it again with a current Minari")


def _image_key(space: Any, spec: ImportSpec) -> str | None:
    import gymnasium

    def is_image(part: Any) -> bool:
        return isinstance(part, gymnasium.spaces.Box) and part.dtype == np.uint8 and part.shape[2:] == (3,)

    if is_image(space):
        return ""
    if not isinstance(space, gymnasium.spaces.Dict):
        return None
    named = dict(spec.columns).get("frames")
    keys = [key for key, part in space.spaces.items() if is_image(part) and named in (None, key)]
    if len(keys) > 1:
        raise ValueError(f"several images in an observation: {', '.join(keys)}; `columns: {{frames: NAME}}` says which")
    return keys[0] if keys else None


def _play_again(data: Any, episode: Any, where: str) -> Iterator[np.ndarray]:
    """What the environment renders, from the episode's seed and actions; every observation must come out again."""
    import gymnasium

    metadata = next(iter(data.storage.get_episode_metadata([episode.id])))
    if metadata.get("seed") is None:
        raise ValueError(f"{where}: has no seed, so it cannot be played again")
    env = data.recover_environment(render_mode="rgb_array")
    try:
        observation, _ = env.reset(seed=int(metadata["seed"]), options=metadata.get("options"))
        for t in range(len(episode) + 1):
            recorded = _at(episode.observations, t)
            space = data.observation_space
            flat = [np.asarray(gymnasium.spaces.flatten(space, value)) for value in (recorded, observation)]
            if not np.allclose(flat[0], flat[1], rtol=1e-5, atol=1e-6):
                raise ValueError(
                    f"{where}: played again, step {t} comes out in another way; another version of the game?"
                )
            frame = np.asarray(env.render())
            yield frame.copy()
            if t < len(episode):
                observation = env.step(data.action_space.dtype.type(episode.actions[t]))[0]
    finally:
        env.close()


def _at(values: Any, t: int) -> Any:
    if isinstance(values, dict):
        return {key: _at(part, t) for key, part in values.items()}
    if isinstance(values, tuple):
        return tuple(_at(part, t) for part in values)
    return values[t]


@functools.lru_cache(maxsize=4)
def _fingerprint(folder: str | os.PathLike[str]) -> str:
    return fingerprint_files(sorted(path for path in Path(folder).rglob("*") if path.is_file()))
