"""What a checkpoint of a training run holds, written and read as whole tensors however many ranks share them.

A checkpoint holds, for every trained module, `<name>/` and `<name>_ema/` as `save_pretrained` would write them,
`training_state.pt`: the optimizer's state and a few numbers, and `contract.json`: for which game and codec. Nothing in
it tells how many ranks wrote it, or whether each held everything (one process, data parallel) or a part (FSDP2): each
kind continues what another has saved.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from gamengen.contract import (
    CONTRACT_FILE,
    CodecContract,
    GameContract,
    check_compatible,
    codec_from_dict,
    game_from_dict,
    write_contract,
)
from gamengen.durable import read_json, write_json
from gamengen.training.config import Modules, TrainingConfig

STATE_FILE = "training_state.pt"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
Contract = GameContract | CodecContract
"""What the data of a training was made for; the world's own settings are in its `run.json`."""


def whole(value: Tensor) -> Tensor:
    """The whole of a tensor that ranks may share; every rank calls this. Another tensor as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def placed_like(value: Tensor, target: Tensor) -> Tensor:
    """This rank's part of a whole tensor, as `target` is shared; every rank calls this with the same value."""
    if not isinstance(target, DTensor):
        return value
    return distribute_tensor(value.to(target.device), target.device_mesh, target.placements, src_data_rank=None)


def keep_float32(accelerator: Accelerator) -> None:
    """Before `prepare`: FSDP2 would gather the weights in half precision, and save them so where they are whole."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None:
        plugin.mixed_precision_policy = None


def forward_precision(accelerator: Accelerator) -> contextlib.AbstractContextManager[Any]:
    """Around a forward: under FSDP2 autocast, as Accelerate puts it around the forward of other models by itself."""
    context: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    return accelerator.autocast() if accelerator.is_fsdp2 else context


class Snapshot:
    """Everything that the next step depends on, gathered by all ranks, kept and written by one.

    Args:
        trained: modules by name. `parameters` are theirs that are trained, in the same order.
        numbers: counters, stored as they are.
        keep: on the rank that will write.
        contract: of the data, where it is known.
    """

    def __init__(
        self,
        trained: Modules,
        parameters: Sequence[nn.Parameter],
        optimizer: Mapping[str, Any],
        ema: EMAModel | None,
        numbers: Mapping[str, Any],
        *,
        keep: bool,
        contract: Contract | None = None,
    ) -> None:
        self._contract = contract
        averages = {} if ema is None else dict(zip(map(id, parameters), ema.shadow_params, strict=True))
        self._weights: dict[str, tuple[ModelMixin, dict[str, Tensor]]] = {}
        for name, module in trained.items():
            values = {key: _kept(value, keep) for key, value in module.state_dict().items()}
            self._weights[name] = (module, values)
            if ema is not None:
                of_module = {k: averages[id(p)] for k, p in module.named_parameters() if id(p) in averages}
                averaged = {key: _kept(value, keep) for key, value in of_module.items()}
                self._weights[f"{name}_ema"] = (module, {**values, **averaged})
        self._state = {**numbers, "optimizer": _map_tensors(optimizer, lambda value: _kept(value, keep))}

    def write(self, folder: Path) -> None:
        """Fill the folder of a checkpoint; only where `keep` was set."""
        for name, (module, values) in self._weights.items():
            module.save_config(folder / name)
            config = read_json(folder / name / "config.json")
            config.pop("_name_or_path", None)  # where on this machine the weights came from
            write_json(folder / name / "config.json", config)
            contiguous = {key: value.contiguous() for key, value in values.items()}
            save_file(contiguous, folder / name / WEIGHTS_FILE, metadata={"format": "pt"})
        if self._contract is not None:
            write_contract(folder, self._contract)
        with open(folder / STATE_FILE, "wb") as file:
            torch.save(self._state, file)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The numbers and the whole optimizer state of a checkpoint, on the CPU."""
    state: dict[str, Any] = torch.load(checkpoint / STATE_FILE, weights_only=True, map_location="cpu")
    return state


def check_contract(checkpoint: Path, ours: Contract | None) -> None:
    """Refuse a checkpoint of another game or codec; one that holds no contract, as older ones, is taken on trust.

    Raises:
        ContractMismatch: names what differs. Its weights may well have the shapes of this run's.
    """
    file = checkpoint / CONTRACT_FILE
    if ours is None or not file.is_file():
        return
    values = read_json(file)
    # More episodes of the same game have other statistics, and may be trained on.
    codec = codec_from_dict({**values, "mean": None, "std": None}) if "game" in values else None
    check_compatible(ours, codec or game_from_dict(values), "this run", file)


def load_optimizer(optimizer: Any, state: Mapping[str, Any], parameters: Sequence[nn.Parameter]) -> None:
    """Give an optimizer the whole state that a checkpoint holds, each rank its part."""
    placed = {
        number: {
            name: placed_like(value, parameters[number])
            if isinstance(value, Tensor) and value.shape == parameters[number].shape
            else value
            for name, value in values.items()
        }
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": placed})


def load_weights(module: ModelMixin, folder: Path) -> None:
    """Copy the weights of a checkpoint's folder into a module of the same shape, in place.

    Raises:
        ValueError: the folder has other weights than the module. (`from_pretrained` would make up what is missing.)
    """
    targets = module.state_dict()
    values = _read_weights(folder, targets)
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(placed_like(values[name], target))


def load_average(ema: EMAModel, step: int, trained: Modules, parameters: Sequence[nn.Parameter], root: Path) -> None:
    """Give an EMA the averages in `<root>/<name>_ema`; the modules keep their own weights."""
    averages = dict(zip(map(id, parameters), ema.shadow_params, strict=True))
    with torch.no_grad():
        for name, module in trained.items():
            loaded = _read_weights(root / f"{name}_ema", module.state_dict())
            for key, parameter in module.named_parameters():
                if id(parameter) in averages:
                    averages[id(parameter)].copy_(placed_like(loaded[key], averages[id(parameter)]))
    ema.optimization_step = step


def build_average(config: TrainingConfig, parameters: Sequence[nn.Parameter]) -> EMAModel:
    """The running average of parameters, with a warm-up of its decay."""
    shared = any(isinstance(parameter, DTensor) for parameter in parameters)  # has no operations over lists
    return EMAModel(
        parameters, decay=config.ema_max_decay, use_ema_warmup=True, inv_gamma=config.ema_inv_gamma,
        power=config.ema_power, foreach=not shared,
    )  # fmt: skip


def make_whole(root: nn.Module) -> Callable[[], None]:
    """Put whole parameters in the place of those that ranks share, so that one rank alone may use and write them.

    Every rank calls this. (FSDP2's own `unshard` is undone by every `state_dict`, and its forwards gather again.)

    Returns:
        A function that puts the shared ones back.
    """
    parameters: list[tuple[nn.Module, str, Any]] = [
        (module, name, parameter)
        for module in root.modules()
        for name, parameter in module._parameters.items()
        if isinstance(parameter, DTensor)
    ]
    for module, name, parameter in parameters:
        module._parameters[name] = nn.Parameter(whole(parameter.detach()), parameter.requires_grad)
    gathering = [module for module in root.modules() if isinstance(module, FSDPModule)]
    hooks = [(module, module._forward_pre_hooks, module._forward_hooks) for module in gathering]
    for module in gathering:
        module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()

    def undo() -> None:
        for module, name, parameter in parameters:
            module._parameters[name] = parameter
        for module, before, after in hooks:
            module._forward_pre_hooks, module._forward_hooks = before, after

    return undo


@contextlib.contextmanager
def whole_modules(root: nn.Module) -> Iterator[None]:
    """`make_whole` inside this block; every rank enters and leaves it."""
    undo = make_whole(root)
    try:
        yield
    finally:
        undo()


def _read_weights(folder: Path, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    values: dict[str, Tensor] = load_file(folder / WEIGHTS_FILE)
    wrong = sorted(values.keys() ^ targets.keys())
    wrong += [name for name in values if name in targets and values[name].shape != targets[name].shape]
    if wrong:
        raise ValueError(f"{folder} does not hold the weights of this module: {', '.join(wrong[:3])} differ")
    return values


def _kept(value: Tensor, keep: bool) -> Tensor:
    """The whole tensor on the CPU where it is kept; elsewhere nothing is left of it."""
    gathered = whole(value.detach())
    return gathered.cpu() if keep else torch.empty(0)


def _map_tensors(values: Any, function: Any) -> Any:
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, Mapping):
        return {key: _map_tensors(value, function) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return type(values)(_map_tensors(value, function) for value in values)
    return values
