"""The state of one training run, and what is done with it: an optimizer step, validation, saving, resuming."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import GradientAccumulationPlugin, broadcast, broadcast_object_list, set_seed
from torch import Tensor, nn

from gamengen.manifest import verify_manifest
from gamengen.noise import Noise, key_of, training_noise
from gamengen.training.checkpoints import newest_checkpoint, prune_checkpoints, publish_checkpoint, step_of
from gamengen.training.config import Batch, LossFunction, Modules, TrainingConfig, TrainingResult
from gamengen.training.optimizer import build_optimizer, learning_rate
from gamengen.training.prefetch import Prefetch
from gamengen.training.ranks import check_ranks
from gamengen.training.state import (
    Contract,
    Snapshot,
    build_average,
    check_contract,
    forward_precision,
    keep_float32,
    load_average,
    load_optimizer,
    load_weights,
    make_whole,
    read_state,
    whole,
    whole_modules,
)
from gamengen.training.tracking import MetricsLog, sum_and_count

MAX_SKIPPED_STEPS = 10
"""Steps with a non-finite gradient, one after another, before training gives up."""


class _LossModule(nn.Module):
    """One module around all of them, so that data parallel wrappers see every parameter and one forward."""

    def __init__(self, modules: Modules, loss_fn: LossFunction) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(cast(dict[str, nn.Module], modules))
        self.loss_fn = loss_fn
        kinds = {type(module).__name__ for module in self.modules()}
        named = {name for part in modules.values() for name in getattr(part, "_no_split_modules", None) or ()}
        self._no_split_modules = sorted(named & kinds)  # where FSDP may cut, as diffusers says

    def forward(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        output = self.loss_fn(cast(Modules, dict(self.parts.items())), batch, noise)
        return output.per_sample, output.logs


class TrainingRun:
    """The state of one training run and the few things that are done with it."""

    def __init__(
        self, config: TrainingConfig, modules: Modules, loss_fn: LossFunction, output_dir: Path,
        contract: Contract | None = None,
    ) -> None:  # fmt: skip
        self.config, self.modules, self.output_dir, self.contract = config, modules, output_dir, contract
        self.step = self.skipped_steps = self.skipped_in_a_row = 0
        self.saved_step = -1
        self.seconds = self.fetch_seconds = self.step_seconds = 0.0
        self.logs: dict[str, float] = {}
        if AcceleratorState._shared_state.get("_mixed_precision", config.mixed_precision) != config.mixed_precision:
            AcceleratorState._reset_state()  # else an earlier run in this process would forbid this one's precision
        # The run accumulates by itself: what the launcher's environment says would divide the loss a second time.
        once = GradientAccumulationPlugin(num_steps=1)
        self.accelerator = Accelerator(mixed_precision=config.mixed_precision, gradient_accumulation_plugin=once)
        ranks = self.accelerator.num_processes
        check_ranks(ranks, config.num_processes, self.accelerator.device.type)
        if config.allow_tf32:
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
        set_seed(config.seed)
        self.trained = {name: m for name, m in modules.items() if any(p.requires_grad for p in m.parameters())}
        for module in modules.values():
            module.to(self.accelerator.device)
        self._set_train_mode()
        for module in self.trained.values():
            if config.gradient_checkpointing:
                module.enable_gradient_checkpointing()
            if config.compile:
                module.compile()
        keep_float32(self.accelerator)
        self.global_batch = config.train_batch_size * config.gradient_accumulation_steps * ranks
        self.base_rate = config.learning_rate * (self.global_batch if config.scale_lr else 1)
        self.loss_module, self.optimizer = self.accelerator.prepare(
            _LossModule(modules, loss_fn), build_optimizer(config, self._trained_parameters())
        )
        self.parameters = self._trained_parameters()  # FSDP puts others in their place
        # After `prepare`, which gives every rank the first rank's weights.
        self.ema = build_average(config, self.parameters) if config.use_ema else None
        self.metrics = MetricsLog(config, output_dir, enabled=self.accelerator.is_main_process)

    def _trained_parameters(self) -> list[nn.Parameter]:
        """A list: an iterator would be empty after the first gradient clipping."""
        return [p for module in self.trained.values() for p in module.parameters() if p.requires_grad]

    def progress(self) -> float:
        """Share of the budget used, equal on all ranks."""
        progress = self.step / self.config.max_train_steps
        if self.config.max_train_minutes is not None:
            by_time = torch.tensor(self.seconds / 60 / self.config.max_train_minutes, device=self.accelerator.device)
            progress = max(progress, float(broadcast(by_time)))
        return progress

    def optimize(self, batch_fn: Prefetch) -> dict[str, float]:
        """One optimizer step over the whole global batch."""
        started = time.perf_counter()
        rate = learning_rate(self.config, self.base_rate, self.step, self.progress())
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        totals: dict[str, Tensor] = {}
        # What a network draws by itself, such as dropout, follows from the step too and not from what was drawn before.
        torch.manual_seed(key_of("step", self.config.seed, self.step, self.accelerator.process_index))
        for indices, context in self._micro_batches():
            fetch_started = time.perf_counter()
            batch = {
                k: v.to(self.accelerator.device, non_blocking=True) for k, v in batch_fn(self.step, indices).items()
            }
            noise = training_noise(self.config.seed, self.step, indices, self.accelerator.device)
            self.fetch_seconds += time.perf_counter() - fetch_started
            with context, forward_precision(self.accelerator):
                per_sample, logs = self.loss_module(batch, noise)
                loss = per_sample.mean() / self.config.gradient_accumulation_steps
                self.accelerator.backward(loss)
            for name, value in {"loss": per_sample.detach().mean(), **logs}.items():
                totals[name] = totals.get(name, 0.0) + sum_and_count(value)
        norm = whole(self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm))
        self._apply(norm)
        totals = cast(dict[str, Tensor], self.accelerator.reduce(totals, reduction="sum"))
        means = {name: float(total / count) for name, (total, count) in totals.items() if count > 0}
        self.logs = {**means, "lr": rate, "grad_norm": float(norm)}
        elapsed = time.perf_counter() - started
        self.seconds += elapsed
        self.step_seconds += elapsed
        self.metrics.log({**self.logs, "samples_per_second": self.global_batch / elapsed}, self.step)
        return self.logs

    def _micro_batches(self) -> Iterator[tuple[list[int], contextlib.AbstractContextManager[Any]]]:
        """This rank's indices of the global batch, micro-batch by micro-batch, gradients synchronised in the last."""
        size, ranks = self.config.train_batch_size, self.accelerator.num_processes
        for micro in range(self.config.gradient_accumulation_steps):
            first = (micro * ranks + self.accelerator.process_index) * size
            last = micro == self.config.gradient_accumulation_steps - 1
            yield (
                list(range(first, first + size)),
                contextlib.nullcontext() if last else self.accelerator.no_sync(self.loss_module),
            )

    def _apply(self, norm: Tensor) -> None:
        """Use the gradients, or drop them when they are not finite. The same on all ranks: the norm is over all."""
        self.step += 1
        scaler = self.accelerator.scaler
        finite = bool(torch.isfinite(norm))
        if finite or scaler is not None:
            self.optimizer.step()  # with fp16 the scaler drops what is not finite, and lowers its scale
        self.optimizer.zero_grad(set_to_none=True)
        if finite:
            self.skipped_in_a_row = 0
            if self.ema is not None:
                self.ema.step(self.parameters)
            return
        self.skipped_steps += 1
        self.skipped_in_a_row += 1
        # A scale that is still above 1 may be all that is wrong.
        if self.skipped_in_a_row >= MAX_SKIPPED_STEPS and (scaler is None or scaler.get_scale() < 1.0):
            self.skipped_in_a_row = 0  # the cause removed, the same command gets as many attempts again
            self.save()
            raise FloatingPointError(
                f"the gradient was not finite in {MAX_SKIPPED_STEPS} steps in a row, up to step {self.step}; "
                f"the last finite state is in {self.output_dir}. Lower --learning_rate or look for damaged data"
            )

    def _set_train_mode(self) -> None:
        """What is trained in training mode, what only helps (such as a perceptual network) in evaluation mode."""
        for name, module in self.modules.items():
            module.train(name in self.trained)

    @contextlib.contextmanager
    def ema_weights(self) -> Iterator[None]:
        """The EMA weights stand in the modules inside this block."""
        if self.ema is None:
            yield
            return
        own = [parameter.detach().clone() for parameter in self.parameters]
        self._put(self.ema.shadow_params)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def validate(self, validate: Callable[[Modules, int], Mapping[str, Any]] | None) -> None:
        """Show the EMA weights to `validate`, on the main process; they are whole there, and its writing is safe."""
        if validate is None:
            return
        with self.ema_weights(), whole_modules(self.loss_module), torch.no_grad():
            if self.accelerator.is_main_process:
                for module in self.modules.values():
                    module.eval()
                self.metrics.log_validation(validate(self.modules, self.step), self.step)
                self._set_train_mode()
            self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Publish a checkpoint of everything that the next step depends on."""
        numbers = {
            "step": self.step,
            "seconds": self.seconds,
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self.skipped_in_a_row,
            "global_batch": self.global_batch,
            "ema_step": self.ema.optimization_step if self.ema else 0,
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }
        main = self.accelerator.is_main_process
        snapshot = Snapshot(
            self.trained, self.parameters, self.optimizer.state_dict(), self.ema, numbers, keep=main,
            contract=self.contract,
        )  # fmt: skip
        publish_checkpoint(
            self.output_dir, self.step, snapshot.write, is_main_process=main,
            barrier=self.accelerator.wait_for_everyone, total_limit=self.config.checkpoints_total_limit,
        )  # fmt: skip
        self.saved_step = self.step

    def resume(self) -> None:
        """Continue from the checkpoint that the config names, if there is one."""
        checkpoint = self._chosen_checkpoint()
        if checkpoint is None:
            return
        self.saved_step = step_of(checkpoint)
        if self.accelerator.is_main_process and checkpoint.parent == self.output_dir:  # what a kill has left
            prune_checkpoints(self.output_dir, self.saved_step, self.config.checkpoints_total_limit, keep_later=True)
        state = read_state(checkpoint)
        if state["global_batch"] != self.global_batch:
            raise ValueError(
                f"{checkpoint} was made with a global batch of {state['global_batch']}, "
                f"this run has {self.global_batch} (batch size x accumulation x processes); keep their product"
            )
        check_contract(checkpoint, self.contract)
        for name, module in self.trained.items():
            load_weights(module, checkpoint / name)
        if self.ema is not None:
            load_average(self.ema, state["ema_step"], self.trained, self.parameters, checkpoint)
        load_optimizer(self.optimizer, state["optimizer"], self.parameters)
        if state["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.skipped_steps = state["step"], state["seconds"], state["skipped_steps"]
        self.skipped_in_a_row = state.get("skipped_in_a_row", 0)
        self.accelerator.print(f"continuing from {checkpoint}")

    def _chosen_checkpoint(self) -> Path | None:
        """A checkpoint that verifies; the main process chooses it for all."""
        wanted = self.config.resume_from_checkpoint
        if wanted == "none":
            return None
        if wanted != "latest":
            checkpoint = Path(wanted)
            if not checkpoint.is_dir():
                raise FileNotFoundError(
                    f"resume_from_checkpoint: {checkpoint} does not exist; expected `latest`, `none` or a folder "
                    "named checkpoint-<step>"
                )
            step_of(checkpoint)
            verify_manifest(checkpoint)
            return checkpoint
        newest = newest_checkpoint(self.output_dir) if self.accelerator.is_main_process else None
        chosen = broadcast_object_list([newest])[0]
        if chosen is not None and not chosen.is_dir():
            raise FileNotFoundError(
                f"the first rank continues from {chosen}, which rank {self.accelerator.process_index} does not see: "
                "all machines need the same --output_dir, on a file system that they share"
            )
        return cast("Path | None", chosen)

    def finish(self) -> TrainingResult:
        """Leave the final weights in the modules."""
        if self.ema is not None:
            self._put(self.ema.shadow_params)
        make_whole(self.loss_module)
        for module in self.modules.values():
            module.eval()
        return TrainingResult(
            self.step, self.seconds, self.fetch_seconds, self.step_seconds, self.skipped_steps, dict(self.logs)
        )
