"""Measure a world on held-out episodes: pictures, objects, control, drift, speed, each with its interval.

Reads   a world (or run) folder or a Hub id, and the episode dataset it was trained on.
Writes  <output_dir>/report.json (every figure with its sample count and 95 % interval), report.html (open it in a
        browser), plots/*.png, parts/ (raw values: the same command again goes on where it was stopped), and the
        figures into the world's model card.
Example
    gamengen evaluate --world runs/breakout --dataset data/breakout --split test --output_dir runs/breakout/eval
    gamengen evaluate --compare runs/a/eval runs/b/eval
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from gamengen.config import to_plain
from gamengen.contract import GameContract, check_compatible, read_game_contract
from gamengen.dataset.episodes import SPLITS, dataset_fingerprint
from gamengen.evaluation.card import update_card
from gamengen.evaluation.compare import compare
from gamengen.evaluation.identity import surroundings, world_fingerprint
from gamengen.evaluation.networks import find_networks
from gamengen.evaluation.real_game import find_real_game
from gamengen.evaluation.recordings import Recordings
from gamengen.evaluation.report import write_report
from gamengen.evaluation.run import evaluate
from gamengen.evaluation.study import Study
from gamengen.evaluation.suite import Scale, suite
from gamengen.evaluation.summary import summary_section, table_text
from gamengen.hub.repository import resolve_dataset
from gamengen.loading import find_world, load_world
from gamengen.run_folder import RunFolder, package_versions, print_plan

CLIP_SHARE = 0.2
"""Of a bounded time, for dreaming the best, median and worst samples again."""

IGNORED = (
    "world", "revision", "dataset", "dataset_revision", "train_dataset", "max_minutes", "with_clips", "write_card",
    "compare",
)  # fmt: skip
"""Fields that may differ when an evaluation is continued: weights and data are known by their fingerprints."""

LoadAgent = Callable[[str, GameContract], Any]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measure a world on held-out episodes."""

    preset: str = "default"
    world: str = ""
    """World folder, run folder or Hub id."""
    revision: str | None = None
    """Branch, tag or commit of a world on the Hub."""
    variant: str | None = None
    """Form of its weights, such as `fp16`."""
    dataset: str = ""
    """Episode dataset of the same game, a folder or Hub id."""
    dataset_revision: str | None = None
    train_dataset: str = ""
    """Where DATASET has held-out episodes alone: the dataset whose training split the action reader and the limits of
    drift are made from, such as the one that the world was trained on."""
    split: str = "test"
    """`test` or `validation`: episodes that the world was not trained on."""
    output_dir: str = ""
    compare: tuple[str, ...] = ()
    """Output folders of evaluations to set side by side, instead of measuring anything; table and plot go to
    OUTPUT_DIR, by default the folder `compare` in the first of them."""
    scale: Scale = Scale()
    num_worlds: int = 8
    """Games stepped together."""
    max_minutes: float | None = None
    """Stop early: each metric gets its share of the time and uses fewer starts; the report says so."""
    lpips_weights: str | None = None
    """Folder with alexnet-*.pth (torchvision) and alex.pth (lpips); where they are missing the report says so."""
    fvd_weights: str | None = None
    """I3D TorchScript file for FVD."""
    agent: str | None = None
    """Stable-Baselines3 zip of an agent of this game; only from a checkout's scripts/evaluate.py."""
    with_clips: bool = True
    """Show the best, median and worst samples as clips; of a bounded time a fifth goes there."""
    write_card: bool = True
    """Write the figures into the world folder's model card."""
    seed: int = 0
    device: str = "auto"
    overwrite: bool = False
    dry_run: bool = False


PRESETS = {
    "default": Config(),
    # A minute on one slow core, for a world that plays 40 frames a second.
    "demo": Config(
        preset="demo",
        scale=Scale(
            num_starts=64, num_rollouts=8, horizon=64, steps=(1, 4), rollout_steps=(1, 4),
            metrics=("next_frame", "rollouts", "delta_psnr", "speed"),
        ),
        num_worlds=4,
        max_minutes=0.75,
    ),
    "tiny": Config(
        preset="tiny",
        scale=Scale(
            num_starts=4, num_rollouts=2, horizon=4, steps=(1,), rollout_steps=(1,),
            metrics=("next_frame", "rollouts", "speed"),
        ),
        num_worlds=2,
    ),
    # One GPU.
    "atari": Config(
        preset="atari", scale=Scale(num_starts=1024, num_rollouts=256, horizon=256), num_worlds=64
    ),
    # GameNGen (arXiv 2408.14837), section 5.1: 2048 held-out trajectories for next frames, 512 for FVD, four steps,
    # 64 autoregressive frames. Its five held-out levels are the held-out episodes here.
    "paper": Config(
        preset="paper",
        scale=Scale(
            num_starts=2048, steps=(4,), num_rollouts=512, horizon=64, rollout_steps=(4,),
            metrics=("next_frame", "rollouts", "speed"),
        ),
        num_worlds=64,
    ),
}  # fmt: skip


def main(config: Config, load_agent: LoadAgent | None = None) -> dict[str, Any]:
    """Measure, print and write; what report.json holds (nothing after a dry run or a comparison).

    Args:
        load_agent: (path, game) -> who plays, for --agent; this package knows no agents.
    """
    if config.compare:
        output = Path(config.output_dir or Path(config.compare[0]) / "compare")
        print(compare([Path(folder) for folder in config.compare], output))
        print(f"wrote {output / 'compare.html'} and compare.png")
        return {}
    if config.dry_run:
        print_plan("evaluate", config, _cost(config.scale))
        return {}
    _check(config, load_agent)
    folder = find_world(config.world, config.revision)
    dataset = resolve_dataset(config.dataset, revision=config.dataset_revision)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    study = _study(config, folder, dataset, device, load_agent)
    fingerprints = _fingerprints(config, study, dataset, device)
    run = RunFolder.open(
        config.output_dir, "evaluate", config, overwrite=config.overwrite,
        data_fingerprint=", ".join(f"{name} {value}" for name, value in fingerprints.items()), ignore=IGNORED,
    )  # fmt: skip
    study = replace(study, folder=run.path)
    networks = find_networks(config.lpips_weights, config.fvd_weights, study.agent, device)
    metrics = suite(study.world, config.scale, networks)
    minutes, clip_minutes = _minutes(config)
    with tqdm(desc="evaluating", unit="part") as bar:
        measured = evaluate(study, metrics, run.path, max_minutes=minutes, progress=_progress(bar))
    facts = _facts(config, study, fingerprints)
    record = {
        "config": to_plain(config), "seed": config.seed, "fingerprints": fingerprints, "facts": facts,
        "versions": package_versions(),
    }  # fmt: skip
    report = write_report(run.path, study, metrics, measured, facts, record, clip_minutes=clip_minutes)
    run.finish({"metrics": sorted(measured)})
    if config.write_card and Path(config.world).exists():
        update_card(folder, report, all_metrics=not config.scale.metrics)
    summary = summary_section({name: one.figures for name, one in measured.items()}, study.game.env_id)
    print("\n".join(table_text(table) for table in summary.tables))
    print(f"wrote {run.path / 'report.html'} and report.json")
    return report


def _fingerprints(config: Config, study: Study, dataset: Path, device: str) -> dict[str, str]:
    """Of all that the figures depend on; an evaluation with another of these is not continued."""
    found = {"dataset": dataset_fingerprint(dataset), "world": world_fingerprint(config.world, config.revision)}
    if config.train_dataset:
        found["train dataset"] = dataset_fingerprint(resolve_dataset(config.train_dataset))
    return found | surroundings(
        real_game=study.real_game is not None, agent=config.agent, lpips_weights=config.lpips_weights,
        fvd_weights=config.fvd_weights, device=device,
    )  # fmt: skip


def _study(config: Config, folder: Path, dataset: Path, device: str, load_agent: LoadAgent | None) -> Study:
    """World, episodes, real game and agent; refuses those that do not belong together."""
    game = read_game_contract(dataset)
    world, play_world = (
        load_world(config.world, number, device=device, revision=config.revision, variant=config.variant)
        for number in (config.num_worlds, 1)
    )
    check_compatible(game, world.contract, dataset, folder)
    agent = None if config.agent is None or load_agent is None else load_agent(config.agent, game)
    held_out, training = Recordings.open(dataset, config.split), _training(config, game, dataset)
    if config.train_dataset and training is not None:
        _check_apart(config, training, held_out)
    return Study(
        world=world, held_out=held_out, seed=config.seed, play_world=play_world,
        training=training, real_game=find_real_game(game, held_out), agent=agent,
    )  # fmt: skip


def _check(config: Config, load_agent: LoadAgent | None) -> None:
    absent = [name for name in ("world", "dataset", "output_dir") if not getattr(config, name)]
    if absent:
        raise ValueError(f"--{absent[0]} is missing: an evaluation needs --world, --dataset and --output_dir")
    if config.split == "train":
        raise ValueError(
            f"--split {config.split}: expected one of {', '.join(SPLITS[1:])}; figures on episodes that the world was "
            "trained on say nothing of any other"
        )
    if config.agent is not None and load_agent is None:
        raise ValueError("--agent needs the agents of a checkout: run scripts/evaluate.py of the repository")


def _minutes(config: Config) -> tuple[float | None, float | None]:
    """For measuring and for clips; None is without end."""
    if not config.with_clips:
        return config.max_minutes, 0.0
    if config.max_minutes is None:
        return None, None
    return (1 - CLIP_SHARE) * config.max_minutes, CLIP_SHARE * config.max_minutes


def _cost(scale: Scale) -> dict[str, str]:
    next_frames = scale.num_starts * len(scale.steps)
    rollouts = scale.num_rollouts * scale.horizon * len(scale.rollout_steps)
    return {"next frames": str(next_frames), "frames of rollouts": str(rollouts)}


def _training(config: Config, game: GameContract, dataset: Path) -> Recordings | None:
    if config.train_dataset:
        other = resolve_dataset(config.train_dataset)
        check_compatible(game, read_game_contract(other), dataset, other)
        return Recordings.open(other, "train")
    try:
        return Recordings.open(dataset, "train")
    except ValueError:
        return None  # a dataset of held-out episodes alone


def _check_apart(config: Config, training: Recordings, held_out: Recordings) -> None:
    shared = training.shared_with(held_out)
    if shared:
        raise ValueError(
            f"--train_dataset {config.train_dataset}: {len(shared)} of its training episodes, such as {shared[0]}, are "
            f"also held out in {config.dataset}; give the dataset that the world was trained on, or record held-out "
            "episodes with another --seed"
        )


def _progress(bar: Any) -> Callable[[str, int, int], None]:
    def show(metric: str, done: int, planned: int) -> None:
        if done == 0:
            bar.reset(total=planned)
        bar.set_description(metric.replace("_", " "))
        bar.update(done - bar.n)

    return show


def _facts(config: Config, study: Study, fingerprints: dict[str, str]) -> dict[str, str]:
    """For the head of the page."""
    lengths = study.held_out.lengths
    game, contract = study.game, study.world.contract
    return {
        "world": f"{config.world} ({fingerprints['world'][:12]})",
        "dataset": f"{config.dataset}, {config.split} ({fingerprints['dataset'][:12]})",
        "held out": f"{len(lengths)} episodes, {sum(lengths.values())} frames at {game.fps:g} a second",
        "kind": f"{contract.kind}, {contract.context_length} frames of context",
        "machine": fingerprints["machine"],
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seed": str(config.seed),
    }
