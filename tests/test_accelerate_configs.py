"""accelerate_configs/: accelerate's own loader takes each, and none of them holds a hyperparameter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

from tests.crash_programs import latents

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "accelerate_configs").glob("*.yaml"))


def test_the_topologies_are_there() -> None:
    assert [file.stem for file in FILES] == ["cpu", "fsdp", "multi_gpu", "multi_node", "single_gpu"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_accelerate_reads_it(file: Path) -> None:
    config = load_config_from_file(str(file))
    assert isinstance(config, ClusterConfig)
    expected = {"fsdp": "FSDP", "multi_gpu": "MULTI_GPU", "multi_node": "MULTI_GPU"}.get(file.stem, "NO")
    assert config.distributed_type.value == expected
    assert config.use_cpu is (file.stem == "cpu")
    assert config.num_processes % config.num_machines == 0
    assert (config.num_machines > 1) is (file.stem == "multi_node")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_holds_launch_topology_only(file: Path) -> None:
    values = yaml.safe_load(file.read_text())
    hyperparameters = {
        "mixed_precision",
        "downcast_bf16",
        "dynamo_config",
        "gradient_accumulation_steps",
        "deepspeed_config",
    }
    assert not hyperparameters & set(values)
    assert "main_process_ip" not in values  # an address belongs to a cluster, not to a project


def test_a_launcher_that_starts_one_rank_for_two_is_caught(tmp_path: Path) -> None:
    """Accelerate's own launcher, told of two processes on CPUs, starts one and says nothing."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os\nfrom gamengen.training.ranks import check_ranks\nprint('ranks', os.environ.get('WORLD_SIZE', 1))\n"
        "check_ranks(int(os.environ.get('WORLD_SIZE', 1)))\n"
    )
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", str(program)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert "ranks 1" in done.stdout and done.returncode != 0
    assert "more than one process" in done.stderr and "torch.distributed.run --nproc_per_node" in done.stderr


@pytest.mark.slow
def test_the_cpu_topology_launches_a_trainer(tmp_path: Path) -> None:
    latents(tmp_path)
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(FILES[0])]
    flags = ["--preset", "tiny", "--latents", str(tmp_path / "latents"), "--output_dir", str(tmp_path / "run")]
    small = ["--max_train_steps", "1", "--num_validation_windows", "1", "--context_length", "2"]
    done = subprocess.run(
        [*command, "scripts/train_unet.py", *flags, *small], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "world" / "model_index.json").is_file()


def test_fsdp_settings_reach_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key of `fsdp_config` is one that `accelerate launch` knows as `--fsdp_...`."""
    from accelerate.commands.launch import launch_command_parser

    known = {action.dest for action in launch_command_parser()._actions}
    settings = load_config_from_file(str(next(file for file in FILES if file.stem == "fsdp"))).fsdp_config
    assert settings and set(settings) <= known
