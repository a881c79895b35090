"""Dream a game: roll a world out from held-out start states, beside the real game.

Reads   a world folder, or a run folder that holds unet/ (and decoder/).
Writes  an animation (.gif, .webp or .mp4) of the dream, of the real game in the same state under the same actions, and
        of the actions; with --save_frames also the raw frames (.npz).
Example
    gamengen rollout --world runs/breakout --num_inference_steps 4 --output rollout.gif
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from tqdm.auto import tqdm

from gamengen.contract import GameContract, check_compatible
from gamengen.dataset.start_states import locate
from gamengen.latents.shards import load_table, read_contract, read_index
from gamengen.latents.windows import stored_context
from gamengen.loading import load_start_states, load_world
from gamengen.media import check_suffix, draw_actions, grid, side_by_side, upscale, write_animation, write_raw_frames
from gamengen.objects import Follower
from gamengen.rollout import Rollout, choose_actions, play, rollout
from gamengen.run_folder import print_plan
from gamengen.world import StartState, World


@dataclass(frozen=True, kw_only=True)
class Config:
    """Roll a world out from held-out start states."""

    preset: str = "default"
    world: str = tyro.MISSING
    """World folder, run folder or Hub id."""
    revision: str | None = None
    """Branch, tag or commit of a world on the Hub."""
    variant: str | None = None
    """Form of its weights, such as `fp16`."""
    latents: str | None = None
    """Start from the stored latents of this folder instead of encoding the start states' frames: the same dream."""
    output: str = "rollout.gif"
    """Animation to write: .gif, .webp or .mp4."""
    actions: str = "recorded"
    """`recorded`, `random`, `noop`, `follow` (somebody who moves to where the ball is plays the dream, and the real
    game beside it), or action names or ids such as `RIGHT,RIGHT,NOOP` (repeated)."""
    num_frames: int = 128
    num_starts: int = 2
    """Games side by side, from start states spread over the held-out ones."""
    num_inference_steps: int | None = None
    """Denoising steps a frame; the world's own number when not given."""
    guidance_scale: float = 1.0
    noise_level: float = 0.0
    seed: int = 0
    real: Literal["auto", "yes", "no"] = "auto"
    """The real game beside the dream, by replay in the emulator; `auto` says so and goes on where that cannot be."""
    scale: int = 2
    """Integer enlargement of the animation."""
    columns: int = 2
    """Games beside each other in the animation."""
    save_frames: bool = False
    """Also write the raw frames and actions beside the animation, as .npz."""
    device: str = "auto"
    dry_run: bool = False


PRESETS = {"default": Config()}


def main(config: Config) -> Rollout | None:
    """Dream, show and write; the dream's frames and actions, None from a dry run."""
    if config.dry_run:
        print_plan("rollout", config, {"frames": str(config.num_frames * config.num_starts)})
        return None
    check_suffix(config.output)
    every = load_start_states(config.world, config.revision)
    chosen = np.linspace(0, len(every) - 1, min(config.num_starts, len(every))).round().astype(int)
    starts = [every[i] for i in chosen]
    device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    steps: dict[str, Any] = (
        {} if config.num_inference_steps is None else {"num_inference_steps": config.num_inference_steps}
    )
    world = load_world(
        config.world,
        len(starts),
        device=device,
        revision=config.revision,
        variant=config.variant,
        **steps,
        guidance_scale=config.guidance_scale,
        noise_level=config.noise_level,
    )
    game = world.contract.game
    run = choose_run(config, starts, game)
    if config.actions == "recorded":
        known = min(len(start.future_actions) for start in starts if start.future_actions is not None)
        if known < config.num_frames:
            print(f"the recorded actions end after {known} of {config.num_frames} frames, the no-op follows them")
    seeds = [config.seed + i for i in range(len(starts))]
    started = time.perf_counter()
    with tqdm(total=config.num_frames, desc="dreaming", unit="frame") as bar:
        reset = (
            None if config.latents is None else functools.partial(start_stored, config.latents, world, starts, seeds)
        )
        dream = run(world, starts, seeds, progress=lambda _: bar.update(), reset=reset)
    seconds = time.perf_counter() - started
    truth = real_game(config, game, starts, seeds, run)
    panels = ({"real game": truth.frames} if truth is not None else {}) | {"dream": dream.frames}
    clips = [
        draw_actions(
            side_by_side({name: upscale(frames[b], config.scale) for name, frames in panels.items()}),
            dream.actions[b],
            game,
        )
        for b in range(len(starts))
    ]
    write_animation(config.output, grid(clips, columns=config.columns), fps=game.fps)
    print(
        f"wrote {config.output}: {len(starts)} starts x {config.num_frames} frames at "
        f"{world.options['num_inference_steps'].value} steps, "
        f"{config.num_frames / seconds:.1f} frames a second with {len(starts)} games side by side"
    )
    if config.save_frames:
        raw = Path(config.output).with_suffix(".npz")
        real = {"real": truth.frames} if truth is not None else {}
        write_raw_frames(raw, dream.frames, actions=dream.actions, **real)
        print(f"wrote {raw}")
    return dream


def start_stored(latents: str, world: World, starts: list[StartState], seeds: list[int]) -> None:
    """Put a latent world into start states whose latents stand in the shards of one of the held-out splits."""
    check_compatible(read_contract(latents), world.contract, latents, "the world")
    places = [locate(start.name) for start in starts]
    contexts, actions = [], []
    tables = [load_table(latents, split) for split in held_out_splits(latents)]
    for episode, frame in places:
        table = next((t for t in tables if episode in t.episode_ids), tables[0])
        game, length = world.contract.game, world.contract.context_length
        window = stored_context(table, [(episode, frame)], game.noop_action, length)
        contexts.append(window.context)
        actions.append(window.actions)
    world.reset_latents(torch.cat(contexts), torch.cat(actions), seeds)  # type: ignore[attr-defined]


def held_out_splits(latents: str) -> list[str]:
    """Splits but for train that the shards hold."""
    return sorted({shard["split"] for shard in read_index(latents)["shards"]} - {"train"})


def choose_run(config: Config, starts: list[StartState], game: GameContract) -> Callable[..., Rollout]:
    """What plays a world, the dream or the real game, in the start states: `(world, starts, seeds, ...)`."""
    if config.actions == "follow":
        return functools.partial(play, player=Follower(game), num_frames=config.num_frames)
    actions = choose_actions(config.actions, starts, game, config.num_frames, config.seed)
    return functools.partial(rollout, actions=actions)


def real_game(
    config: Config, game: GameContract, starts: list[StartState], seeds: list[int], run: Callable[..., Rollout]
) -> Rollout | None:
    """The emulator in the same states, played in the same way, or None with a word why."""
    if config.real == "no":
        return None
    try:
        if any(start.replay is None for start in starts):
            raise ValueError("the start states do not say how to replay them")
        from gamengen.games.emulator_world import EmulatorWorld

        return run(EmulatorWorld(game, len(starts)), starts, seeds)
    except (ImportError, ValueError) as error:
        if config.real == "yes":
            raise
        print(f"without the real game beside the dream: {error}")
        return None
