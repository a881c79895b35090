"""gamengen.training.state: a checkpoint holds whole tensors, and each kind of run continues what another has saved."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.training_utils import EMAModel

from gamengen.training.state import (
    STATE_FILE,
    Snapshot,
    load_average,
    load_optimizer,
    load_weights,
    placed_like,
    read_state,
    whole,
    whole_modules,
)
from tests.ranks import run_on_ranks
from tests.test_training_loop import assert_same, checkpoint_state, figures
from tests.test_training_run import Line, make_line
from tests.train_tiny import CONFIG, GLOBAL_BATCH, run


def a_state(seed: int) -> tuple[Line, torch.optim.AdamW, EMAModel]:
    """A module, its optimizer after a step, and an average of its own."""
    line = make_line(seed)
    optimizer = torch.optim.AdamW(line.parameters(), lr=0.1)
    line(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    ema = EMAModel(line.parameters(), decay=0.9)
    line(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    ema.step(line.parameters())
    return line, optimizer, ema


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    line, optimizer, ema = a_state(0)
    numbers = {"step": 7, "seconds": 0.1 + 0.2}
    Snapshot({"line": line}, list(line.parameters()), optimizer.state_dict(), ema, numbers, keep=True).write(tmp_path)
    other, other_optimizer, other_ema = a_state(1)
    state = read_state(tmp_path)
    assert {name: state[name] for name in numbers} == numbers
    load_weights(other, tmp_path / "line")
    own = [p.detach().clone() for p in other.parameters()]
    load_average(other_ema, 5, {"line": other}, list(other.parameters()), tmp_path)
    load_optimizer(other_optimizer, state["optimizer"], list(other.parameters()))
    assert_same(dict(other.state_dict()), dict(line.state_dict()))
    assert_same(list(own), [p.detach() for p in other.parameters()])
    assert_same(list(other_ema.shadow_params), list(ema.shadow_params))
    assert other_ema.optimization_step == 5
    assert_same(other_optimizer.state_dict(), optimizer.state_dict())


def test_the_folders_are_what_from_pretrained_reads(tmp_path: Path) -> None:
    line, optimizer, ema = a_state(0)
    line.to(memory_format=torch.channels_last)
    snapshot = Snapshot({"line": line}, list(line.parameters()), optimizer.state_dict(), ema, {}, keep=True)
    line.register_to_config(_name_or_path=str(tmp_path))
    snapshot.write(tmp_path)
    assert str(tmp_path) not in (tmp_path / "line" / "config.json").read_text(), "no path of this machine"
    assert torch.equal(Line.from_pretrained(tmp_path / "line").linear.weight, line.linear.weight)
    assert torch.equal(Line.from_pretrained(tmp_path / "line_ema").linear.weight, ema.shadow_params[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["line", "line_ema", STATE_FILE]


def test_a_snapshot_on_a_rank_that_does_not_write_holds_nothing() -> None:
    line, optimizer, _ = a_state(0)
    snapshot = Snapshot({"line": line}, list(line.parameters()), optimizer.state_dict(), None, {}, keep=False)
    assert all(value.numel() == 0 for value in snapshot._weights["line"][1].values())


def test_weights_of_another_module_are_refused(tmp_path: Path) -> None:
    """diffusers makes up weights that a file lacks, and says so in a log."""
    longer = make_line()
    longer.register_buffer("more", torch.zeros(1))
    make_line(1).save_pretrained(tmp_path / "line")
    Line(4).save_pretrained(tmp_path / "wide")
    before = longer.linear.weight.clone()
    with pytest.raises(ValueError, match="line does not hold the weights of this module: more differ"):
        load_weights(longer, tmp_path / "line")
    with pytest.raises(ValueError, match=r"wide does not hold .*linear\.weight differ"):
        load_weights(make_line(), tmp_path / "wide")
    assert torch.equal(longer.linear.weight, before)


def test_tensors_that_nobody_shares_are_left_alone() -> None:
    value = torch.arange(3.0)
    assert whole(value) is value and placed_like(value, torch.zeros(3)) is value
    with whole_modules(make_line()):
        pass


def validated(folder: Path) -> dict[str, torch.Tensor]:
    """What one rank alone saw and wrote."""
    return dict(UNet2DConditionModel.from_pretrained(folder / "validated").state_dict())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_shared_weights_stay_float32_under_autocast(tmp_path: Path) -> None:
    """FSDP2 would gather them as bfloat16, and a world would be written with three digits."""
    half = {"train_batch_size": GLOBAL_BATCH // 2, "num_processes": 2, "max_train_steps": 2, "mixed_precision": "bf16"}
    launch(tmp_path / "fsdp", "tests.train_fsdp", 2, half)
    seen = validated(tmp_path / "fsdp")
    assert {value.dtype for value in seen.values()} == {torch.float32}
    assert any(not torch.equal(value, value.bfloat16().float()) for value in seen.values())
    assert_same(seen, checkpoint_state(tmp_path / "fsdp" / "checkpoint-2")["unet_ema"])
    run(tmp_path / "float32", replace(CONFIG, max_train_steps=2))
    losses = [[line["loss"] for line in figures(tmp_path / name).values()] for name in ("fsdp", "float32")]
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != pytest.approx(losses[1], rel=1e-6)


def launch(folder: Path, program: str, ranks: int, config: dict[str, Any], kill_at: int = -1) -> int:
    return run_on_ranks(ranks, program, str(folder), json.dumps(config), str(kill_at), may_fail=kill_at >= 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ranks_that_share_the_weights_equal_one_rank_and_continue_each_others_runs(tmp_path: Path) -> None:
    """FSDP2 over two CPU ranks: killed and continued, then taken over by one process that holds everything."""
    run(tmp_path / "one")
    expected = checkpoint_state(tmp_path / "one" / "checkpoint-6")
    half = {"train_batch_size": GLOBAL_BATCH // 2, "num_processes": 2}
    launch(tmp_path / "fsdp", "tests.train_fsdp", 2, half)
    state = checkpoint_state(tmp_path / "fsdp" / "checkpoint-6")
    for part in ("unet", "unet_ema", "optimizer"):
        assert_same(state[part], expected[part], part, atol=1e-6)
    for step, line in figures(tmp_path / "fsdp").items():
        assert line == pytest.approx(figures(tmp_path / "one")[step], rel=1e-4), step

    assert_same(validated(tmp_path / "fsdp"), state["unet_ema"])

    assert launch(tmp_path / "killed", "tests.train_fsdp", 2, half, kill_at=5) != 0
    assert (tmp_path / "killed" / "checkpoint-4").is_dir() and not (tmp_path / "killed" / "checkpoint-6").exists()
    launch(tmp_path / "killed", "tests.train_fsdp", 2, half)
    assert_same(checkpoint_state(tmp_path / "killed" / "checkpoint-6"), state)

    assert launch(tmp_path / "handed", "tests.train_fsdp", 2, half, kill_at=5) != 0
    run(tmp_path / "handed")
    handed = checkpoint_state(tmp_path / "handed" / "checkpoint-6")
    for part in ("unet", "unet_ema", "optimizer"):
        assert_same(handed[part], expected[part], part, atol=1e-6)
