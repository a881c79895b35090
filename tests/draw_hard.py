"""Look for hard windows among 100 rows, six of which are far from the scene; print what was found and is drawn.

python -m torch.distributed.run --nproc_per_node 2 -m tests.draw_hard <folder>
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from gamengen.diffusion.drawing import DrawingConfig, prefer_hard
from gamengen.diffusion.loss import LatentDiffusionLoss, LossConfig
from gamengen.diffusion.schedule import build_scheduler, read_schedule
from gamengen.latents.windows import Windows
from tests.worlds import LENGTH, flat_scene, random_rows, tiny_contract, tiny_unet

FAR = (12, 33, 47, 60, 77, 93)
CONFIG = DrawingConfig(hard_share=0.25, hard_candidates=60)


def draw(folder: Path, config: DrawingConfig = CONFIG, seed: int = 0) -> list[int]:
    """Target rows of the first 40 windows. A new UNet predicts the scene: far from it is hard, and nothing else."""
    contract = tiny_contract(scene_prior=True)
    codec = contract.codec
    rows = random_rows(contract, lengths=(50, 50))
    size = torch.full((100, 1, 1, 1), 0.01)
    size[list(FAR)] = 3.0
    mean, std = (torch.tensor(value).view(-1, 1, 1) for value in (codec.mean, codec.std))
    rows.arrays.mul_(size).mul_(std).add_(mean)
    windows = Windows(rows, contract.game, LENGTH)
    schedule = read_schedule(build_scheduler("v_prediction"))
    loss = LatentDiffusionLoss(LossConfig(self_rollout_steps=0), contract, schedule, flat_scene(contract))
    prefer_hard(config, windows, tiny_unet(contract), loss, folder, after=1, seed=seed)
    found = windows.shuffled(seed, range(40)).targets.unsqueeze(1) - rows.arrays
    return [int(row) for row in found.flatten(2).abs().amax(2).argmin(1)]


if __name__ == "__main__":
    state = PartialState(cpu=True)
    targets = draw(Path(sys.argv[1]))
    (Path(sys.argv[1]) / f"rank{state.process_index}.json").write_text(json.dumps(targets))
