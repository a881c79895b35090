"""From a game to a playable dream of it: every stage of the chain, one after the other.

    agent -> episodes -> VAE -> latents -> UNet, turns that it misses, UNet -> decoder -> world -> rollout, figures

Reads   nothing but the game.
Writes  <output_dir>/{agent,data,vae,latents,unet,decoder,world,eval}/, rollout.gif and stages.json. Every stage is a
        script of its own that can be run alone; the same command again continues where it stopped.
Example
    python scripts/make_world.py --preset demo --output_dir runs/demo
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from agents.mix import PONG_MIX, parse_mix
from agents.policies import scripted_policy
from gamengen.config import parse
from gamengen.durable import read_json, write_json
from gamengen.games.emulator import make_game_contract
from gamengen.run_folder import print_plan

SCRIPTS = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Config:
    """From a game to a playable dream of it."""

    preset: str = "demo"
    output_dir: str = tyro.MISSING
    env_id: str = "ALE/Pong-v5"
    seed: int = 0
    num_processes: int = 0
    """Ranks of the trainers and the encoder; 0: one a GPU, or without one two that share the cores (small networks gain
    nothing from threads that wait for each other at every layer)."""
    agent: str = ""
    """Further flags of train_agent.py; `skip` leaves the agent out."""
    episodes: str = ""
    """Further flags of record_episodes.py; and so on for the other stages."""
    vae: str = ""
    latents: str = ""
    turns: str = "skip"
    """Flags of mark_turns.py, for games with a ball: `--turn_share` needs it. After `first_unet` it marks the turns
    that this one misses."""
    all_turns: bool = False
    """Mark all turns, before `first_unet`, which can draw them then, too."""
    first_unet: str = "skip"
    """Flags of a training of the UNet before the one of `unet`, which then begins with its weights."""
    unet: str = ""
    decoder: str = ""
    world: str = ""
    evaluation: str = ""
    rollout: str = ""
    dry_run: bool = False


SMOOTH = "--frame_skip 2 --hold 1-2"
"""30 frames a second: half as much happens from one to the next."""
OWN_FRAMES = (
    "--preset demo --rarity_limit 6 --terminal_share 0.9 --cross_resets --self_rollout_steps 4 "
    "--self_rollout_share 0.6 --clean_context_share 0.6"
)
SHIPPED_VAE = "--preset demo --max_train_frames 12000"

PRESETS = {
    # The whole way in about two minutes; the dream is noise.
    "tiny": Config(
        preset="tiny",
        agent="--preset tiny",
        episodes="--preset tiny",
        vae="--preset tiny",
        latents="--preset tiny",
        turns="",
        first_unet="--preset tiny",
        unet="--preset tiny --deepen_to 2 --event_share 0.2 --late_event_share 0.5 --turn_share 0.2 --hard_share 0.25 "
        "--hard_candidates 64",
        decoder="--preset tiny",
        evaluation="--preset tiny",
        rollout="--num_frames 8",
    ),
    # Minutes on 2 CPU cores: time and figures as measured stand in the README, under "Two commands".
    "demo": Config(
        preset="demo",
        agent="--preset demo --total_timesteps 3072",
        episodes="--preset demo",
        vae="--preset demo",
        latents="--preset demo",
        unet="--preset demo",
        decoder="--preset demo",
        evaluation="--preset demo",
        rollout="--num_frames 128 --num_inference_steps 1",
    ),
    # For a GPU, or a night and more of 2 CPU cores: 20 000 steps of about a second, besides recording, VAE and decoder.
    "small": Config(
        preset="small",
        agent="skip",
        episodes="--preset small",
        vae="--preset small",
        latents="--preset small",
        unet="--preset small",
        decoder="--preset small",
        evaluation="--num_rollouts 16",
    ),
    # The world that ships with the repository: 30 frames a second, decisions held for 1 or 2 frames; 3 to 4 hours on 2
    # cores by its budgets. Expected figures: README. The shipped weights were trained in more stages, each
    # warm-started (docs/experiments.md).
    "pong": Config(
        preset="pong",
        agent="skip",
        episodes=f"--preset small {SMOOTH} --num_steps 220000",
        vae=f"{SHIPPED_VAE} --max_train_minutes 8",
        # 36 frames: a new ball is served 32 frames after the old one is lost, and nothing but the past says when.
        latents="--preset demo --start_state_frames 40 --start_state_horizon 512",
        turns="--axes x",
        first_unet=f"{OWN_FRAMES} --context_length 36 --max_train_minutes 100 --ema_max_decay 0.999 --event_share 0.2",
        unet=f"{OWN_FRAMES} --context_length 36 --max_train_minutes 80 --ema_max_decay 0.998 --event_share 0.3 "
        "--late_event_share 0.5 --no-padded_contexts --turn_share 0.4 --change_weight 3 --loss_type huber --huber_c 6 "
        "--learning_rate 1e-3",
        decoder="skip",
        world="--dtype float16 --num_start_states 24",
        rollout="--num_frames 512 --num_inference_steps 1",
        evaluation="--num_rollouts 16",
    ),
    # The same for Breakout: players who vary, since the console and a scripted one play the same games again and
    # again; 24 frames, since a life goes up to 17 frames after the ball was last seen. Two hours and a quarter on two
    # cores; own paddle 2.7 px off, ball found in 36 % of the frames 17-64 at 1 step, 65 % at 4. The shipped weights had
    # more stages (docs/experiments.md). The console's frame counter, which no picture shows, says on which of two
    # places a ball is served: decisions on every second frame from a fixed beginning see one place only.
    "breakout": Config(
        preset="breakout",
        env_id="ALE/Breakout-v5",
        agent="skip",
        episodes="--preset small --frame_skip 2 --hold 2 --noop_start_max 0 --num_steps 430000 "
        "--policy varied@0:3,varied@0.05:3,varied@0.2:2,random:0.6,noop:0.1",
        vae=f"{SHIPPED_VAE} --max_train_minutes 8",
        latents="--preset demo --start_state_frames 28 --start_state_horizon 512",
        turns="--axes up",
        all_turns=True,
        first_unet=f"{OWN_FRAMES} --self_rollout_steps 1 --block_out_channels 64 96 128 --context_length 24 "
        "--max_train_minutes 60 --ema_max_decay 0.999 --event_share 0.2 --turn_share 0.3",
        unet=f"{OWN_FRAMES} --terminal_share 0.5 --play_steps 2 --context_length 24 --max_train_minutes 34 "
        "--ema_max_decay 0.998 --event_share 0.15 --turn_share 0.4 --loss_type huber --huber_c 4 --learning_rate 1e-3",
        decoder=f"{SHIPPED_VAE} --max_train_minutes 4.5",
        world="--dtype float16 --num_start_states 24",
        rollout="--num_frames 512 --num_inference_steps 1",
        evaluation="--num_rollouts 16",
    ),
    # One GPU.
    "atari": Config(
        preset="atari",
        agent="skip",
        episodes="--preset atari",
        vae="--preset atari",
        latents="--preset atari",
        unet="--preset atari",
        decoder="--preset atari",
        evaluation="--preset atari",
    ),
}


@dataclass(frozen=True)
class Stage:
    """One script of the chain and its flags."""

    name: str
    command: list[str]


def main(config: Config) -> dict[str, float]:
    plan = stages(config)
    if config.dry_run:
        print_plan("make_world", config, {stage.name: shlex.join(stage.command) for stage in plan})
        return {}
    check_players(config)
    root = Path(config.output_dir)
    root.mkdir(parents=True, exist_ok=True)
    times = root / "stages.json"
    seconds: dict[str, float] = read_json(times) if times.is_file() else {}
    for number, stage in enumerate(plan, 1):
        print(f"\n=== {number}/{len(plan)} {stage.name}: {shlex.join(stage.command)}", flush=True)
        started, before = time.perf_counter(), seconds.get(stage.name, 0.0)
        try:
            code = subprocess.run(stage.command, env=environment(config.num_processes)).returncode
        finally:  # what was spent before an interruption counts, too
            seconds[stage.name] = round(before + time.perf_counter() - started, 1)
            write_json(times, seconds)
        if code != 0:
            raise SystemExit(
                f"stage {stage.name} ended with exit code {code}; the reason stands above. "
                "The same command continues from here"
            )
    width = max(map(len, seconds))
    print("\nseconds a stage, all starts of this command together")
    for name, value in [*seconds.items(), ("all", round(sum(seconds.values()), 1))]:
        print(f"  {name:<{width}}  {value:8.1f}")
    print(f"\nworld: {root / 'world'}\nrollout: {root / 'rollout.gif'} (real game beside the dream)")
    return seconds


def check_players(config: Config) -> None:
    """Refuse, before any stage has run, a mix with the scripted player of a game that has none."""
    if config.episodes == "skip":
        return
    flags = shlex.split(config.episodes)
    named = [value for flag, value in zip(flags, flags[1:], strict=False) if flag == "--policy"]
    named += [flag.removeprefix("--policy=") for flag in flags if flag.startswith("--policy=")]
    if all(spec.name not in ("scripted", "varied") for spec in parse_mix(named[-1] if named else PONG_MIX)):
        return
    try:
        scripted_policy(make_game_contract(config.env_id))
    except ValueError as error:
        policy = "random,noop" if config.agent == "skip" else f"random,{Path(config.output_dir) / 'agent' / 'ppo.zip'}"
        raise ValueError(
            f"{error}: --episodes {shlex.quote(f'{config.episodes} --policy {policy}'.strip())}"
        ) from error


def stages(config: Config) -> list[Stage]:
    """The commands of the chain, in order."""
    root = Path(config.output_dir)
    data, vae, latents = str(root / "data"), str(root / "vae"), str(root / "latents")
    world, seed = str(root / "world"), ["--seed", str(config.seed)]
    env, of_data, unet = ["--env_id", config.env_id], ["--dataset", data], [*seed, "--latents", latents, "--output_dir"]
    of_vae, of_world = [*seed, *of_data, "--vae", vae], [*seed, "--world", world]
    first = str(root / "first_unet")
    warm = [] if config.first_unet == "skip" else ["--pretrained_model_name_or_path", f"{first}/world"]
    missed = [] if config.first_unet == "skip" or config.all_turns else ["--missed_by", f"{first}/world"]
    tuned = ["--no-decoder"] if config.decoder == "skip" else []  # an earlier start may have made one
    turns = [
        ("first_unet", "train_unet", [*unet, first], config.first_unet),
        ("turns", "mark_turns", [*of_data, "--latents", latents, *missed], config.turns),
    ]
    plan = [
        ("agent", "train_agent", [*env, *seed, "--record_dir", data, "--output_dir", f"{root}/agent"], config.agent),
        ("episodes", "record_episodes", [*env, *seed, "--output_dir", data], config.episodes),
        ("vae", "train_vae", [*seed, *of_data, "--output_dir", vae], config.vae),
        ("latents", "encode_latents", [*of_data, "--vae", vae, "--output_dir", latents], config.latents),
        *(reversed(turns) if config.all_turns else turns),
        ("unet", "train_unet", [*unet, str(root / "unet"), *warm], config.unet),
        ("decoder", "finetune_decoder", [*of_vae, "--output_dir", f"{root}/decoder"], config.decoder),
        ("world", "export_world", ["--run", str(root), *tuned, "--output_dir", world], config.world),
        ("rollout", "rollout", [*of_world, "--output", f"{root}/rollout.gif"], config.rollout),
        ("evaluation", "evaluate", [*of_world, *of_data, "--output_dir", f"{root}/eval"], config.evaluation),
    ]
    launched = {"train_vae", "encode_latents", "train_unet", "finetune_decoder"}
    ranks, launch = launcher(config.num_processes)
    # The same global batch on one core as on two.
    whole_batch = [] if torch.cuda.is_available() else ["--gradient_accumulation_steps", str(max(1, 2 // ranks))]
    return [
        Stage(
            name,
            [
                *(launch if script in launched else [sys.executable]),
                str(SCRIPTS / f"{script}.py"),
                *flags,
                *(whole_batch if script in launched - {"encode_latents"} else []),
                *shlex.split(extra),
            ],
        )
        for name, script, flags, extra in plan
        if extra != "skip"
    ]


def launcher(num_processes: int) -> tuple[int, list[str]]:
    """The number of ranks, and the command that starts them."""
    gpus = torch.cuda.device_count()
    ranks = num_processes or gpus or min(2, os.cpu_count() or 1)
    if ranks == 1:
        return ranks, [sys.executable]
    if gpus:
        return ranks, [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", f"--num_processes={ranks}"]
    return ranks, [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]


def environment(num_processes: int) -> dict[str, str]:
    """The stages' environment: on CPUs each rank has its share of the cores, unless the user has chosen otherwise."""
    if torch.cuda.is_available():
        return dict(os.environ)
    threads = max(1, (os.cpu_count() or 1) // launcher(num_processes)[0])
    # `accelerate launch` on CPUs starts one rank however many are asked for: torch's launcher, and this.
    return {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "true", **os.environ}


if __name__ == "__main__":
    main(parse(PRESETS))
