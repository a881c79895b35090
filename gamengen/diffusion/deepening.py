"""A trained UNet with more layers that begins as what it was.

A network that has reached what its size can learn need not be thrown away for a larger one: layers are added whose
residual branch ends in zeros, so that the first output is the old one, bit for bit but for the order of sums, and
training goes on from there. Source: Net2DeeperNet, Net2Net (arXiv 1511.05641), section 2.3, here with residual blocks.
"""

from __future__ import annotations

import re

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

RESIDUAL_ENDS = ("conv2.weight", "conv2.bias", "proj_out.weight", "proj_out.bias")
"""The last layer of the residual branch of a ResnetBlock2D and of a Transformer2DModel."""
_LAYER = re.compile(r"(down_blocks|up_blocks)\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)")


def deepen(unet: UNet2DConditionModel, layers_per_block: int | None, seed: int = 0) -> UNet2DConditionModel:
    """The UNet with `layers_per_block` residual layers in every block, computing what it computed.

    In a block on the way down the new layers follow the old ones, so that each new skip connection is a copy of the
    last old one. On the way up they stand behind the block's first layer, where those copies come in, and pass the
    first half of their input on.

    Args:
        layers_per_block: None or the UNet's own: it is given back as it is.
        seed: of the new layers' other weights, which matter as soon as their ends are no longer zero.
    Raises:
        ValueError: fewer layers than the UNet has, or a UNet whose blocks have different numbers of them.
    """
    old = unet.config["layers_per_block"]
    if layers_per_block is None or layers_per_block == old:
        return unet
    if not isinstance(old, int) or layers_per_block < old:
        raise ValueError(
            f"layers_per_block: this UNet has {old} layers in a block, {layers_per_block} are asked for: "
            "layers can be added, in all blocks alike, not taken away"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        deeper = UNet2DConditionModel.from_config({**unet.config, "layers_per_block": layers_per_block})
    weights = unet.state_dict()
    taken = {_moved(name, layers_per_block - old): value for name, value in weights.items()}
    new = {name: _begun(name, value) for name, value in deeper.state_dict().items() if name not in taken}
    deeper.load_state_dict({**taken, **new})
    return deeper.to(device=unet.device, dtype=unet.dtype).train(unet.training)


def _moved(name: str, added: int) -> str:
    """Where an old weight stands in the deeper UNet."""
    match = _LAYER.fullmatch(name)
    if match is None or match[1] == "down_blocks" or int(match[4]) == 0:
        return name
    return f"{match[1]}.{match[2]}.{match[3]}.{int(match[4]) + added}.{match[5]}"


def _begun(name: str, drawn: Tensor) -> Tensor:
    """A new weight: its layer passes its input on; of two that are concatenated, the first."""
    if name.endswith(RESIDUAL_ENDS) or name.endswith("conv_shortcut.bias"):
        return torch.zeros_like(drawn)
    if name.endswith("conv_shortcut.weight"):
        kept = torch.eye(drawn.shape[0], drawn.shape[1], dtype=drawn.dtype)
        return kept.view_as(drawn)
    return drawn
