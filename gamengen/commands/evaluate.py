"""Measure a world on held-out episodes: next frames, control, speed.

Reads   a world (or run) folder and the episode dataset it was trained on.
Writes  <output_dir>/report.json; prints the table.
Example
    gamengen evaluate --world runs/breakout --dataset data/breakout --output_dir runs/breakout/eval
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from gamengen.config import to_plain
from gamengen.contract import check_compatible, read_game_contract
from gamengen.durable import write_json
from gamengen.episodes import dataset_fingerprint, read_episodes
from gamengen.loading import find_world, load_world
from gamengen.report import print_table, world_table
from gamengen.run_folder import package_versions, print_plan


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measure a world on held-out episodes."""

    preset: str = "default"
    world: str = tyro.MISSING
    dataset: str = tyro.MISSING
    split: str = "test"
    output_dir: str = tyro.MISSING
    num_starts: int = 64
    """Next frames that are predicted, and half as many rollouts at most, spread over the episodes."""
    horizon: int = 64
    """Frames of a rollout."""
    steps: tuple[int, ...] = (1, 4)
    """Denoising steps a frame to compare."""
    num_worlds: int = 8
    """Games stepped together."""
    seed: int = 0
    device: str = "auto"
    dry_run: bool = False


PRESETS = {"default": Config(), "tiny": Config(preset="tiny", num_starts=4, horizon=4, num_worlds=2)}


def main(config: Config) -> dict[str, Any]:
    """Measure, print and write; the figures, none of them from a dry run."""
    if config.dry_run:
        frames = config.num_starts * len(config.steps) + config.num_worlds * config.horizon
        print_plan("evaluate", config, {"frames": str(frames)})
        return {}
    device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    world = load_world(config.world, config.num_worlds, device=device)
    check_compatible(read_game_contract(config.dataset), world.contract, config.dataset, find_world(config.world))
    episodes = list(read_episodes(config.dataset, config.split))
    if not episodes:
        raise ValueError(f"{config.dataset} has no {config.split} episodes; record more, or choose another --split")
    table = world_table(
        world,
        episodes,
        num_starts=config.num_starts,
        horizon=config.horizon,
        seed=config.seed,
        steps=config.steps,
        play_world=load_world(config.world, 1, device=device),
    )
    print_table(table)
    report = {
        "config": to_plain(config),
        "dataset_fingerprint": dataset_fingerprint(config.dataset),
        "world": str(config.world),
        "episodes": len(episodes),
        "versions": package_versions(),
        "figures": table,
    }
    folder = Path(config.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", report)
    print(f"wrote {folder / 'report.json'}")
    return table
