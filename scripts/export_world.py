"""Put a run's parts together into one world folder: UNet, codec with the fine-tuned decoder, contract, start states.

Reads   a run folder with unet/ and, where it was made, decoder/.
Writes  <output_dir>: what load_world, rollout, play and `GameNGenPipeline.from_pretrained` read, with a card that shows
        the run's figures and clip where they are of this world. With --push_to_hub also to the Hub.
Example
    python scripts/export_world.py --run runs/breakout --output_dir worlds/breakout --dtype float16
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from gamengen.config import parse
from gamengen.evaluation.card import with_figures
from gamengen.evaluation.identity import world_fingerprint
from gamengen.evaluation.report import REPORT_FILE, read_report
from gamengen.hub.repository import HubConfig
from gamengen.hub.world_push import push_world
from gamengen.loading import find_world, load_pipeline
from gamengen.run_folder import print_plan


@dataclass(frozen=True, kw_only=True)
class Config:
    """Put a run's parts together into one world folder."""

    preset: str = "default"
    run: str = tyro.MISSING
    """Run folder that holds unet/ (and decoder/)."""
    decoder: bool = True
    """Take the fine-tuned decoder where the run has one; --no-decoder keeps the VAE's own."""
    output_dir: str = tyro.MISSING
    dtype: Literal["float32", "float16"] = "float32"
    """float16 halves the folder; it loads as float32 under the default file names."""
    num_start_states: int | None = None
    """Keep this many start states, spread evenly; all by default."""
    preview: str | None = None
    """GIF for the card; <run>/rollout.gif when not given and made since the UNet was."""
    hub: HubConfig = field(default_factory=HubConfig)
    dry_run: bool = False


PRESETS = {"default": Config()}


def main(config: Config) -> Path | None:
    # Straight from the run's parts: <run>/world may be an older export.
    pipeline = load_pipeline(config.run, parts=True, decoder=config.decoder)
    parameters = sum(p.numel() for m in (pipeline.unet, pipeline.vae) for p in m.parameters())
    if config.dry_run:
        size = parameters * (2 if config.dtype == "float16" else 4) / 1e6
        print_plan("export_world", config, {"disk": f"{size:.1f} MB of weights"})
        return None
    if config.num_start_states is not None:
        starts = pipeline.start_states
        keep = torch.linspace(0, len(starts) - 1, min(config.num_start_states, len(starts))).round().int().tolist()
        pipeline.start_states = [starts[i] for i in keep]
    if config.dtype == "float16":
        pipeline.to(dtype=torch.float16)
    folder = Path(config.output_dir)
    pipeline.facts = replace(pipeline.facts, preview=preview(config))
    pipeline.save_pretrained(folder)
    if (report := evaluation(config, folder)) is not None:
        pipeline.facts = with_figures(pipeline.facts, report)
        pipeline.save_pretrained(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    print(
        f"wrote {folder}: {parameters / 1e6:.2f} M parameters, {size:.1f} MB, {len(pipeline.start_states)} start states"
    )
    if config.hub.push_to_hub:
        name, hub = config.hub.hub_model_id or folder.resolve().name, config.hub
        print(f"pushed: {push_world(pipeline, name, private=hub.hub_private_repo, token=hub.hub_token)}")
    return folder


def preview(config: Config) -> bytes | None:
    """The clip for the card: never one of an older UNet."""
    if config.preview is not None:
        return Path(config.preview).read_bytes()
    clip, weights = Path(config.run) / "rollout.gif", find_world(Path(config.run) / "unet") / "manifest.json"
    newer = clip.is_file() and weights.is_file() and clip.stat().st_mtime > weights.stat().st_mtime
    return clip.read_bytes() if newer else None


def evaluation(config: Config, folder: Path) -> dict[str, Any] | None:
    """The report of the run's evaluation, if it was one of exactly this world."""
    if not (Path(config.run) / "eval" / REPORT_FILE).is_file():
        return None
    report, _ = read_report(Path(config.run) / "eval")
    return report if report["fingerprints"]["world"] == world_fingerprint(folder) else None


if __name__ == "__main__":
    main(parse(PRESETS))
