"""Which windows are drawn more often than they were recorded: of rare events, of balls that turn, and hard ones.

A ball flies in nearly every frame and bounces in few; what is easy is learnt soon, and from then on most samples teach
nothing.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm.auto import tqdm

from gamengen.contract import CodecContract
from gamengen.diffusion.loss import LatentDiffusionLoss
from gamengen.diffusion.scene import surprises
from gamengen.durable import write_bytes
from gamengen.latents.marks import read_marks
from gamengen.latents.windows import Windows
from gamengen.noise import Noise, key_of

HARD_FILE = "hard_windows.safetensors"
HARDEST = 0.1
"""Of the windows that are measured, the share that counts as hard."""
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class DrawingConfig:
    """What is drawn more often than it was recorded."""

    event_share: float = 0.0
    """Share of samples in which something rare comes suddenly, such as a new ball or a point, or has just come, besides
    those that the others hold. 0: as often as recorded."""
    late_event_share: float = 0.0
    """Share of the samples in which it comes, or has just come, whose older frames stand still: what is overdue comes,
    and a ball that hangs at its serve flies off."""
    turn_share: float = 0.0
    """Share of the other samples in which a ball has just turned, or which come just after; scripts/mark_turns.py marks
    them."""
    hard_share: float = 0.0
    """Share of the other samples in which the weights that the training starts from err most, or which come just after.
    Measured once, when the run begins. Rare small things, such as a ball that turns, are not among them."""
    hard_candidates: int = 32_768
    """Windows, drawn at random, that are measured for it: the hardest tenth of them are the hard ones."""

    def __post_init__(self) -> None:
        for name in ("event_share", "turn_share", "hard_share"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}: expected a share from 0 to below 1, got {getattr(self, name)}")
        if not 0.0 <= self.late_event_share <= 1.0:
            raise ValueError(f"late_event_share: expected a share in [0, 1], got {self.late_event_share}")
        if self.late_event_share and not self.event_share:
            raise ValueError(f"late_event_share: expected 0 without an event_share, got {self.late_event_share}")
        if self.hard_candidates < 1 / HARDEST:
            raise ValueError(f"hard_candidates: expected at least {1 / HARDEST:.0f}, got {self.hard_candidates}")


def prefer(
    config: DrawingConfig,
    windows: Windows,
    unet: UNet2DConditionModel,
    loss_fn: LatentDiffusionLoss,
    folder: Path,
    latents: str,
    seed: int,
) -> None:
    """Let the training split's windows be drawn as the config says; every rank calls this.

    The wake of an event and of a hard window is as long as the model's own frames in a context may be.
    """
    wake, threshold = loss_fn.config.self_rollout_steps, loss_fn.config.moving_threshold
    prefer_events(config, windows, loss_fn.contract.codec, threshold, wake, PartialState().is_main_process)
    prefer_turns(config, windows, latents, wake)
    prefer_hard(config, windows, unet, loss_fn, folder, wake, seed)


def prefer_events(
    config: DrawingConfig, windows: Windows, codec: CodecContract, threshold: float, after: int, tell: bool
) -> None:
    """Let windows that bring something rare, and those of its wake, make up the share that the config asks for.

    The wake are the frames in which the model can see its own prediction of it: what it has foreseen by half, such as
    a brick that is hit now or a frame later, is only made whole or taken back there.

    Args:
        threshold: what counts as different, in standard deviations of the latents.
        after: frames of the wake.
    """
    if config.event_share > 0:
        events = surprises(windows.rows, codec, threshold)
        count = windows.prefer(events, config.event_share, after)
        windows.delay(events, config.late_event_share, after)
        if tell:
            print(f"something rare comes suddenly in {int(events.sum())} frames, it or its wake in {count} windows")


def prefer_turns(config: DrawingConfig, windows: Windows, latents: str, after: int) -> None:
    """Let windows that were marked in the latents, and those of their wake, make up the config's share.

    A ball turns in a few of a thousand frames, and to where depends on a pixel or two: what is drawn by its loss alone
    is the jitter of paddles.
    """
    if config.turn_share > 0:
        marks = read_marks(latents, windows.rows)
        count = windows.prefer(marks, config.turn_share, after)
        if PartialState().is_main_process:
            print(f"{int(marks.sum())} frames are marked, they or what follows make up {count} windows")


def prefer_hard(
    config: DrawingConfig,
    windows: Windows,
    unet: UNet2DConditionModel,
    loss_fn: LatentDiffusionLoss,
    folder: Path,
    after: int,
    seed: int,
) -> None:
    """Let the windows that are hard for these weights, and those of their wake, make up the config's share.

    Every rank calls this. What was found is kept in `<folder>/hard_windows.safetensors`, so that a run that continues
    draws what it drew before, on any number of ranks.

    Source: hard examples are mined with the weights that are to be improved (arXiv 1604.03540); here once, not in
        every step, so that the samples of a step stay a function of its number.
    """
    if config.hard_share == 0:
        return
    state, file = PartialState(), folder / HARD_FILE
    # The main process looks: where ranks share no disk, the others have no such file.
    known = [load_file(file)["targets"] if state.is_main_process and file.is_file() else None]
    targets = broadcast_object_list(known)[0]
    if targets is None:
        targets = _hardest(config.hard_candidates, windows, unet, loss_fn, seed)
        if state.is_main_process:
            write_bytes(file, save({"targets": targets}))
    hard = torch.zeros(len(windows.rows.actions), dtype=torch.bool)
    hard[targets] = True
    count = windows.prefer(hard, config.hard_share, after)
    if state.is_main_process:
        print(f"{len(targets)} frames are hard to predict, they or what follows make up {count} windows")


def _hardest(
    candidates: int, windows: Windows, unet: UNet2DConditionModel, loss_fn: LatentDiffusionLoss, seed: int
) -> Tensor:
    """int64, rows of the targets with the greatest loss in 1-step play on what was recorded; the same on every rank."""
    state = PartialState()
    generator = torch.Generator().manual_seed(key_of("hard", seed))
    chosen = torch.randperm(len(windows), generator=generator)[:candidates]
    measure = _one_step_loss(loss_fn)
    mine = chosen[state.process_index :: state.num_processes]
    unet.to(state.device)
    losses = []
    with torch.no_grad():
        progress = tqdm(
            mine.split(BATCH), desc="looking for hard windows", unit="batch", disable=not state.is_main_process
        )
        for part in progress:
            batch = {name: value.to(state.device) for name, value in windows.at(part).tensors().items()}
            noise = Noise([key_of("hard", seed, int(position)) for position in part], state.device)
            losses.append(measure({"unet": unet}, batch, noise).per_sample.float().cpu())
    found = gather_object([(mine, torch.cat(losses) if losses else torch.zeros(0))])
    positions, loss = (torch.cat([pair[i] for pair in found]) for i in (0, 1))
    return windows.targets[positions[loss.topk(max(1, int(HARDEST * len(loss)))).indices]].sort().values


def _one_step_loss(loss_fn: LatentDiffusionLoss) -> LatentDiffusionLoss:
    """The same loss, of the last timestep alone and on clean recorded contexts."""
    alone = copy.copy(loss_fn)
    alone.config = replace(
        loss_fn.config, clean_context_share=1.0, context_dropout=0.0, terminal_share=1.0, self_rollout_share=0.0
    )
    return alone
