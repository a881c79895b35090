"""How many processes a launcher was asked for, and whether it really started them as ranks of one run."""

from __future__ import annotations

import os
from collections.abc import Mapping

_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


def check_ranks(
    started: int, asked: int | None = None, device: str = "cpu", environment: Mapping[str, str] = os.environ
) -> None:
    """Refuse another number of ranks than was asked for, by a flag or by what the launcher's environment says.

    Some launchers start one process where several were asked for, or several that know nothing of each other, and do
    not say so (`accelerate launch --cpu --num_processes 2` is one of them).

    Args:
        started: ranks that there are.
        asked: by the user; what the environment says when None.
        device: `cpu`, `cuda`, ...: the advice in the error is for it.
    Raises:
        ValueError: both numbers, and the command that starts as many as were asked for.
    """
    wanted, by = (asked, f"--num_processes {asked}") if asked is not None else _announced(environment)
    if wanted is None or wanted == started:
        return
    several = wanted if wanted > 1 else "N"
    command = f"python -m torch.distributed.run --nproc_per_node {several}"
    raise ValueError(
        f"{by} was asked for, the launcher started {started}. Use "
        f"{'ACCELERATE_USE_CPU=true ' if device == 'cpu' else ''}{command}, or give --num_processes {started} if that "
        "is what you want"
    )


def _announced(environment: Mapping[str, str]) -> tuple[int | None, str]:
    """How many ranks the environment promises (0: more than one, nobody knows how many), and who says so."""
    for name in _SIZES:
        if name in environment:
            return int(environment[name]), f"{name}={environment[name]}"
    # Only inside a step of srun: in the shell of an allocation one process is one process.
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        tasks = environment["SLURM_STEP_NUM_TASKS"]
        return int(tasks), f"srun with {tasks} tasks"
    if "MASTER_PORT" in environment:  # accelerate's plain launcher sets it when it is asked for several processes
        return 0, f"more than one process (MASTER_PORT={environment['MASTER_PORT']})"
    return None, ""
