"""Train a Stable-Baselines3 agent; with `--record_dir`, every frame it ever plays becomes part of a dataset.

Reads: the newest checkpoint in OUTPUT_DIR, if there is one: run the same command again to continue.
Writes: OUTPUT_DIR/ppo.zip (or dqn.zip), OUTPUT_DIR/checkpoints/ppo-<decisions>.zip: players for
scripts/record_episodes.py, at every level of skill; RECORD_DIR, an episode dataset that recorders may share.

Example:
    python scripts/train_agent.py --env_id ALE/Breakout-v5 --agent ppo --record_dir data/breakout

Expected: 3072 decisions of PPO in 43 s, start included, on one slow CPU core (2026-11-21); that hardly learns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from agents.agent_env import decision_frames
from agents.mix import parse_range
from agents.sb3 import AgentConfig, AgentProgress, train_agent
from gamengen.config import parse
from gamengen.games.doom import is_doom
from gamengen.games.emulator import make_game_contract
from gamengen.hub.part_push import push_agent
from gamengen.hub.repository import HubConfig, open_repository
from gamengen.run_folder import RunFolder, print_plan


@dataclass(frozen=True, kw_only=True)
class TrainAgentConfig:
    """What to train on which game."""

    preset: Literal["tiny", "demo", "small", "atari"] = "small"
    env_id: str = "ALE/Pong-v5"
    """An Atari game, or any Gymnasium environment with discrete actions and render_mode rgb_array."""
    output_dir: str = "runs/agent"
    record_dir: str | None = None
    """Dataset folder for all that the agent plays while it learns; None records nothing."""
    frame_skip: int = 4
    """Emulator frames a recorded frame."""
    hold: str = "1"
    """Recorded frames that a decision is held: a number, or MIN-MAX to draw from anew each time."""
    sticky_probability: float = 0.0
    max_pool: bool = False
    """See and record the brighter pixel of the last two emulator frames: for games that flicker."""
    noop_start_max: int = 30
    training: AgentConfig = field(default_factory=AgentConfig)
    hub: HubConfig = field(default_factory=HubConfig)
    dry_run: bool = False
    """Print the config and what it will cost, write nothing."""
    overwrite: bool = False
    """Start over: remove OUTPUT_DIR's run first. The dataset in RECORD_DIR stays."""


def _preset(stream: Mapping[str, Any], **training: Any) -> TrainAgentConfig:
    return TrainAgentConfig(**stream, training=replace(AgentConfig(), **training))


# The same streams as the presets of record_episodes: both may write into one dataset.
AGENT_STREAM = {"frame_skip": 4, "hold": "1"}
HUMAN_STREAM = {"frame_skip": 2, "hold": "1-4"}
PRESETS = {
    "tiny": _preset(
        AGENT_STREAM,
        total_timesteps=128, num_envs=2, n_steps=16, batch_size=16, n_epochs=1, checkpointing_steps=64,
        buffer_size=500, learning_starts=32, max_episode_frames=40,
    ),  # 5 s
    "demo": _preset(AGENT_STREAM, total_timesteps=20_000, checkpointing_steps=5_000),  # 2 minutes, hardly learns
    "small": _preset(AGENT_STREAM, total_timesteps=1_000_000, checkpointing_steps=100_000),  # an hour
    "atari": _preset(HUMAN_STREAM),  # ten million decisions, as published results
}  # fmt: skip


def main(cfg: TrainAgentConfig) -> AgentProgress | None:
    """Train; where training stands then."""
    game = make_game_contract(
        cfg.env_id, frame_skip=cfg.frame_skip, hold=parse_range(cfg.hold, "hold"), max_pool=cfg.max_pool,
        sticky_probability=cfg.sticky_probability, noop_start_max=cfg.noop_start_max,
    )  # fmt: skip
    agent = cfg.training
    if cfg.dry_run:
        disk = f"{agent.total_timesteps // agent.checkpointing_steps * 20e-3:.1f} GB of checkpoints"
        if cfg.record_dir is not None:
            frame_bytes = 25e3 if is_doom(cfg.env_id) else 400  # as record_episodes
            disk += f", {agent.total_timesteps * decision_frames(game) * frame_bytes / 1e9:.1f} GB of episodes"
        time = f"{agent.total_timesteps / 300 / 3600:.1f} hours at 300 decisions/s"
        print_plan("train_agent", cfg, {"disk": disk, "time": time})
        return None
    ignore = ("total_timesteps", "device", "record_dir", "checkpointing_steps")
    run = RunFolder.open(cfg.output_dir, "train_agent", cfg, overwrite=cfg.overwrite, ignore=ignore)
    open_repository(cfg.hub, "model", run.path.resolve().name)  # before the work: whether it may be pushed
    with tqdm(total=agent.total_timesteps, unit="decision", desc=agent.agent) as bar:

        def show(progress: AgentProgress) -> None:
            postfix = {"episodes": progress.num_episodes, "mean_return": f"{progress.mean_return:.1f}"}
            bar.set_postfix(postfix, refresh=False)
            bar.update(progress.num_timesteps - bar.n)

        progress = train_agent(agent, game, cfg.output_dir, cfg.record_dir, show)
    run.finish(vars(progress))
    print(f"wrote {Path(cfg.output_dir) / agent.agent}.zip after {progress.num_timesteps} decisions")
    if cfg.record_dir is not None:
        print(f"recorded into {cfg.record_dir}")
    settings = {"agent": agent.agent, "decisions": progress.num_timesteps, "learning rate": agent.learning_rate}
    push_agent(Path(cfg.output_dir) / f"{agent.agent}.zip", game, vars(progress), settings, cfg.hub)
    return progress


if __name__ == "__main__":
    main(parse(PRESETS))
