"""Put a run's parts together into one world folder: UNet, codec with the fine-tuned decoder, contract, start states.

Reads   a run folder with unet/ and, where it was made, decoder/.
Writes  <output_dir>: what load_world, rollout, play and `GameNGenPipeline.from_pretrained` read.
Example
    python scripts/export_world.py --run runs/breakout --output_dir worlds/breakout --dtype float16
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from gamengen.config import parse
from gamengen.loading import load_pipeline
from gamengen.run_folder import print_plan


@dataclass(frozen=True, kw_only=True)
class Config:
    """Put a run's parts together into one world folder."""

    preset: str = "default"
    run: str = tyro.MISSING
    """Run folder that holds unet/ (and decoder/)."""
    output_dir: str = tyro.MISSING
    dtype: Literal["float32", "float16"] = "float32"
    """float16 halves the folder; it loads as float32 under the default file names."""
    num_start_states: int | None = None
    """Keep this many start states, spread evenly; all by default."""
    dry_run: bool = False


PRESETS = {"default": Config()}


def main(config: Config) -> Path | None:
    # Straight from the run's parts: <run>/world may be an older export.
    pipeline = load_pipeline(config.run, parts=True)
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
    pipeline.save_pretrained(config.output_dir)
    folder = Path(config.output_dir)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    print(
        f"wrote {folder}: {parameters / 1e6:.2f} M parameters, {size:.1f} MB, {len(pipeline.start_states)} start states"
    )
    return folder


if __name__ == "__main__":
    main(parse(PRESETS))
