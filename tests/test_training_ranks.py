"""gamengen.training.ranks: as many ranks as were asked for, or an error that says how to start them."""

from __future__ import annotations

import pytest

from gamengen.training.ranks import check_ranks

TORCHRUN = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("started", "asked", "environment"),
    [
        (1, None, {}),
        (1, 1, {}),
        (2, None, TORCHRUN),
        (2, 2, TORCHRUN),
        (8, None, {**TORCHRUN, "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}),
        (1, None, {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}),  # the shell of an allocation
        (1, None, {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}),
        (1, 1, {"MASTER_PORT": "29500"}),  # said by hand: an address that some shell exports means nothing then
    ],
)
def test_the_number_that_was_asked_for_is_taken(started: int, asked: int | None, environment: dict[str, str]) -> None:
    check_ranks(started, asked, environment=environment)


@pytest.mark.parametrize(
    ("started", "asked", "environment", "message"),
    [
        (1, 2, {}, r"--num_processes 2 was asked for, the launcher started 1.*nproc_per_node 2"),
        (2, 1, TORCHRUN, r"--num_processes 1 was asked for, the launcher started 2"),
        (1, None, TORCHRUN, r"WORLD_SIZE=2 was asked for, the launcher started 1.*nproc_per_node 2"),
        (1, None, {"OMPI_COMM_WORLD_SIZE": "4"}, r"OMPI_COMM_WORLD_SIZE=4 was asked for"),
        (1, None, {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, r"srun with 4 tasks was asked for"),
        (1, None, {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, r"more than one process .*started 1"),
    ],
)
def test_another_number_is_refused_with_both(
    started: int, asked: int | None, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_ranks(started, asked, environment=environment)


def test_the_advice_is_for_the_device() -> None:
    for device, on_cpu in (("cpu", True), ("cuda", False)):
        with pytest.raises(ValueError) as error:
            check_ranks(1, 2, device, {})
        assert ("ACCELERATE_USE_CPU=true python" in str(error.value)) is on_cpu
