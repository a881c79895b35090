"""Record the play of a mix of policies as an episode dataset.

Reads: policies, where `--policy` names Stable-Baselines3 zips.
Writes: OUTPUT_DIR, a Hugging Face dataset folder (palette PNG parquet, contract.json, README.md); several
recordings of one game may share it. Run the same command again to continue after a kill, or with a larger
`--num_steps` to extend; shards (`--shard_id --num_shards`) run side by side into the same folder.

Example:
    python scripts/record_episodes.py --env_id ALE/Breakout-v5 --policy scripted@0.1,random --num_steps 100000 \\
        --output_dir data/breakout

Expected: 395 frames a second with scripted players on one slow core, 129 bytes a frame (Pong, 160x210, 2026-11-21).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from tqdm import tqdm

from agents.mix import PONG_MIX, make_players, parse_range
from agents.recorder import Recorded, Recorder, RecorderSettings
from gamengen.config import parse
from gamengen.contract import CONTRACT_FILE
from gamengen.dataset.episode_writer import open_dataset
from gamengen.durable import folder_lock
from gamengen.games.doom import is_doom
from gamengen.games.emulator import make_game_contract
from gamengen.hub.dataset_push import push_dataset
from gamengen.hub.repository import HubConfig, open_repository
from gamengen.run_folder import RunFolder, print_plan


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """What to record."""

    preset: str = "small"
    output_dir: str = tyro.MISSING
    """Dataset folder."""
    env_id: str = "ALE/Pong-v5"
    """An Atari game, or any Gymnasium environment with discrete actions and render_mode rgb_array."""
    policy: str = PONG_MIX
    """NAME[@EPSILON][:SHARE], comma separated: scripted, varied (scripted, meeting the ball with all of the paddle and
    taking time to serve), random, noop, or a Stable-Baselines3 zip, by path or Hub id."""
    epsilon: float = 0.0
    """Random decisions of the policies that name no epsilon of their own."""
    random_hold: str = "1-8"
    """Decisions that a random action is kept, also of `random`: a number, or MIN-MAX to draw from anew each time."""
    num_steps: int = 200_000
    """Actions to record, over all shards."""
    num_envs: int = 8
    """Parallel games of this process."""
    frame_skip: int = 4
    """Emulator frames a recorded frame: 4 gives 15 frames a second on Atari, 2 gives 30."""
    hold: str = "1"
    """Recorded frames that a decision is held: a number, or MIN-MAX to draw from anew each time."""
    sticky_probability: float = 0.0
    """Probability that the console repeats the last action for an emulator frame."""
    max_pool: bool = False
    """Record the brighter pixel of the last two emulator frames: for games that flicker."""
    noop_start_max: int = 30
    """An episode begins after 0 to this many no-ops."""
    full_action_set: bool = False
    """All 18 actions of the console instead of those that the game uses."""
    max_episode_frames: int = 5_000
    """Longer episodes are truncated."""
    validation_share: float = 0.05
    test_share: float = 0.05
    shard_id: int = 0
    num_shards: int = 1
    seed: int = 0
    revision: str | None = None
    """Branch, tag or commit of policies on the Hub."""
    trust_remote_code: bool = False
    """Unpickle policies that cannot be read as plain weights: runs code that the file holds."""
    hub: HubConfig = field(default_factory=HubConfig)
    dry_run: bool = False
    """Print the config and what it will cost, write nothing."""
    overwrite: bool = False
    """Remove the dataset in OUTPUT_DIR first (one shard only)."""


PRESETS = {
    "tiny": RecordConfig(num_steps=600, num_envs=2, max_episode_frames=100),  # 2 s
    "demo": RecordConfig(num_steps=16_000),  # 40 s
    "small": RecordConfig(),  # 9 minutes
    "atari": RecordConfig(num_steps=1_000_000, frame_skip=2, hold="1-4"),  # 45 minutes
}


def main(cfg: RecordConfig) -> Recorded | None:
    """Record; what this process's streams hold then."""
    folder = Path(cfg.output_dir)
    game = make_game_contract(
        cfg.env_id, frame_skip=cfg.frame_skip, hold=parse_range(cfg.hold, "hold"), max_pool=cfg.max_pool,
        sticky_probability=cfg.sticky_probability, noop_start_max=cfg.noop_start_max,
        action_set="full" if cfg.full_action_set else "minimal",
    )  # fmt: skip

    def load(path: str):
        from agents.sb3_policy import load_policy  # imports Stable-Baselines3

        return load_policy(path, game, trust_remote_code=cfg.trust_remote_code, revision=cfg.revision)

    players = make_players(cfg.policy, game, cfg.epsilon, load)
    settings = RecorderSettings(
        num_steps=cfg.num_steps, num_envs=cfg.num_envs, random_hold=parse_range(cfg.random_hold, "random_hold"),
        shard_id=cfg.shard_id, num_shards=cfg.num_shards, seed=cfg.seed, max_episode_frames=cfg.max_episode_frames,
        validation_share=cfg.validation_share, test_share=cfg.test_share,
    )  # fmt: skip
    recorder = Recorder(folder, game, players, settings)
    if cfg.dry_run:
        here = cfg.num_steps // cfg.num_shards
        cost = {
            # Measured bytes of a frame: Doom's textures, Atari's flat colours.
            "disk": f"{cfg.num_steps * (25e3 if is_doom(cfg.env_id) else 400) / 1e9:.2g} GB",
            "time": f"{here / 400 / 60:.1f} minutes at 400 frames/s, a slow core",
        }
        print_plan("record_episodes", cfg, cost)
        return None
    if cfg.overwrite:
        _remove_dataset(folder, cfg.num_shards)
    open_repository(cfg.hub, "dataset", folder.resolve().name)  # before the work: whether it may be pushed
    open_dataset(folder, game)
    with folder_lock(folder):
        file_name = f"run-{recorder.writer_id}-{cfg.shard_id:03d}.json"
        ignore = ("num_steps", "trust_remote_code")
        run = RunFolder.open(folder / "writers", "record_episodes", cfg, ignore=ignore, file_name=file_name)
    with tqdm(total=cfg.num_steps // cfg.num_shards, unit="frame", desc="record") as bar:

        def show(recorded: Recorded) -> None:
            bar.set_postfix(episodes=recorded.num_episodes, mean_return=f"{recorded.mean_return:.1f}", refresh=False)
            bar.update(recorded.num_steps - bar.n)

        recorded = recorder.run(show)
    run.finish(vars(recorded))
    print(f"wrote {recorded.num_steps} steps in {recorded.num_episodes} episodes to {folder}")
    push_dataset(folder, cfg.hub)
    return recorded


def _remove_dataset(folder: Path, num_shards: int) -> None:
    if not folder.exists():
        return
    if num_shards > 1:
        raise ValueError(
            f"--overwrite with several shards would remove what the others write; remove {folder} yourself first"
        )
    if not (folder / CONTRACT_FILE).is_file():
        raise ValueError(f"--overwrite: {folder} is not an episode dataset (no {CONTRACT_FILE}); remove it yourself")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(parse(PRESETS))
