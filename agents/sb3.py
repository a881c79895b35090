"""Training with Stable-Baselines3, all of it recorded: PPO and DQN, checkpoints at every level of skill, resume."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from agents.agent_env import AgentEnv, decision_frames
from agents.sb3_policy import CARD, check_zip, read_card
from agents.stream import GameStream, StreamSettings, fire_action
from gamengen.contract import GameContract, to_dict
from gamengen.dataset.episode_writer import EpisodeWriter, open_dataset
from gamengen.durable import folder_lock, write_bytes

logger = logging.getLogger(__name__)
TAP_ROWS_PER_FILE = 512
"""Training cannot be repeated bit for bit, so its episodes go to disk sooner than a recorder's."""


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """How an agent is trained. Source of the defaults: RL Baselines3 Zoo, Atari (PPO; DQN where a field says so)."""

    agent: Literal["ppo", "dqn"] = "ppo"
    total_timesteps: int = 10_000_000
    """Decisions, over all parallel games."""
    num_envs: int = 8
    seed: int = 0
    checkpointing_steps: int = 250_000
    """Decisions from one saved policy to the next: a ladder of skill for `record_episodes --policy`."""
    learning_rate: float | None = None
    """None: 2.5e-4 falling linearly for PPO, 1e-4 for DQN."""
    n_steps: int = 128
    """PPO: decisions a game between two updates."""
    n_epochs: int = 4
    batch_size: int | None = None
    """None: 256 for PPO, 32 for DQN."""
    clip_range: float = 0.1
    """PPO; falls linearly."""
    vf_coef: float = 0.5
    ent_coef: float = 0.01
    buffer_size: int = 100_000
    """DQN: transitions in memory, 28 kB each."""
    learning_starts: int = 100_000
    """DQN: random decisions before the first update."""
    max_episode_frames: int = 5_000
    """Recorded frames after which a game is truncated."""
    validation_share: float = 0.05
    test_share: float = 0.05
    device: str = "auto"

    @property
    def writer_id(self) -> str:
        """Begins the name of every recorded stream; `total_timesteps` and the device may change between starts."""
        values = asdict(self)
        del values["total_timesteps"], values["device"], values["checkpointing_steps"]
        digest = hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=4).hexdigest()
        return f"{self.agent}-{digest}"


@dataclass(frozen=True)
class AgentProgress:
    """Where training stands."""

    num_timesteps: int
    num_episodes: int
    mean_return: float
    """Of the last 100 games; nan before the first."""


def train_agent(
    config: AgentConfig, game: GameContract, output_dir: str | Path, record_dir: str | Path | None = None,
    progress: Callable[[AgentProgress], None] = lambda progress: None,
) -> AgentProgress:  # fmt: skip
    """Train to `total_timesteps`, from the newest checkpoint in `output_dir` on.

    Writes `checkpoints/<agent>-<timesteps>.zip` and, at the end, `<agent>.zip`: loadable by Stable-Baselines3.

    Args:
        record_dir: dataset folder that gets every frame of every game, the first random ones included.
    Raises:
        ValueError: a dataset of other settings, or one that another process of this config writes.
    """
    _require_sb3()
    output_dir = Path(output_dir)
    checkpoint = newest_checkpoint(output_dir, config.agent)
    trained = 0 if checkpoint is None else checkpoint[0]
    with contextlib.ExitStack() as stack:
        streams = _open_streams(config, game, record_dir, stack)
        watch = _Watch(trained)
        envs = [AgentEnv(stream, lambda: f"{config.agent}-{watch.num_timesteps}") for stream in streams]
        model = build_model(config, envs, seed=config.seed + trained, tensorboard_log=str(output_dir))
        if checkpoint is not None:
            _restore(model, *checkpoint)
        try:
            if trained < config.total_timesteps:
                callback = _callback(config, game, output_dir, watch, progress)
                model.learn(config.total_timesteps - trained, callback=callback, reset_num_timesteps=trained == 0)
                save_agent(model, config, game, _checkpoint(output_dir, config, model))
            if trained < config.total_timesteps or not _is_saved(output_dir / f"{config.agent}.zip", trained):
                save_agent(model, config, game, output_dir / f"{config.agent}.zip")
        finally:  # an interrupted training keeps what it recorded
            model.get_env().close()
            for stream in streams:
                if stream.writer is not None:
                    stream.writer.flush()
    return watch.seen(model)


def build_model(config: AgentConfig, envs: Sequence[AgentEnv], *, seed: int, tensorboard_log: str | None) -> Any:
    """A fresh PPO or DQN over the games."""
    from stable_baselines3 import DQN, PPO
    from stable_baselines3.common.vec_env import DummyVecEnv

    vector = DummyVecEnv([lambda env=env: env for env in envs])
    shared: dict[str, Any] = {"seed": seed, "device": config.device, "tensorboard_log": tensorboard_log, "verbose": 0}
    if config.agent == "ppo":
        rate, clip_range = config.learning_rate or 2.5e-4, config.clip_range
        return PPO(
            "CnnPolicy", vector, learning_rate=lambda left: rate * left, clip_range=lambda left: clip_range * left,
            n_steps=config.n_steps, n_epochs=config.n_epochs, batch_size=config.batch_size or 256,
            vf_coef=config.vf_coef, ent_coef=config.ent_coef, **shared,
        )  # fmt: skip
    return DQN(
        "CnnPolicy", vector, learning_rate=config.learning_rate or 1e-4, batch_size=config.batch_size or 32,
        buffer_size=config.buffer_size, learning_starts=config.learning_starts, target_update_interval=1000,
        # One update for four decisions, however many games are played side by side.
        train_freq=4, gradient_steps=len(envs), exploration_fraction=0.1, exploration_final_eps=0.01,
        replay_buffer_kwargs={"handle_timeout_termination": False}, optimize_memory_usage=True, **shared,
    )  # fmt: skip


def save_agent(model: Any, config: AgentConfig, game: GameContract, path: Path) -> None:
    """A Stable-Baselines3 zip with our card inside, written whole or not at all."""
    buffer = io.BytesIO()
    model.save(buffer)
    card = {
        "agent": config.agent, "num_timesteps": model.num_timesteps, "game": to_dict(game),
        "decision_skip": game.frame_skip * decision_frames(game), "fire_on_reset": fire_action(game) is not None,
    }  # fmt: skip
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(CARD, json.dumps(card))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, buffer.getvalue())


def _is_saved(path: Path, num_timesteps: int) -> bool:
    """Written again, the same agent has another sha256, and a recorder takes it for another player."""
    try:
        return path.is_file() and read_card(path).get("num_timesteps") == num_timesteps
    except ValueError:
        return False  # damaged: to be written again


def newest_checkpoint(output_dir: Path, agent: str) -> tuple[int, Path] | None:
    """(timesteps, path) of the checkpoint that training continues from, None before the first.

    A damaged one is named in a warning and passed over.

    Raises:
        ValueError: there are checkpoints and all are damaged.
    """
    found = [
        (int(match.group(1)), path)
        for path in (output_dir / "checkpoints").glob(f"{agent}-*.zip")
        if (match := re.fullmatch(rf"{agent}-(\d+)", path.stem))
    ]
    for steps, path in sorted(found, reverse=True):
        try:
            check_zip(path)
            return steps, path
        except ValueError as error:
            logger.warning("%s; falling back to the checkpoint before it", error)
    if found:
        raise ValueError(f"every checkpoint in {output_dir / 'checkpoints'} is damaged: restore one or remove them")
    return None


def _checkpoint(output_dir: Path, config: AgentConfig, model: Any) -> Path:
    return output_dir / "checkpoints" / f"{config.agent}-{model.num_timesteps}.zip"


def _restore(model: Any, num_timesteps: int, path: Path) -> None:
    """Weights and optimizer state; nothing of the file is unpickled. A DQN's replay buffer fills anew."""
    with zipfile.ZipFile(path) as archive:
        names = [f"{name}.pth" for name in model.get_parameters()]
        loaded = [torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True) for name in names]
    model.set_parameters(dict(zip(model.get_parameters(), loaded, strict=True)), device=model.device)
    model.num_timesteps = num_timesteps


def _open_streams(
    config: AgentConfig, game: GameContract, record_dir: str | Path | None, stack: contextlib.ExitStack
) -> list[GameStream]:
    settings = StreamSettings(
        seed=config.seed, num_streams=config.num_envs, max_episode_frames=config.max_episode_frames,
        validation_share=config.validation_share, test_share=config.test_share,
    )  # fmt: skip
    names = [f"{config.writer_id}-{env:03d}" for env in range(config.num_envs)]
    writers: list[EpisodeWriter | None] = [None] * len(names)
    if record_dir is not None:
        open_dataset(record_dir, game)
        try:
            stack.enter_context(folder_lock(record_dir, f".{config.writer_id}.lock", wait=False))
        except BlockingIOError as error:
            raise ValueError(f"another process records this agent into {record_dir}; give another --seed") from error
        writers = [EpisodeWriter(record_dir, game, name, rows_per_file=TAP_ROWS_PER_FILE) for name in names]
    return [GameStream(game, settings, names[i], i, writers[i]) for i in range(config.num_envs)]


class _Watch:
    """What the callback saw last; the streams name their episodes after it."""

    def __init__(self, num_timesteps: int) -> None:
        self.num_timesteps = num_timesteps
        self.num_episodes = 0

    def seen(self, model: Any) -> AgentProgress:
        self.num_timesteps = model.num_timesteps
        returns = [info["r"] for info in model.ep_info_buffer or ()]
        mean = sum(returns) / len(returns) if returns else float("nan")
        return AgentProgress(model.num_timesteps, self.num_episodes, mean)


def _callback(
    config: AgentConfig, game: GameContract, output_dir: Path, watch: _Watch, progress: Callable[[AgentProgress], None]
) -> Any:
    from stable_baselines3.common.callbacks import BaseCallback

    class Tap(BaseCallback):
        def _on_step(self) -> bool:
            before = self.num_timesteps - self.training_env.num_envs
            watch.num_episodes += sum("episode" in info for info in self.locals["infos"])
            seen = watch.seen(self.model)
            if before // config.checkpointing_steps != self.num_timesteps // config.checkpointing_steps:
                save_agent(self.model, config, game, _checkpoint(output_dir, config, self.model))
            progress(seen)
            return True

    return Tap()


def _require_sb3() -> None:
    try:
        import stable_baselines3  # noqa: F401
    except ImportError as error:
        raise ValueError('training an agent needs Stable-Baselines3: pip install "gamengen[record]"') from error
