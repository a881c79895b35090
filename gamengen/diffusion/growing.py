"""A trained UNet with more layers, or with a longer context, that begins as what it was.

A network that has reached what its size can learn need not be thrown away for a larger one: layers are added whose
residual branch ends in zeros, so that the first output is the old one but for the order of sums, and training goes on
from there. Source: Net2DeeperNet, Net2Net (arXiv 1511.05641), section 2.3, here with residual blocks.

Nor one that sees too little of the past, such as eight frames where a ball is out of sight for twelve: what is older
comes in through weights of zero.
"""

from __future__ import annotations

import re

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from gamengen.contract import WorldContract

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
    return deeper.to(unet.device).train(unet.training)


def lengthen(unet: UNet2DConditionModel, contract: WorldContract) -> UNet2DConditionModel:
    """The UNet for the context length of the contract, if it was made for a shorter one; else as it is.

    The older frames' channels, and their actions' planes, get weights of zero. Their actions come as tokens, too, of
    positions that the attention has not met: without it the output is the old one, with it nearly so.
    """
    channels, length = contract.codec.array_shape[0], contract.context_length
    actions = contract.game.num_actions if contract.settings["action_planes"] else 0
    fixed = channels * (1 + bool(contract.settings["scene_prior"]))
    old, rest = divmod(unet.config["in_channels"] - fixed, channels + actions)
    if rest or not 0 < old < length:
        return unet
    longer = UNet2DConditionModel.from_config({**unet.config, "in_channels": fixed + length * (channels + actions)})
    weights = unet.state_dict()
    # As `Denoiser.network` lays them out: the noisy frame, the context, the scene's median, the actions.
    sizes = (channels, old * channels, fixed - channels, old * actions)
    noisy, context, median, planes = weights["conv_in.weight"].split(sizes, dim=1)
    none = context[:, :1] * 0
    older = [none.expand(-1, (length - old) * count, -1, -1) for count in (channels, actions)]
    weights["conv_in.weight"] = torch.cat([noisy, older[0], context, median, older[1], planes], dim=1)
    longer.load_state_dict(weights)
    return longer.to(unet.device).train(unet.training)


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
