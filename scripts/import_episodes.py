"""Import recordings of your own game as an episode dataset: videos, images, .npz arrays or a Minari dataset.

Reads: INPUT, a folder of clips with their logs (or one clip, or a Minari dataset), and SPEC, a small YAML: the game,
its stream and its actions; docs/own-game.md walks through both.
Writes: OUTPUT_DIR, the dataset that scripts/record_episodes.py writes. A clip appears in it whole or not at all. Run
the same command again to continue after a kill, or to add the clips that have come since.

Example:
    python scripts/import_episodes.py --input recordings --spec recordings/game.yaml --output_dir data/mygame

Expected: 570 frames a second of one slow core's time from a lossless video of 160x210 (2026-11-21).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

from gamengen.config import parse
from gamengen.contract import CONTRACT_FILE
from gamengen.dataset.episode_writer import open_dataset
from gamengen.dataset.episodes import SPLITS, list_episodes
from gamengen.hub.dataset_push import push_dataset
from gamengen.hub.repository import HubConfig, open_repository
from gamengen.importing.importer import (
    Imported,
    Importer,
    ImportSettings,
    estimate_action_offset,
)
from gamengen.importing.offset import OffsetEstimate
from gamengen.importing.sources import open_clips
from gamengen.importing.spec import ImportSpec, read_spec
from gamengen.run_folder import RunFolder, print_plan


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to import."""

    preset: str = "default"
    input: str = tyro.MISSING
    """Folder of clips, one clip, a Minari dataset's folder, or `minari:` and the id of one."""
    spec: str = tyro.MISSING
    """YAML that describes the game and the log."""
    output_dir: str = tyro.MISSING
    """Dataset folder."""
    settings: ImportSettings = field(default_factory=ImportSettings)
    estimate_action_offset: bool = False
    """Print by how many frames the log seems to lead or lag, with the score of every shift, and stop."""
    max_shift: int = 6
    """Frames of the dataset: shifts that --estimate_action_offset tries, both ways."""
    trust_remote_code: bool = False
    """Make the environment that a Minari dataset names, to render what it does not hold: runs what it says."""
    hub: HubConfig = field(default_factory=HubConfig)
    dry_run: bool = False
    """Print the config and the clips, write nothing."""
    overwrite: bool = False
    """Remove the dataset in OUTPUT_DIR first."""


@dataclass(frozen=True)
class Import:
    """What has to be the same when an import goes on; where its files lie may change."""

    spec: ImportSpec
    settings: ImportSettings


PRESETS = {"default": Config()}


def main(config: Config) -> Imported | OffsetEstimate | None:
    """Import; what it gave. The estimate where that was asked for; None from a dry run."""
    spec = read_spec(config.spec)
    clips = open_clips(config.input, spec, config.trust_remote_code)
    if config.dry_run:
        print_plan("import_episodes", config, {"clips": ", ".join(clip.name for clip in clips)})
        return None
    if config.estimate_action_offset:
        return show_estimate(estimate_action_offset(clips, spec, config.max_shift), spec)
    folder = Path(config.output_dir)
    if config.overwrite and folder.exists():
        if not (folder / CONTRACT_FILE).is_file():
            raise ValueError(f"--overwrite: {folder} is no episode dataset (no {CONTRACT_FILE}); remove it yourself")
        shutil.rmtree(folder)
    importer = Importer(folder, spec, config.settings)
    open_repository(config.hub, "dataset", folder.resolve().name)  # before the work: whether it may be pushed
    open_dataset(folder, importer.game)
    file_name = f"run-{config.settings.name}.json"
    run = RunFolder.open(folder / "writers", "import_episodes", Import(spec, config.settings), file_name=file_name)
    with tqdm(unit="frame", desc="import") as bar:

        def show(clip: str, done: int, total: int) -> None:
            if done == 1:
                bar.reset(total)
                bar.set_postfix_str(clip, refresh=False)
            bar.update(done - bar.n)

        imported = importer.run(clips, show)
    run.finish({"clips": len(imported.clips), "steps": sum(report.steps for report in imported.clips)})
    show_imported(imported, spec, folder)
    push_dataset(folder, config.hub)
    return imported


def show_estimate(estimate: OffsetEstimate, spec: ImportSpec) -> OffsetEstimate:
    """Print the scores, and what to write into the YAML."""
    print(f"motion of {estimate.num_steps} steps, under action_offset: {spec.action_offset:g}\n{estimate.table()}")
    print(estimate.advice(spec.action_offset))
    return estimate


def show_imported(imported: Imported, spec: ImportSpec, folder: Path) -> None:
    """Print what became of every clip, and what is worth a look."""
    for report in imported.new_clips:
        print("\n".join(report.lines()))
    print(f"{len(imported.new_clips)} clips imported now, {len(imported.clips) - len(imported.new_clips)} before")
    counts = np.sum([report.actions for report in imported.clips], axis=0).tolist()
    steps = dict(zip((action.name for action in spec.actions), counts, strict=True))
    print("actions: " + ", ".join(f"{name} {count}" for name, count in steps.items()))
    never = [name for name, count in steps.items() if count == 0]
    if never:
        print(f"never pressed: {', '.join(never)}. The dream will not know them")
    estimate = imported.offset
    if estimate is not None:
        print(f"{estimate.advice(spec.action_offset)} ({estimate.reason})")
    count = {split: len(list_episodes(folder, split)) for split in SPLITS}
    print(f"wrote {sum(report.steps for report in imported.clips)} steps to {folder}; episodes: {count}")
    missing = [split for split in SPLITS if not count[split]]
    if missing:
        print(
            f"no {' and no '.join(missing)} episodes: import more clips, or cut them anew with --max_episode_frames "
            "and --overwrite"
        )


if __name__ == "__main__":
    main(parse(PRESETS))
