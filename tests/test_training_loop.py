"""gamengen.training.loop: what is learned depends on the config alone, not on interruptions, splits or ranks."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gamengen.contract import CodecContract
from gamengen.diffusion.denoiser import Denoiser, DenoiserConfig, build_unet
from gamengen.diffusion.loss import LatentDiffusionLoss, LossConfig
from gamengen.diffusion.sampler import sample, stacked_denoise
from gamengen.diffusion.schedule import build_scheduler, read_schedule
from gamengen.durable import DamagedFile, folder_lock
from gamengen.latents.windows import Windows
from gamengen.training.loop import Modules, TrainingConfig, load_weights, train
from tests.ranks import run_on_ranks
from tests.train_tiny import CONFIG, GLOBAL_BATCH, Stop, run
from tests.worlds import MemoryRows, counted_rows, flat_scene, tiny_contract, tiny_game, tiny_unet

ROOT = Path(__file__).resolve().parent.parent


def checkpoint_state(folder: Path) -> dict[str, Any]:
    """All that the next step would depend on."""
    state = torch.load(folder / "training_state.pt", weights_only=True)
    del state["seconds"]
    for name in ("unet", "unet_ema"):
        module = tiny_unet(tiny_contract(), seed=99)
        load_weights(module, folder / name)
        state[name] = module.state_dict()
    return state


def assert_same(left: Any, right: Any, where: str = "state", atol: float = 0.0) -> None:
    if isinstance(left, Tensor):
        if atol:
            torch.testing.assert_close(left, right, rtol=0, atol=atol, msg=lambda text: f"{where}: {text}")
        else:
            assert torch.equal(left, right), where
    elif isinstance(left, Mapping):
        assert left.keys() == right.keys(), where
        for key in left:
            assert_same(left[key], right[key], f"{where}.{key}", atol)
    elif isinstance(left, list):
        assert len(left) == len(right), where
        for i, (a, b) in enumerate(zip(left, right, strict=True)):
            assert_same(a, b, f"{where}[{i}]", atol)
    else:
        assert left == right, where


def weights(modules: Modules) -> dict[str, Tensor]:
    return dict(modules["unet"].state_dict())


def figures(folder: Path) -> dict[int, dict[str, float]]:
    """The newest line of each step, without those of validations; what a clock measured is left out."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    return {line.pop("step"): {k: line[k] for k in ("loss", "mse", "lr", "grad_norm")} for line in lines}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    modules, result = run(folder)
    assert result.steps == 6 and result.skipped_steps == 0
    return folder, weights(modules)


def test_training_changes_weights_and_leaves_the_averaged_ones(uninterrupted: tuple[Path, dict[str, Tensor]]) -> None:
    folder, final = uninterrupted
    state = checkpoint_state(folder / "checkpoint-6")
    assert_same(final, state["unet_ema"])
    for other in (state["unet"], tiny_unet(tiny_contract()).state_dict()):
        assert any(not torch.equal(value, other[name]) for name, value in final.items())
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


@pytest.mark.parametrize("stop_at", [1, 4, 5])  # before the first checkpoint, just after one, between two
def test_a_run_that_failed_in_the_middle_continues_as_if_nothing_had_been(
    stop_at: int, tmp_path: Path, uninterrupted: tuple[Path, dict[str, Tensor]]
) -> None:
    with pytest.raises(Stop):
        run(tmp_path, stop_at=stop_at)
    modules, result = run(tmp_path)
    assert result.steps == 6
    assert_same(weights(modules), uninterrupted[1])
    assert_same(checkpoint_state(tmp_path / "checkpoint-6"), checkpoint_state(uninterrupted[0] / "checkpoint-6"))
    assert figures(tmp_path) == figures(uninterrupted[0])


def test_a_killed_process_continues_as_if_nothing_had_been(
    tmp_path: Path, uninterrupted: tuple[Path, dict[str, Tensor]]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.train_tiny", str(tmp_path), "{}", "5"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    modules, _ = run(tmp_path)
    assert_same(weights(modules), uninterrupted[1])
    assert_same(checkpoint_state(tmp_path / "checkpoint-6"), checkpoint_state(uninterrupted[0] / "checkpoint-6"))


def test_a_finished_run_starts_again_without_a_step(uninterrupted: tuple[Path, dict[str, Tensor]]) -> None:
    folder, final = uninterrupted
    before = (folder / "metrics.jsonl").read_bytes()
    modules, result = run(folder, stop_at=6)
    assert result.steps == 6
    assert_same(weights(modules), final)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_batches_made_ahead_change_nothing(tmp_path: Path, uninterrupted: tuple[Path, dict[str, Tensor]]) -> None:
    modules, _ = run(tmp_path, replace(CONFIG, dataloader_num_workers=2))
    assert_same(weights(modules), uninterrupted[1])


@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulation_equals_one_large_batch(
    accumulation: int, tmp_path: Path, uninterrupted: tuple[Path, dict[str, Tensor]]
) -> None:
    size = GLOBAL_BATCH // accumulation
    modules, _ = run(tmp_path, replace(CONFIG, train_batch_size=size, gradient_accumulation_steps=accumulation))
    assert_same(weights(modules), uninterrupted[1], atol=1e-6)
    for step, line in figures(tmp_path).items():
        assert line == pytest.approx(figures(uninterrupted[0])[step], rel=1e-4), step


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    """Also where one rank's loss is not a number: both skip the step."""
    _, result = run(tmp_path / "one", poison=(3,))
    assert result.skipped_steps == 1
    # With accumulation: every rank takes its part of each micro-batch, gradients meet in the last one.
    split = {"train_batch_size": GLOBAL_BATCH // 4, "gradient_accumulation_steps": 2, "num_processes": 2}
    config = json.dumps({**split, "poison": [3]})
    run_on_ranks(2, "tests.train_tiny", str(tmp_path), config, "-1")
    state, expected = (checkpoint_state(f / "checkpoint-6") for f in (tmp_path, tmp_path / "one"))
    for part in ("unet", "unet_ema"):
        assert_same(state[part], expected[part], part, atol=1e-6)
    assert state["global_batch"] == expected["global_batch"] == GLOBAL_BATCH
    assert state["skipped_steps"] == expected["skipped_steps"] == 1
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6, "one rank writes"
    for step, line in figures(tmp_path).items():
        expected_line = figures(tmp_path / "one")[step]
        known = {name for name, value in expected_line.items() if value is not None}
        assert {name for name, value in line.items() if value is not None} == known, step
        assert {k: line[k] for k in known} == pytest.approx({k: expected_line[k] for k in known}, rel=1e-4), step


def test_a_resumed_run_says_what_it_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, replace(CONFIG, max_train_steps=4))
    (tmp_path / "checkpoint-4" / "unet" / "config.json").write_text("{}")
    with caplog.at_level(logging.WARNING):
        run(tmp_path, replace(CONFIG, max_train_steps=5))
    assert "checkpoint-4" in caplog.text and "falling back to the checkpoint before it" in caplog.text
    for checkpoint in tmp_path.glob("checkpoint-*"):
        (checkpoint / "training_state.pt").unlink()
    with pytest.raises(DamagedFile, match="every checkpoint .* is damaged.*--resume_from_checkpoint none"):
        run(tmp_path)
    assert len(list(tmp_path.glob("checkpoint-*"))) == 2, "nothing is thrown away without being asked"


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    """Such as the tasks of a cluster's launcher that know nothing of each other, each a first rank."""
    with folder_lock(tmp_path), pytest.raises(ValueError, match="another process trains into .*torchrun or accelerate"):
        run(tmp_path)
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize("wanted", [True, False])
def test_algorithms_are_deterministic_while_training_only(wanted: bool, tmp_path: Path) -> None:
    seen: list[bool] = []

    def validate(modules: Modules, step: int) -> Mapping[str, Any]:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return {}

    run(tmp_path, replace(CONFIG, max_train_steps=1, deterministic=wanted), validate=validate)
    assert seen == [wanted] and not torch.are_deterministic_algorithms_enabled()


def test_validation_sees_the_averaged_weights_and_changes_nothing(
    tmp_path: Path, uninterrupted: tuple[Path, dict[str, Tensor]]
) -> None:
    seen: dict[int, dict[str, Tensor]] = {}

    def validate(modules: Modules, step: int) -> Mapping[str, Any]:
        unet = modules["unet"]
        assert not unet.training and not torch.is_grad_enabled()
        seen[step] = {name: value.clone() for name, value in unet.state_dict().items()}
        torch.randn(3)  # whatever it draws
        return {"psnr": 1.5, "rollout": np.zeros((1, 4, 4, 3), np.uint8)}

    modules, _ = run(tmp_path, replace(CONFIG, validation_steps=4), validate=validate)
    assert sorted(seen) == [4, 6], "every validation_steps, and at the end"
    assert_same(weights(modules), uninterrupted[1])
    for step, values in seen.items():
        assert_same(values, checkpoint_state(tmp_path / f"checkpoint-{step}")["unet_ema"])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "val/psnr" in line] == [4, 6]


SIZE = 8


def moved(cell: Tensor, action: Tensor) -> Tensor:
    """The toy game: a bright cell (row, column) goes left or right, and stops at the walls."""
    step = torch.where(action == 1, -1, torch.where(action == 2, 1, 0))
    return torch.stack([cell[..., 0], (cell[..., 1] + step).clamp(0, SIZE - 1)], dim=-1)


def drawn(cells: Tensor) -> Tensor:
    frames = torch.zeros(len(cells), 1, SIZE, SIZE)
    frames[torch.arange(len(cells)), 0, cells[:, 0], cells[:, 1]] = 1.0
    return frames


def toy_rows(num_episodes: int, length: int, seed: int) -> MemoryRows:
    generator = torch.Generator().manual_seed(seed)
    rows = counted_rows([length] * num_episodes)
    actions = torch.randint(0, 3, (num_episodes, length), generator=generator)
    cells = [torch.randint(0, SIZE, (num_episodes, 2), generator=generator)]
    for t in range(length - 1):
        cells.append(moved(cells[-1], actions[:, t]))
    arrays = drawn(torch.stack(cells, dim=1).flatten(0, 1))
    actions[:, -1] = -1
    return replace(rows, arrays=arrays, actions=actions.flatten())


def test_a_tiny_denoiser_learns_a_toy_game_and_obeys_its_actions(tmp_path: Path) -> None:
    length = 2
    codec = CodecContract(
        game=tiny_game(SIZE),
        kind="identity",
        fingerprint="identity",
        array_shape=(1, SIZE, SIZE),
        array_dtype="float32",
        mean=(0.0,),
        std=(0.25,),
    )
    contract = tiny_contract(codec, length=length)
    torch.manual_seed(0)
    shape = DenoiserConfig(block_out_channels=(16, 24), layers_per_block=1, cross_attention_dim=16, norm_num_groups=4)
    unet = build_unet(shape, contract)
    schedule = read_schedule(build_scheduler("v_prediction"))
    told = LossConfig(moving_threshold=0.5, self_rollout_steps=0)
    loss = LatentDiffusionLoss(told, contract, schedule, flat_scene(contract))
    windows = Windows(toy_rows(64, 16, seed=0), contract.game, length)
    config = TrainingConfig(
        max_train_steps=200,
        train_batch_size=16,
        learning_rate=8e-3,
        checkpointing_steps=0,
        validation_steps=0,
        ema_max_decay=0.98,
        report_to="none",
    )

    def batch_fn(step: int, indices: Sequence[int]) -> dict[str, Tensor]:
        batch = windows.shuffled(0, [step * 16 + i for i in indices])
        return batch.tensors()

    train(config, {"unet": unet}, loss, batch_fn, tmp_path)

    held_out = Windows(toy_rows(16, 16, seed=1), contract.game, length)
    batch = held_out.at(torch.arange(len(held_out)))
    context, truth = loss.normalise(batch.context), loss.normalise(batch.targets)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    denoiser, bucket = Denoiser(unet, contract), torch.zeros(len(truth), dtype=torch.int64)

    def predict(actions: Tensor) -> Tensor:
        with torch.no_grad():
            return sample(stacked_denoise(denoiser, context, actions, bucket, 1.0), schedule, noise, 1)

    copy_last = float((context[:, -1] - truth).square().mean())
    error = float((predict(batch.actions) - truth).square().mean())
    assert error < copy_last / 3, f"{error:.3f}, copying the last frame gives {copy_last:.3f}"
    newest = batch.context[:, -1].flatten(1).argmax(1)
    cells = torch.stack([newest // SIZE, newest % SIZE], dim=1)
    for action in range(3):  # what would have happened under another action
        actions = batch.actions.clone()
        actions[:, -1] = action
        found = predict(actions).flatten(1).argmax(1)
        wanted = drawn(moved(cells, actions[:, -1])).flatten(1).argmax(1)
        accuracy = float((found == wanted).float().mean())
        assert accuracy > 0.9, f"action {action}: {accuracy:.2f}"
