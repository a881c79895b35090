"""Find the frames in which a ball turns, at a paddle or a wall, so that train_unet can draw them more often.

Reads   an episode dataset of a game whose ball is read from pixels (Pong, Breakout), and the latents made of it. With
        `--missed_by` a world, too: then only the turns that it does not foresee are marked, and frames like them.
Writes  <latents>/marks.safetensors, a bit for each frame of the training split, which `train_unet --turn_share` uses.
        Where they are of the same frames, nothing is done again.
Example
    python scripts/mark_turns.py --dataset data/pong --latents data/pong-latents
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import tyro
from torch import Tensor
from tqdm.auto import tqdm

from gamengen.config import parse
from gamengen.contract import check_compatible, read_game_contract
from gamengen.dataset.episodes import EpisodeInfo, dataset_fingerprint, list_episodes
from gamengen.diffusion.latent_world import LatentWorld
from gamengen.diffusion.missed_turns import look_alikes, missed_turns
from gamengen.evaluation.identity import world_fingerprint
from gamengen.latents.balls import find_balls
from gamengen.latents.marks import marks_source, place_marks, read_marks, write_marks
from gamengen.latents.shards import ArrayTable, latents_fingerprint, load_codec, load_table, read_contract
from gamengen.loading import load_contract, load_world
from gamengen.objects import BALL, Axes, game_objects, turns
from gamengen.run_folder import print_plan

BATCH = 32
"""Turns that the world of `--missed_by` sees at once."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Find the frames in which a ball turns."""

    preset: str = "default"
    dataset: str = tyro.MISSING
    """Folder of scripts/record_episodes.py."""
    latents: str = tyro.MISSING
    """Folder of scripts/encode_latents.py."""
    axes: Axes = "xy"
    """`x`: only where it turns across, such as at the paddles of Pong; `y`: only up or down; `up`: only up, such as at
    the paddle of Breakout."""
    missed_by: str | None = None
    """A world or training run, a folder or Hub id: mark the turns that it gets wrong, one step from what was recorded,
    and as many frames in which the ball comes to the same places and goes on."""
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
    world, by = open_world(config)
    source = " ".join([dataset_fingerprint(config.dataset), latents_fingerprint(config.latents), config.axes, *by])
    what = "a ball turns" if world is None else "a ball turns unforeseen, or goes on like one that does,"
    if marks_source(config.latents) == source:
        marks = read_marks(config.latents, rows)
        print(f"{config.latents} is marked already: {what} in {int(marks.sum())} of {len(marks)} frames")
    else:
        marks = find_marks(config, infos, rows, world)
        write_marks(config.latents, marks, source)
        print(f"{what} in {int(marks.sum())} of {len(marks)} frames")
    return int(marks.sum()), len(marks)


def open_world(config: Config) -> tuple[LatentWorld | None, list[str]]:
    """The world of `--missed_by` and its fingerprint, if one is asked for; ContractMismatch: it is of other latents."""
    if config.missed_by is None:
        return None, []
    # A world may see raw latents of its codec whose own mean and standard deviation are others: of another recording.
    latents = dataclasses.replace(read_contract(config.latents), mean=None, std=None)
    check_compatible(latents, load_contract(config.missed_by), config.latents, config.missed_by)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return cast(LatentWorld, load_world(config.missed_by, BATCH, device=device)), [world_fingerprint(config.missed_by)]


def find_marks(config: Config, infos: Sequence[EpisodeInfo], rows: ArrayTable, world: LatentWorld | None) -> Tensor:
    """bool (rows,): the frames to mark."""
    found = find_balls(config.dataset, infos, config.num_workers or os.cpu_count() or 1)
    balls = dict(tqdm(found, desc="looking for turns", total=len(infos), unit="episode"))
    turned = place_marks(config.latents, rows, ((name, turns(ball, config.axes)) for name, ball in balls.items()))
    if world is None:
        return turned
    missed = missed_turns(world, load_codec(config.latents), rows, turned)
    print(f"of {int(turned.sum())} turns the world misses {int(missed.sum())}")
    return missed | look_alikes([balls[name] for name in rows.episode_ids], missed, turned)


if __name__ == "__main__":
    main(parse(PRESETS))
