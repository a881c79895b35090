"""A reader of actions: which action lies between two frames? Trained on real frames, small, deterministic."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from gamengen.contract import GameContract
from gamengen.durable import write_bytes
from gamengen.evaluation.action_effects import ActionEffects
from gamengen.evaluation.recordings import Place, Recordings, TooShort
from gamengen.noise import key_of

LUMA = (0.299, 0.587, 0.114)
"""Source: ITU-R BT.601."""
PREDICT_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class InverseDynamicsConfig:
    """How the reader is made. It sees grey frames, made smaller by whole pixels, as differences in time."""

    size: int = 84
    """The smaller side that frames are made smaller towards: by the whole factor that stays nearest above it."""
    frames_before: int = 1
    """Frames before the one on which the action was chosen: how things moved without it."""
    seconds_after: float = 0.2
    """Of frames after the action, at least three: a game may show an action late."""
    max_transitions: int = 12_000
    """Of the training split, in pieces spread over its episodes."""
    piece_length: int = 250
    """Transitions of a piece."""
    train_steps: int = 400
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    def frames_after(self, game: GameContract) -> int:
        """Frames after the one on which the action was chosen."""
        return max(3, math.ceil(self.seconds_after * game.fps - 1e-9))


@dataclass(frozen=True)
class InverseDynamics:
    """The trained reader. Its answers are groups of actions (`effects`), which the frames can tell apart."""

    network: nn.Module
    config: InverseDynamicsConfig
    game: GameContract
    effects: ActionEffects

    @property
    def after(self) -> int:
        """Frames after frame t that are needed to read the action on frame t."""
        return self.config.frames_after(self.game)

    def read(self, frames: npt.NDArray[np.uint8], first: int) -> npt.NDArray[np.int64]:
        """The groups of the actions on `frames[first]`, `frames[first + 1]`, ... as far as can be read.

        Args:
            frames: uint8 (N, H, W, 3), successive; before the first one it is repeated.
        Returns:
            (N - first - after,) numbers of `effects.groups`.
        """
        small = shrink(frames, self.config.size)
        rows = np.arange(first, len(frames) - self.after)
        answers = [np.zeros(0, np.int64)]
        with torch.inference_mode():
            for begin in range(0, len(rows), PREDICT_BATCH):
                window = _window(torch.as_tensor(rows[begin : begin + PREDICT_BATCH]), self.config, self.game)
                clips = torch.from_numpy(small)[window.clamp(min=0)]
                answers.append(self.network(_differences(clips)).argmax(1).numpy())
        return np.concatenate(answers)


def shrink(frames: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """uint8 (N, H, W, 3) -> grey uint8 (N, h, w): means over squares, the smaller side `size` or a little more."""
    factor = max(1, min(frames.shape[1:3]) // size)
    height, width = frames.shape[1] // factor, frames.shape[2] // factor
    small = np.empty((len(frames), height, width), np.uint8)
    for number, frame in enumerate(frames):  # one at a time: floats of a long clip are gigabytes
        grey = frame[: height * factor, : width * factor].astype(np.float32) @ np.array(LUMA, np.float32)
        small[number] = grey.reshape(height, factor, width, factor).mean((1, 3)).round()
    return small


def build_network(num_differences: int, num_groups: int, height: int, width: int) -> nn.Sequential:
    """(B, num_differences, height, width) differences -> (B, num_groups) logits.

    The last convolution is read place by place: who moved matters, and that is where it moved.
    """
    body = nn.Sequential(
        nn.Conv2d(num_differences, 16, 8, 4, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 2), nn.ReLU(),
        nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
    )  # fmt: skip
    with torch.no_grad():
        features = body(torch.zeros(1, num_differences, height, width)).shape[1]
    return nn.Sequential(body, nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, num_groups))


def train_inverse_dynamics(
    recordings: Recordings, game: GameContract, effects: ActionEffects, config: InverseDynamicsConfig
) -> InverseDynamics:
    """Train the reader on real transitions, rare actions weighted up. The same data and config give the same reader.

    Raises:
        TooShort: no episode is long enough for a clip.
    """
    clips = _Clips(recordings, game, effects, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key_of("inverse_dynamics", config.seed) % (1 << 31))
        network = build_network(clips.num_differences, len(effects.groups), *clips.frames.shape[1:])
    counts = torch.bincount(clips.labels, minlength=len(effects.groups)).float()
    weights = torch.where(counts > 0, counts.sum() / counts.clamp(min=1) / len(counts), torch.zeros(()))
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, config.train_steps)
    generator = torch.Generator().manual_seed(key_of("inverse_dynamics batches", config.seed) % (1 << 31))
    for _ in range(config.train_steps):
        chosen = torch.randint(len(clips.labels), (config.batch_size,), generator=generator)
        logits = network(_differences(clips.at(chosen)))
        loss = nn.functional.cross_entropy(logits, clips.labels[chosen], weights)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return InverseDynamics(network.eval(), config, game, effects)


def stored_inverse_dynamics(
    recordings: Recordings, game: GameContract, effects: ActionEffects, config: InverseDynamicsConfig, folder: Path
) -> InverseDynamics:
    """The reader from `folder`, trained and stored there when it is not there for these episodes and this config.

    Episodes are told apart by name and length: `folder` belongs to one dataset.
    """
    made_of = {
        "episodes": sorted(recordings.lengths.items()), "config": asdict(config), "groups": effects.groups,
        "env_id": game.env_id,
    }  # fmt: skip
    name = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]
    path = folder / f"inverse_dynamics-{name}.safetensors"
    if path.is_file():
        weights = load_file(path)
        height, width = weights.pop("size").tolist()
        network = build_network(config.frames_before + config.frames_after(game), len(effects.groups), height, width)
        network.load_state_dict(weights)
        return InverseDynamics(network.eval(), config, game, effects)
    trained = train_inverse_dynamics(recordings, game, effects, config)
    size = shrink(np.zeros((1, game.frame_height, game.frame_width, 3), np.uint8), config.size).shape[1:]
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(trained.network.state_dict() | {"size": torch.tensor(size)}))
    return trained


class _Clips:
    """Training clips: the small frames of all pieces in one tensor, and where each transition stands in it."""

    def __init__(
        self, recordings: Recordings, game: GameContract, effects: ActionEffects, config: InverseDynamicsConfig
    ) -> None:
        self._config, self._game = config, game
        self.num_differences = config.frames_before + config.frames_after(game)
        frames, rows, labels, length = [], [], [], 0
        for piece, actions in _pieces(recordings, self.num_differences, config):
            small = shrink(piece, config.size)
            count = len(small) - self.num_differences
            frames.append(small)
            rows.append(np.arange(count) + length + config.frames_before)
            labels.append(effects.labels[actions[config.frames_before : config.frames_before + count]])
            length += len(small)
        self.frames = torch.from_numpy(np.concatenate(frames))
        self._rows = torch.from_numpy(np.concatenate(rows))
        self.labels = torch.from_numpy(np.concatenate(labels))

    def at(self, chosen: Tensor) -> Tensor:
        """uint8 (B, num_differences + 1, h, w)."""
        return self.frames[_window(self._rows[chosen], self._config, self._game)]


def _pieces(
    recordings: Recordings, margin: int, config: InverseDynamicsConfig
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Frames and the actions between them: episodes cut into pieces, as many as there may be, in random order."""
    places = [
        Place(name, start)
        for name, steps in sorted(recordings.lengths.items())
        for start in range(0, steps - margin + 1, config.piece_length)
    ]
    if not places:
        raise TooShort(f"no training episode has {margin} steps, which an action reader needs; record longer ones")
    order = np.random.default_rng(key_of("inverse_dynamics pieces", config.seed)).permutation(len(places))
    for number in order[: max(1, config.max_transitions // config.piece_length)]:
        piece = recordings.excerpt(places[number], 1, config.piece_length + margin - 1)
        yield piece.frames, piece.actions


def _window(rows: Tensor, config: InverseDynamicsConfig, game: GameContract) -> Tensor:
    """(B,) rows of the frames on which the actions were chosen -> (B, n) rows of the clips."""
    return rows[:, None] + torch.arange(-config.frames_before, config.frames_after(game) + 1)


def _differences(clips: Tensor) -> Tensor:
    """uint8 (B, n, h, w) -> float (B, n - 1, h, w): what changes from frame to frame, so that no scenery is learnt."""
    values = clips.float() / 127.5
    return values[:, 1:] - values[:, :-1]
