"""docs/slurm.sh: a job that bash can read, whose every flag is known, and that trains over two machines (of one)."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.run import get_args_parser

from gamengen.config import parse
from gamengen.training.checkpoints import newest_checkpoint
from tests.crash_programs import latents
from tests.test_scripts import load
from tests.test_training_loop import ROOT, assert_same

SCRIPT = ROOT / "docs" / "slurm.sh"
STUBS = {
    # What SLURM would run on each machine, here one after the other or side by side.
    "scontrol": "echo localhost; echo other",
    "srun": """shift
for node in $(seq $SLURM_NNODES); do SLURM_NODEID=$((node - 1)) "$@" & jobs="$jobs $!"; done
for job in $jobs; do wait $job || failed=1; done; exit ${failed:-0}""",
}


def start(folder: Path, python: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    for name, text in STUBS.items():
        (bin_folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (bin_folder / name).chmod(0o755)
    given = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n[0-1]",
        "SLURM_JOB_ID": "4711", "LATENTS": str(folder / "latents"), "RUN": str(folder / "run"), "PYTHON": python,
    }  # fmt: skip
    return subprocess.run(
        ["bash", str(SCRIPT), *flags], cwd=ROOT, env={**os.environ, **given, **environment}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_bash_reads_it_and_the_cluster_is_told_what_it_needs() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    told = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SCRIPT.read_text(), flags=re.MULTILINE))
    assert {"nodes", "gpus-per-node", "time", "requeue"} <= set(told)
    assert told["ntasks-per-node"] == "1", "torchrun starts the ranks of a machine"
    assert told["open-mode"] == "append", "a job that is queued again keeps its log"


def test_every_flag_is_one_that_torchrun_and_the_trainer_know(tmp_path: Path) -> None:
    """Seen from the command that each machine would run."""
    shown = tmp_path / "python"
    shown.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {tmp_path}/node-$SLURM_NODEID\n')
    shown.chmod(0o755)
    done = start(tmp_path, str(shown), "--preset", "tiny", "--seed", "3", GPUS="4")
    assert done.returncode == 0, done.stderr
    commands = [(tmp_path / f"node-{node}").read_text().splitlines() for node in range(2)]
    assert commands[0] == commands[1] and commands[0][:2] == ["-m", "torch.distributed.run"]
    launcher = get_args_parser().parse_args(commands[0][2:])
    assert (launcher.nnodes, launcher.nproc_per_node, launcher.rdzv_backend) == ("2", "4", "c10d")
    assert re.fullmatch(r"localhost:2\d{4}", launcher.rdzv_endpoint) and launcher.rdzv_id == "4711"
    assert launcher.training_script == "scripts/train_unet.py"
    trainer = load(ROOT / launcher.training_script)
    config = parse(trainer.PRESETS, launcher.training_script_args, "")
    assert config.training.num_processes == 8 and config.training.seed == 3 and config.preset == "tiny"
    assert config.latents == str(tmp_path / "latents") and config.output_dir == str(tmp_path / "run")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    done = start(tmp_path, "python", LATENTS="")
    assert done.returncode != 0 and "LATENTS: the folder of scripts/encode_latents.py" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_machines_train_the_world_of_one(tmp_path: Path) -> None:
    """Two torchruns that find each other over the loopback, one CPU rank each; then one process with both batches."""
    latents(tmp_path)
    flags = [
        "--preset", "tiny", "--max_train_steps", "3", "--lr_warmup_steps", "0", "--adam_epsilon", "1e-3",
        "--context_length", "2", "--num_validation_windows", "2",
    ]  # fmt: skip
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    cpu = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = start(tmp_path, sys.executable, *flags, "--train_batch_size", "2", GPUS="1", PORT=port, **cpu)
    assert done.returncode == 0, done.stderr[-3000:]
    trainer = load(ROOT / "scripts" / "train_unet.py")
    one = ["--latents", str(tmp_path / "latents"), "--output_dir", str(tmp_path / "one"), "--train_batch_size", "4"]
    trainer.main(parse(trainer.PRESETS, [*flags, *one], ""))
    states = []
    for folder in ("run", "one"):
        checkpoint = newest_checkpoint(tmp_path / folder)
        assert checkpoint is not None and checkpoint.name == "checkpoint-3"
        states.append(torch.load(checkpoint / "training_state.pt", weights_only=True)["optimizer"]["state"])
    assert_same(states[0], states[1], atol=1e-5)
