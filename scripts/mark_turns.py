"""Find the frames in which a ball turns, at a paddle or a wall, so that train_unet can draw them more often.

Reads   an episode dataset of a game whose ball is read from pixels (Pong, Breakout), and the latents made of it.
Writes  <latents>/marks.safetensors, a bit for each frame of the training split, which `train_unet --turn_share` uses.
        Where they are of the same frames, nothing is done again.
Example
    python scripts/mark_turns.py --dataset data/pong --latents data/pong-latents
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import tyro
from tqdm.auto import tqdm

from gamengen.config import parse
from gamengen.contract import read_game_contract
from gamengen.dataset.episodes import dataset_fingerprint, list_episodes
from gamengen.latents.marks import marks_source, read_marks, write_marks
from gamengen.latents.shards import latents_fingerprint, load_table
from gamengen.latents.turns import find_turns
from gamengen.objects import BALL, Axes, game_objects
from gamengen.run_folder import print_plan


@dataclass(frozen=True, kw_only=True)
class Config:
    """Find the frames in which a ball turns."""

    preset: str = "default"
    dataset: str = tyro.MISSING
    """Folder of scripts/record_episodes.py."""
    latents: str = tyro.MISSING
    """Folder of scripts/encode_latents.py."""
    axes: Axes = "xy"
    """`x`: only where it turns across, such as at the paddles of Pong; `y`: only up or down."""
    num_workers: int = 0
    """Processes; 0: one a core."""
    dry_run: bool = False


PRESETS = {"default": Config()}


def main(config: Config) -> tuple[int, int]:
    game = read_game_contract(config.dataset)
    if BALL not in game_objects(game.env_id).objects:
        raise ValueError(f"{config.dataset}: no ball is read from the pixels of {game.env_id}")
    infos = list_episodes(config.dataset, "train")
    if config.dry_run:
        print_plan("mark_turns", config, {"frames read": str(sum(info.num_frames for info in infos))})
        return 0, 0
    rows = load_table(config.latents, "train", in_memory=False, verify=False)
    source = f"{dataset_fingerprint(config.dataset)} {latents_fingerprint(config.latents)} {config.axes}"
    if marks_source(config.latents) == source:
        marks = read_marks(config.latents, rows)
        print(f"{config.latents} is marked already: a ball turns in {int(marks.sum())} of {len(marks)} frames")
        return int(marks.sum()), len(marks)
    turns = find_turns(config.dataset, infos, config.num_workers or os.cpu_count() or 1, config.axes)
    progress = tqdm(turns, desc="looking for turns", total=len(infos), unit="episode")
    marked, count = write_marks(config.latents, rows, progress, source)
    print(f"a ball turns in {marked} of {count} frames")
    return marked, count


if __name__ == "__main__":
    main(parse(PRESETS))
