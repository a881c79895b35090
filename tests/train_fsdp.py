"""A training run of seconds whose weights are shared over ranks by FSDP2, on CPUs.

Accelerate switches to FSDP on accelerators only, so this program tells it that its gloo ranks are some. All that
follows is Accelerate's and torch's own: the plugin from accelerate_configs/fsdp.yaml, `fully_shard`, the gathering.

Example
    ACCELERATE_USE_CPU=true python -m torch.distributed.run --nproc_per_node 2 -m tests.train_fsdp <output_dir> '{}' -1
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from gamengen.training import run as training_run
from gamengen.training.loop import Modules
from tests.train_tiny import CONFIG, run
from tests.worlds import LENGTH

CONFIG_FILE = Path(__file__).parent.parent / "accelerate_configs" / "fsdp.yaml"


def use_fsdp() -> None:
    """What `accelerate launch --config_file accelerate_configs/fsdp.yaml` puts into the environment."""
    settings = yaml.safe_load(CONFIG_FILE.read_text())["fsdp_config"]
    os.environ["ACCELERATE_USE_FSDP"] = "true"
    for name, value in settings.items():
        os.environ[name.upper()] = str(value).lower() if isinstance(value, bool) else str(value)
    PartialState(cpu=True)
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


if __name__ == "__main__":
    torch.set_num_threads(1)
    use_fsdp()
    original = training_run.TrainingRun.optimize

    def checked(self: training_run.TrainingRun, batches: object) -> dict[str, float]:
        assert all(isinstance(parameter, DTensor) for parameter in self.parameters), "nothing is shared"
        return original(self, batches)  # type: ignore[arg-type]

    training_run.TrainingRun.optimize = checked  # type: ignore[method-assign]
    output_dir = Path(sys.argv[1])

    def validate(modules: Modules, step: int) -> dict[str, float]:
        """On one rank alone, as train_unet does it: use the weights, and write them."""
        unet = modules["unet"]
        values = [torch.zeros(1, unet.config["in_channels"], 8, 8), 0, torch.zeros(1, LENGTH, 19)]
        assert unet.dtype == torch.float32 and not any(isinstance(p, DTensor) for p in unet.parameters())
        for _ in range(2):
            unet(*values, timestep_cond=torch.zeros(1, unet.config["time_cond_proj_dim"]))
        unet.save_pretrained(output_dir / "validated")
        return {}

    config = replace(CONFIG, **json.loads(sys.argv[2]))
    run(output_dir, config, kill_at=int(sys.argv[3]), validate=validate)
