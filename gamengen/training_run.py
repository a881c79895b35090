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
from accelerate.utils import GradientAccumulationPlugin, broadcast, set_seed
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from gamengen.checkpoints import newest_checkpoint, publish_checkpoint, step_of, verify_manifest
from gamengen.noise import Noise, training_noise
from gamengen.optimizer import build_optimizer, learning_rate
from gamengen.prefetch import Prefetch
from gamengen.tracking import MetricsLog
from gamengen.training_config import Batch, LossFunction, Modules, TrainingConfig, TrainingResult

STATE_FILE = "training_state.pt"
MAX_SKIPPED_STEPS = 10
"""Steps with a non-finite gradient, one after another, before training gives up."""


class _LossModule(nn.Module):
    """One module around all of them, so that data parallel wrappers see every parameter and one forward."""

    def __init__(self, modules: Modules, loss_fn: LossFunction) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(cast(dict[str, nn.Module], modules))
        self.loss_fn = loss_fn

    def forward(self, batch: Batch, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        output = self.loss_fn(cast(Modules, dict(self.parts.items())), batch, noise)
        return output.per_sample, output.logs


class TrainingRun:
    """The state of one training run and the few things that are done with it."""

    def __init__(self, config: TrainingConfig, modules: Modules, loss_fn: LossFunction, output_dir: Path) -> None:
        self.config, self.modules, self.output_dir = config, modules, output_dir
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
        if config.num_processes is not None and config.num_processes != ranks:
            raise ValueError(
                f"--num_processes {config.num_processes} was asked for, the launcher started {ranks}. On CPUs use "
                f"ACCELERATE_USE_CPU=true python -m torch.distributed.run --nproc_per_node {config.num_processes}"
            )
        if config.allow_tf32:
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
        set_seed(config.seed)
        self.trained = {name: m for name, m in modules.items() if any(p.requires_grad for p in m.parameters())}
        # A list: an iterator would be empty after the first gradient clipping.
        self.parameters = [p for m in self.trained.values() for p in m.parameters() if p.requires_grad]
        for module in modules.values():
            module.to(self.accelerator.device)
        self._set_train_mode()
        for module in self.trained.values():
            if config.gradient_checkpointing:
                module.enable_gradient_checkpointing()
            if config.compile:
                module.compile()
        self.global_batch = config.train_batch_size * config.gradient_accumulation_steps * ranks
        self.base_rate = config.learning_rate * (self.global_batch if config.scale_lr else 1)
        self.loss_module, self.optimizer = self.accelerator.prepare(
            _LossModule(modules, loss_fn), build_optimizer(config, self.parameters)
        )
        # After `prepare`, which gives every rank the first rank's weights.
        self.ema = (
            EMAModel(
                self.parameters,
                decay=config.ema_max_decay,
                use_ema_warmup=True,
                inv_gamma=config.ema_inv_gamma,
                power=config.ema_power,
                foreach=True,
            )
            if config.use_ema
            else None
        )
        self.metrics = MetricsLog(config, output_dir, enabled=self.accelerator.is_main_process)

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
        for indices, context in self._micro_batches():
            fetch_started = time.perf_counter()
            batch = {
                k: v.to(self.accelerator.device, non_blocking=True) for k, v in batch_fn(self.step, indices).items()
            }
            noise = training_noise(self.config.seed, self.step, indices, self.accelerator.device)
            self.fetch_seconds += time.perf_counter() - fetch_started
            with context:
                per_sample, logs = self.loss_module(batch, noise)
                loss = per_sample.mean() / self.config.gradient_accumulation_steps
                self.accelerator.backward(loss)
            for name, value in {"loss": per_sample.detach().mean(), **logs}.items():
                totals[name] = totals.get(name, 0.0) + _sum_and_count(value)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.config.max_grad_norm)
        self._apply(norm)
        self.step += 1
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

    def _apply(self, norm: Tensor | None) -> None:
        """Use the gradients, or drop them when they are not finite."""
        if norm is None or torch.isfinite(norm):
            self.optimizer.step()
            self.skipped_in_a_row = 0
            if self.ema is not None:
                self.ema.step(self.parameters)
        elif not self.accelerator.scaler:  # with fp16 the scaler skips and lowers its scale by itself
            self.skipped_steps += 1
            self.skipped_in_a_row += 1
            if self.skipped_in_a_row >= MAX_SKIPPED_STEPS:
                self.save()
                raise FloatingPointError(
                    f"the gradient was not finite in {MAX_SKIPPED_STEPS} steps in a row, up to step {self.step}; "
                    f"the last finite state is in {self.output_dir}. Lower --learning_rate or look for damaged data"
                )
        else:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

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
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)

    def validate(self, validate: Callable[[Modules, int], Mapping[str, Any]] | None) -> None:
        if validate is not None and self.accelerator.is_main_process:
            with self.ema_weights(), torch.no_grad():
                for module in self.modules.values():
                    module.eval()
                results = validate(self.modules, self.step)
            self._set_train_mode()
            self.metrics.log_validation(results, self.step)
        self.accelerator.wait_for_everyone()

    def save(self) -> None:
        """Publish a checkpoint of everything that the next step depends on."""

        def write(folder: Path) -> None:
            for name, module in self.trained.items():
                module.save_pretrained(folder / name)
            if self.ema is not None:
                with self.ema_weights():
                    for name, module in self.trained.items():
                        module.save_pretrained(folder / f"{name}_ema")
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "skipped_steps": self.skipped_steps,
                "optimizer": self.optimizer.state_dict(),
                "global_batch": self.global_batch,
                "ema_step": self.ema.optimization_step if self.ema else 0,
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
            }
            with open(folder / STATE_FILE, "wb") as file:
                torch.save(state, file)

        publish_checkpoint(
            self.output_dir,
            self.step,
            write,
            is_main_process=self.accelerator.is_main_process,
            barrier=self.accelerator.wait_for_everyone,
            total_limit=self.config.checkpoints_total_limit,
        )
        self.saved_step = self.step

    def resume(self) -> None:
        """Continue from the checkpoint that the config names, if there is one."""
        wanted = self.config.resume_from_checkpoint
        if wanted == "none":
            return
        checkpoint = newest_checkpoint(self.output_dir) if wanted == "latest" else Path(wanted)
        if checkpoint is None:
            return
        if not checkpoint.is_dir():
            raise FileNotFoundError(
                f"resume_from_checkpoint: {checkpoint} does not exist; expected `latest`, `none` or a folder "
                "named checkpoint-<step>"
            )
        self.saved_step = step_of(checkpoint)
        verify_manifest(checkpoint)
        state = torch.load(checkpoint / STATE_FILE, weights_only=True, map_location="cpu")
        if state["global_batch"] != self.global_batch:
            raise ValueError(
                f"{checkpoint} was made with a global batch of {state['global_batch']}, "
                f"this run has {self.global_batch} (batch size x accumulation x processes); keep their product"
            )
        for name, module in self.trained.items():
            load_weights(module, checkpoint / name)
        if self.ema is not None:
            self._resume_ema(checkpoint, state["ema_step"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.skipped_steps = state["step"], state["seconds"], state["skipped_steps"]
        self.accelerator.print(f"continuing from {checkpoint}")

    def _resume_ema(self, checkpoint: Path, ema_step: int) -> None:
        assert self.ema is not None
        current = [p.detach().clone() for p in self.parameters]
        for name, module in self.trained.items():
            load_weights(module, checkpoint / f"{name}_ema")
        with torch.no_grad():
            for shadow, parameter, value in zip(self.ema.shadow_params, self.parameters, current, strict=True):
                shadow.copy_(parameter)
                parameter.copy_(value)
        self.ema.optimization_step = ema_step

    def finish(self) -> TrainingResult:
        """Leave the final weights in the modules."""
        if self.ema is not None:
            self.ema.copy_to(self.parameters)
        for module in self.modules.values():
            module.eval()
        return TrainingResult(
            self.step, self.seconds, self.fetch_seconds, self.step_seconds, self.skipped_steps, dict(self.logs)
        )


def load_weights(module: ModelMixin, folder: Path) -> None:
    """Copy the weights of a `save_pretrained` folder into a module of the same shape, in place."""
    loaded = type(module).from_pretrained(folder, low_cpu_mem_usage=False)
    module.load_state_dict(loaded.state_dict())


def _sum_and_count(values: Tensor) -> Tensor:
    """float (2,): sum and number of a scalar, or of the values of (B,) that are not NaN."""
    known = ~values.isnan() if values.ndim else torch.ones_like(values, dtype=torch.bool)
    return torch.stack([values.where(known, 0.0).sum(), known.sum()])
