"""gamengen.training.run: one optimizer step, averaging, resuming, and numbers gone wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from gamengen.contract import CodecContract, ContractMismatch
from gamengen.durable import DamagedFile
from gamengen.manifest import verify_manifest
from gamengen.noise import Noise
from gamengen.training.checkpoints import newest_checkpoint
from gamengen.training.loop import Batch, LossOutput, Modules, TrainingConfig, train
from gamengen.training.run import MAX_SKIPPED_STEPS, TrainingRun
from tests.worlds import tiny_game

CONFIG = TrainingConfig(
    max_train_steps=5,
    train_batch_size=4,
    learning_rate=0.1,
    lr_scheduler="constant",
    checkpointing_steps=0,
    validation_steps=0,
    report_to="none",
)


class Line(ModelMixin, ConfigMixin):
    """y = w x + b, a model small enough to recompute by hand."""

    @register_to_config
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)[:, 0]


def make_line(seed: int = 0) -> Line:
    torch.manual_seed(seed)
    return Line()


def batch_fn(step: int, indices: Sequence[int]) -> dict[str, Tensor]:
    """A pure function of (step, index)."""
    rows = torch.tensor([[step, i, 1.0] for i in indices])
    return {"x": torch.sin(rows * 1.3), "y": rows.sum(1)}


def loss_fn(modules: Modules, batch: Batch, noise: Noise) -> LossOutput:
    error = (modules["line"](batch["x"]) - batch["y"]) ** 2
    return LossOutput(error, {"mse": error.detach().mean()})


def optimizer_state(folder: Path) -> dict[str, Any]:
    checkpoint = newest_checkpoint(folder)
    assert checkpoint is not None
    state: dict[str, Any] = torch.load(checkpoint / "training_state.pt", weights_only=True)
    return state


def steps_logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_gradients_are_clipped_in_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter object as the list of parameters is empty after the first step: clipping was off from step 2 on."""
    norms: list[float] = []

    class Spy(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            gradients = [p.grad for group in self.param_groups for p in group["params"]]
            norms.append(float(torch.cat([g.flatten() for g in gradients]).norm()))
            return super().step(closure)

    monkeypatch.setattr("gamengen.training.run.build_optimizer", lambda config, p: Spy(p, lr=config.learning_rate))
    train(replace(CONFIG, learning_rate=1e-3), {"line": make_line()}, loss_fn, batch_fn, tmp_path)
    assert norms == pytest.approx([1.0] * 5, rel=1e-4), "the error is large: every gradient is longer than 1"
    assert all(line["grad_norm"] > 1.0 for line in steps_logged(tmp_path)), "what is logged is the length before"


def test_the_average_has_its_closed_form(tmp_path: Path) -> None:
    config = replace(CONFIG, max_train_steps=12, ema_max_decay=0.8, ema_power=0.75, ema_inv_gamma=2.0)
    history: list[Tensor] = []
    line = make_line()
    run = TrainingRun(config, {"line": line}, loss_fn, tmp_path)
    average = line.linear.weight.detach().clone()
    for _ in range(config.max_train_steps):
        run.optimize(batch_fn)  # type: ignore[arg-type]
        history.append(line.linear.weight.detach().clone())
    for step, value in enumerate(history):
        # Source: the warm-up of crowsonkb: 1 - (1 + n / inv_gamma) ^ -power, at most the maximal decay.
        decay = min(0.8, 1 - (1 + step / 2.0) ** -0.75) if step > 0 else 0.0
        average = decay * average + (1 - decay) * value
    run.finish()
    torch.testing.assert_close(line.linear.weight.detach(), average, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(average, history[-1], atol=1e-3)


def test_without_averaging_the_last_weights_stay(tmp_path: Path) -> None:
    line = make_line()
    train(replace(CONFIG, use_ema=False), {"line": line}, loss_fn, batch_fn, tmp_path)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None and not (checkpoint / "line_ema").exists()
    saved = Line.from_pretrained(checkpoint / "line")
    assert torch.equal(saved.linear.weight, line.linear.weight)


def test_steps_equal_a_loop_written_by_hand(tmp_path: Path) -> None:
    config = replace(CONFIG, use_ema=False, lr_scheduler="cosine", lr_warmup_steps=2, gradient_accumulation_steps=2)
    trained, line = make_line(), make_line()
    train(config, {"line": trained}, loss_fn, batch_fn, tmp_path)
    optimizer = torch.optim.AdamW(line.parameters(), betas=(0.9, 0.99), weight_decay=1e-2, eps=1e-8)
    for step in range(5):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * min(1.0, (step + 1) / 2) * 0.5 * (1 + math.cos(math.pi * step / 5))
        batch = batch_fn(step, range(8))
        loss = (line(batch["x"]) - batch["y"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(line.parameters(), 1.0)
        optimizer.step()
        assert steps_logged(tmp_path)[step]["loss"] == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(trained.linear.weight, line.linear.weight, rtol=1e-5, atol=1e-6)


def test_the_launchers_environment_does_not_divide_the_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(CONFIG, {"line": make_line()}, loss_fn, batch_fn, tmp_path / "plain")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    train(CONFIG, {"line": make_line()}, loss_fn, batch_fn, tmp_path / "launched")
    plain, launched = ([line["grad_norm"] for line in steps_logged(tmp_path / name)] for name in ("plain", "launched"))
    assert plain == launched


class Breaking:
    """A loss that is not a number in some steps. A step is known by its x."""

    def __init__(self, bad: Callable[[int], bool]) -> None:
        self.bad, self.calls = bad, 0

    def __call__(self, modules: Modules, batch: Batch, noise: Noise) -> LossOutput:
        output = loss_fn(modules, batch, noise)
        bad, self.calls = self.bad(self.calls), self.calls + 1
        return LossOutput(output.per_sample * (math.nan if bad else 1.0), output.logs)


def test_a_step_with_a_broken_loss_is_skipped_and_counted(tmp_path: Path) -> None:
    line, states = make_line(), []
    run = TrainingRun(CONFIG, {"line": line}, Breaking(lambda n: n in (1, 3)), tmp_path)
    for _ in range(5):
        run.optimize(batch_fn)  # type: ignore[arg-type]
        assert run.ema is not None
        states.append((line.linear.weight.detach().clone(), run.ema.shadow_params[0].clone()))
    assert run.skipped_steps == 2 and run.step == 5
    for skipped in (1, 3):
        assert all(torch.equal(a, b) for a, b in zip(states[skipped], states[skipped - 1], strict=True))
    for used in (2, 4):
        assert not torch.equal(states[used][0], states[used - 1][0])
    assert all(bool(value.isfinite().all()) for pair in states for value in pair)
    run.save()
    assert optimizer_state(tmp_path)["skipped_steps"] == 2


def test_training_gives_up_after_ten_broken_steps_and_leaves_a_finite_state(tmp_path: Path) -> None:
    config = replace(CONFIG, max_train_steps=100)
    with pytest.raises(FloatingPointError, match=f"not finite in {MAX_SKIPPED_STEPS} steps in a row.*--learning_rate"):
        train(config, {"line": make_line()}, Breaking(lambda n: n >= 3), batch_fn, tmp_path)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None
    for part in ("line", "line_ema"):
        saved = Line.from_pretrained(checkpoint / part)
        assert bool(saved.linear.weight.isfinite().all())
    for values in optimizer_state(tmp_path)["optimizer"]["state"].values():
        assert all(bool(v.isfinite().all()) for v in values.values())
    # The cause removed, the same command goes on from there.
    assert train(replace(config, max_train_steps=20), {"line": make_line()}, loss_fn, batch_fn, tmp_path).steps == 20


def test_broken_steps_are_counted_over_a_resume(tmp_path: Path) -> None:
    """Killed between the sixth and the seventh broken step: the tenth is still the last."""
    config = replace(CONFIG, max_train_steps=100, checkpointing_steps=9)
    run = TrainingRun(config, {"line": make_line()}, Breaking(lambda n: n >= 3), tmp_path)
    for _ in range(9):
        run.optimize(batch_fn)  # type: ignore[arg-type]
    run.save()
    with pytest.raises(FloatingPointError, match="up to step 13"):
        train(config, {"line": make_line()}, Breaking(lambda n: True), batch_fn, tmp_path)


def test_half_precision_lowers_its_scale_first_and_then_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fp16 path with a real GradScaler; Accelerate itself allows it on accelerators only."""

    def with_scaler(bad: Callable[[int], bool]) -> TrainingRun:
        run = TrainingRun(CONFIG, {"line": make_line()}, Breaking(bad), tmp_path)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
        run.accelerator.scaler, run.accelerator.native_amp = scaler, True
        run.optimizer = AcceleratedOptimizer(run.optimizer.optimizer, device_placement=False, scaler=scaler)
        run.accelerator._optimizers = [run.optimizer]
        return run

    monkeypatch.setattr("accelerate.Accelerator.mixed_precision", property(lambda self: "fp16"))
    plain = TrainingRun(CONFIG, {"line": make_line()}, loss_fn, tmp_path / "plain")
    run = with_scaler(lambda n: n == 1)
    for step in range(3):
        before = [p.detach().clone() for p in run.parameters]
        run.optimize(batch_fn)  # type: ignore[arg-type]
        same = all(torch.equal(a, b) for a, b in zip(before, run.parameters, strict=True))
        assert same == (step == 1) and run.skipped_steps == (step >= 1)
        if step != 1:
            plain.step = step
            plain.optimize(batch_fn)  # type: ignore[arg-type]
    assert run.ema is not None and run.ema.optimization_step == 2, "a step that was dropped is no step of the average"
    for value, expected in zip(run.parameters, plain.parameters, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    assert run.accelerator.scaler.get_scale() == 2.0**11
    run.save()
    resumed = with_scaler(lambda n: True)
    resumed.resume()
    assert resumed.accelerator.scaler.get_scale() == 2.0**11 and resumed.skipped_steps == 1
    with pytest.raises(FloatingPointError):
        for _ in range(30):
            resumed.optimize(batch_fn)  # type: ignore[arg-type]
    assert resumed.accelerator.scaler.get_scale() < 1.0 and resumed.skipped_steps == 1 + 12
    assert all(bool(p.isfinite().all()) for p in resumed.parameters)


def test_nine_broken_steps_are_forgiven(tmp_path: Path) -> None:
    config = replace(CONFIG, max_train_steps=25)
    result = train(config, {"line": make_line()}, Breaking(lambda n: n % 10 != 9), batch_fn, tmp_path)
    assert result.steps == 25 and result.skipped_steps == 23


def test_bf16_is_autocast_over_float32_weights(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    def seeing(modules: Modules, batch: Batch, noise: Noise) -> LossOutput:
        seen.append(modules["line"](batch["x"]).dtype)
        return loss_fn(modules, batch, noise)

    line = make_line()
    config = replace(CONFIG, mixed_precision="bf16", learning_rate=1e-4)
    train(config, {"line": line}, seeing, batch_fn, tmp_path / "bf16")
    assert set(seen) == {torch.bfloat16}
    state = optimizer_state(tmp_path / "bf16")["optimizer"]["state"]
    tensors = [*line.parameters(), *(v for values in state.values() for v in values.values())]
    assert {t.dtype for t in tensors} == {torch.float32}
    # Updates of 1e-4 would be lost in bf16 weights of this size.
    assert (line.linear.weight - make_line().linear.weight).abs().max().item() > 1e-5
    # A second run of the same process may have another precision.
    seen.clear()
    train(replace(config, mixed_precision="no"), {"line": make_line()}, seeing, batch_fn, tmp_path / "float32")
    assert set(seen) == {torch.float32}


def test_another_number_of_ranks_than_asked_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--num_processes 2 was asked for, the launcher started 1.*nproc_per_node 2"):
        train(replace(CONFIG, num_processes=2), {"line": make_line()}, loss_fn, batch_fn, tmp_path)
    train(replace(CONFIG, num_processes=1), {"line": make_line()}, loss_fn, batch_fn, tmp_path)


def test_another_global_batch_is_refused_at_resume(tmp_path: Path) -> None:
    train(CONFIG, {"line": make_line()}, loss_fn, batch_fn, tmp_path)
    longer = replace(CONFIG, max_train_steps=8)
    with pytest.raises(ValueError, match="global batch of 4, this run has 8"):
        train(replace(longer, train_batch_size=8), {"line": make_line()}, loss_fn, batch_fn, tmp_path)
    split = replace(longer, train_batch_size=2, gradient_accumulation_steps=2)
    assert train(split, {"line": make_line()}, loss_fn, batch_fn, tmp_path).steps == 8


def test_a_checkpoint_of_another_game_is_refused_though_its_weights_fit(tmp_path: Path) -> None:
    game = tiny_game()
    codec = CodecContract(
        game=game, kind="identity", fingerprint="identity", array_shape=(3, 4, 4), array_dtype="uint8", mean=(0.1,)
    )
    longer = replace(CONFIG, max_train_steps=6)
    for contract, other in ((game, replace(game, env_id="Other-v0")), (codec, replace(codec, fingerprint="other"))):
        folder = tmp_path / type(contract).__name__
        train(CONFIG, {"line": make_line()}, loss_fn, batch_fn, folder, contract=contract)
        verify_manifest(folder / "checkpoint-5")
        with pytest.raises(ContractMismatch, match=r"[oO]ther.*contract\.json"):
            train(longer, {"line": make_line()}, loss_fn, batch_fn, folder, contract=other)
        more = replace(contract, mean=(0.2,)) if isinstance(contract, CodecContract) else contract
        assert train(longer, {"line": make_line()}, loss_fn, batch_fn, folder, contract=more).steps == 6


def test_a_checkpoint_that_names_no_game_is_continued(tmp_path: Path) -> None:
    train(CONFIG, {"line": make_line()}, loss_fn, batch_fn, tmp_path)
    assert not (tmp_path / "checkpoint-5" / "contract.json").exists()
    longer = replace(CONFIG, max_train_steps=6)
    assert train(longer, {"line": make_line()}, loss_fn, batch_fn, tmp_path, contract=tiny_game()).steps == 6


def test_resume_from_a_path_and_from_nothing(tmp_path: Path) -> None:
    config = replace(CONFIG, checkpointing_steps=1, checkpoints_total_limit=None)
    train(config, {"line": make_line()}, loss_fn, batch_fn, tmp_path)
    old = replace(config, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    run = TrainingRun(old, {"line": make_line()}, loss_fn, tmp_path)
    run.resume()
    assert run.step == 2
    run = TrainingRun(replace(config, resume_from_checkpoint="none"), {"line": make_line()}, loss_fn, tmp_path)
    run.resume()
    assert run.step == 0
    for wrong, error in ((tmp_path / "checkpoint-9", FileNotFoundError), (tmp_path, ValueError)):
        run = TrainingRun(replace(config, resume_from_checkpoint=str(wrong)), {"line": make_line()}, loss_fn, tmp_path)
        with pytest.raises(error):
            run.resume()
    (tmp_path / "checkpoint-2" / "training_state.pt").write_bytes(b"damaged")
    with pytest.raises(DamagedFile, match="training_state.pt"):
        TrainingRun(old, {"line": make_line()}, loss_fn, tmp_path).resume()


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(tmp_path: Path) -> None:
    config = replace(CONFIG, checkpointing_steps=2)
    whole, repaired = make_line(), make_line()
    train(config, {"line": whole}, loss_fn, batch_fn, tmp_path)
    (tmp_path / "checkpoint-5" / "training_state.pt").write_bytes(b"damaged")
    train(config, {"line": repaired}, loss_fn, batch_fn, tmp_path)
    assert torch.equal(whole.linear.weight, repaired.linear.weight)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_optimizers_learn_and_resume(optimizer: Any, tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer=optimizer, max_train_steps=40, checkpointing_steps=20)
    line = make_line()
    train(config, {"line": line}, loss_fn, batch_fn, tmp_path / "whole")
    losses = [entry["loss"] for entry in steps_logged(tmp_path / "whole")]
    assert all(map(math.isfinite, losses))
    resumed = make_line()
    train(replace(config, max_train_steps=20), {"line": make_line()}, loss_fn, batch_fn, tmp_path / "parts")
    train(config, {"line": resumed}, loss_fn, batch_fn, tmp_path / "parts")
    assert torch.equal(line.linear.weight, resumed.linear.weight)
    assert not torch.equal(line.linear.weight, make_line().linear.weight)


def test_what_is_not_trained_stays_and_is_evaluated(tmp_path: Path) -> None:
    line, frozen = make_line(), make_line(1)
    frozen.requires_grad_(False)
    line.eval()  # as `from_pretrained` leaves it
    before = frozen.linear.weight.clone()
    modes: list[tuple[bool, bool]] = []

    def seeing(modules: Modules, batch: Batch, noise: Noise) -> LossOutput:
        modes.append((modules["line"].training, modules["frozen"].training))
        return loss_fn(modules, batch, noise)

    modules: Modules = {"line": line, "frozen": frozen}
    config = replace(CONFIG, validation_steps=2)
    train(config, modules, seeing, batch_fn, tmp_path, validate=lambda modules, step: {})
    assert set(modes) == {(True, False)}, "before and after a validation alike"
    assert torch.equal(frozen.linear.weight, before)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None and not (checkpoint / "frozen").exists()


def test_only_the_parameters_that_ask_for_it_are_trained(tmp_path: Path) -> None:
    line = make_line()
    line.linear.weight.requires_grad_(False)
    before = line.linear.weight.clone()
    train(CONFIG, {"line": line}, loss_fn, batch_fn, tmp_path)
    assert torch.equal(line.linear.weight, before)
    assert not torch.equal(line.linear.bias, make_line().linear.bias)


def test_figures_that_only_some_samples_have_are_averaged_over_those(tmp_path: Path) -> None:
    """Over micro-batches too: the mean over what is known, not the mean of the means."""

    def some(modules: Modules, batch: Batch, noise: Noise) -> LossOutput:
        output = loss_fn(modules, batch, noise)
        index = batch["y"] - batch["x"].new_tensor(0.0)
        known = index.where(index == index.min(), torch.nan) if len(noise.keys) == 2 else index
        return LossOutput(output.per_sample, {"known": known, "nothing": torch.full_like(known, torch.nan)})

    config = replace(CONFIG, max_train_steps=1, train_batch_size=2, gradient_accumulation_steps=2)
    train(config, {"line": make_line()}, some, batch_fn, tmp_path)
    (logged,) = steps_logged(tmp_path)
    first, third = batch_fn(0, [0])["y"], batch_fn(0, [2])["y"]
    assert logged["known"] == pytest.approx(float(first + third) / 2)
    assert "nothing" not in logged


def test_scale_lr_multiplies_by_the_global_batch(tmp_path: Path) -> None:
    config = replace(CONFIG, max_train_steps=1, scale_lr=True, gradient_accumulation_steps=3, learning_rate=1e-4)
    train(config, {"line": make_line()}, loss_fn, batch_fn, tmp_path)
    assert steps_logged(tmp_path)[0]["lr"] == pytest.approx(1e-4 * 12)


class Dropping(Line):
    """A network that draws by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.nn.functional.dropout(x, 0.5, self.training))


def test_what_a_network_draws_by_itself_is_resumed_too(tmp_path: Path) -> None:
    def run(folder: Path, *ends: int) -> Tensor:
        for end in ends:
            torch.manual_seed(0)
            line = Dropping()
            torch.randn(end)  # another history of draws
            train(replace(CONFIG, max_train_steps=end), {"line": line}, loss_fn, batch_fn, folder)
        return line.linear.weight.detach()

    whole = run(tmp_path / "whole", 6)
    assert torch.equal(run(tmp_path / "parts", 1, 4, 6), whole)
    torch.manual_seed(0)
    line = Line()
    train(replace(CONFIG, max_train_steps=6), {"line": line}, loss_fn, batch_fn, tmp_path / "without")
    assert not torch.equal(line.linear.weight, whole)


def test_a_run_limited_by_minutes_is_resumed_exactly_but_for_its_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every step takes as long as it did the first time, so does the run: the clock is all that it depends on."""
    config = replace(
        CONFIG, lr_scheduler="cosine", lr_warmup_steps=0, max_train_steps=10**6, max_train_minutes=0.2,
        checkpointing_steps=3,
    )  # fmt: skip
    calls = iter(range(10**6))
    monkeypatch.setattr("gamengen.training.run.time.perf_counter", lambda: next(calls) * 0.25)  # a step: 4 calls
    whole, killed, resumed = make_line(), make_line(), make_line()
    result = train(config, {"line": whole}, loss_fn, batch_fn, tmp_path / "whole")
    assert result.steps == 16 and result.seconds == pytest.approx(12.0)

    def dying(step: int, indices: Sequence[int]) -> dict[str, Tensor]:
        if step == 8:
            raise KeyboardInterrupt
        return batch_fn(step, indices)

    with pytest.raises(KeyboardInterrupt):
        train(config, {"line": killed}, loss_fn, dying, tmp_path / "parts")
    result = train(config, {"line": resumed}, loss_fn, batch_fn, tmp_path / "parts")
    assert result.steps == 16 and result.seconds == pytest.approx(12.0), "the two lost steps are given again"
    assert torch.equal(whole.linear.weight, resumed.linear.weight)


def test_a_run_limited_by_minutes_stops_annealed(tmp_path: Path) -> None:
    config = replace(CONFIG, lr_scheduler="cosine", lr_warmup_steps=0, max_train_steps=10**6, max_train_minutes=0.01)
    result = train(config, {"line": make_line()}, loss_fn, batch_fn, tmp_path)
    assert 1 < result.steps < 10**6 and result.seconds >= 0.6
    assert steps_logged(tmp_path)[-1]["lr"] < 0.01 * config.learning_rate
    assert newest_checkpoint(tmp_path) == tmp_path / f"checkpoint-{result.steps}"
    # The time of both sessions counts: nothing is left.
    assert train(config, {"line": make_line()}, loss_fn, batch_fn, tmp_path).steps == result.steps
