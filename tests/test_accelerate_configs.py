"""accelerate_configs/: accelerate's own loader takes each, and none of them holds a hyperparameter."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file

FILES = sorted((Path(__file__).parent.parent / "accelerate_configs").glob("*.yaml"))


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


def test_fsdp_settings_reach_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key of `fsdp_config` is one that `accelerate launch` knows as `--fsdp_...`."""
    from accelerate.commands.launch import launch_command_parser

    known = {action.dest for action in launch_command_parser()._actions}
    settings = load_config_from_file(str(next(file for file in FILES if file.stem == "fsdp"))).fsdp_config
    assert settings and set(settings) <= known
