"""By how many frames does the log lead or lag? Which shift of the actions explains the motion between frames best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from gamengen.importing.actions import NO_ACTION, Ids

SIDE = 48
"""Pixels of the longer side of the grey frames that motion is measured on."""
MAX_STEPS = 4000
MIN_CHANGES = 20
_GRID = 4
_FOLDS = 20
_RIDGE = 1e-2
_CLEAR = 3.0
"""Standard errors by which the best shift must beat every other one, and zero."""
_LEAST_SHARE = 0.003
"""Of the motion that the best shift alone must explain; less than this and chance can win."""

Array = npt.NDArray[np.float64]
Grey = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ShiftScore:
    """What one shift gives."""

    shift: int
    """Frames of the dataset: the action chosen on frame t is taken from the log at frame t + shift."""
    explained: float
    """Share of the motion that only this shift explains: what is lost when it is left out, on held-out steps."""
    error: float
    """Standard error of `explained`."""


@dataclass(frozen=True)
class OffsetEstimate:
    """Scores in order of the shift."""

    scores: tuple[ShiftScore, ...]
    num_steps: int
    best: int | None
    """The shift that beats all others clearly; None: the data do not tell."""
    reason: str
    """Why there is none, or how clear the best one is."""

    def table(self) -> str:
        """For people."""
        top = max((score.explained for score in self.scores), default=0.0)
        lines = ["shift   motion that only this shift explains"]
        for score in self.scores:
            bar = "#" * max(0, round(30 * score.explained / top)) if top > 0 else ""
            mark = "  <- best" if score.shift == self.best else ""
            lines.append(f"{score.shift:+5d}   {score.explained:8.4f} +- {score.error:.4f}  {bar}{mark}")
        return "\n".join([*lines, self.reason])

    def advice(self, action_offset: float) -> str:
        """What to do about it, where `action_offset` was in force. An effect may be late, it cannot be early."""
        if not self.best:
            return "action_offset fits" if self.best == 0 else "action_offset cannot be told from these frames"
        write = f"`action_offset: {action_offset + self.best:g}`"
        frames = f"{abs(self.best)} frame{'s' if abs(self.best) > 1 else ''}"
        if self.best > 0:
            return f"the frames answer before the log says so: it is {frames} late. Write {write}"
        return (
            f"the frames answer {frames} after the log: either the game itself does so (Atari's Pong takes one at 30 a "
            f"second), then leave it; or the log is early. If the game answers at once, write {write}"
        )


def grey(frame: npt.NDArray[np.uint8]) -> Grey:
    """uint8 (H, W, 3) -> float32 (h, w) in [0, 1], at most SIDE pixels a side: what motion is measured on."""
    scale = min(1.0, SIDE / max(frame.shape[:2]))
    size = (max(4, round(frame.shape[1] * scale)), max(4, round(frame.shape[0] * scale)))
    small = Image.fromarray(frame).convert("L").resize(size, Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


def motion_of(before: Grey, after: Grey) -> Array:
    """What moved between two grey frames (h, w): (63,) brightness change and its product with both gradients, by cell.

    The products tell in which direction something moves wherever it is (Horn and Schunck's constraint, summed).
    """
    change = after - before
    down, right = np.gradient((before + after) / 2)
    planes = np.stack([change, change * down, change * right]).astype(np.float64)
    rows, columns = (np.arange(_GRID) * side // _GRID for side in change.shape)
    cells = np.add.reduceat(np.add.reduceat(planes, rows, axis=1), columns, axis=2)  # (3, 4, 4)
    halves = cells.reshape(3, 2, 2, 2, 2).sum(axis=(2, 4))
    return np.concatenate([cells.sum(axis=(1, 2)), halves.ravel(), cells.ravel()])


def estimate_offset(
    motions: Sequence[Array], actions: Sequence[dict[int, Ids]], num_actions: int, max_shift: int
) -> OffsetEstimate:
    """Which shift of the actions explains motion best.

    Motion is predicted from the actions at all shifts at once, by ridge regression on steps of other parts of the
    recording; a shift's score is what the prediction loses without it. So a held key, whose neighbouring shifts all
    look alike, counts where it changes. What cannot be told from the data: a game that answers a frame late looks like
    a log that is a frame early.

    Args:
        motions: for each clip (n - 1, 63): `motion_of` the frames t and t + 1.
        actions: for each clip, shift -> (n,) the action of each frame under that shift.
        num_actions: A.
    """
    shifts = list(range(-max_shift, max_shift + 1))
    motion = np.concatenate([np.asarray(rows) for rows in motions])[:MAX_STEPS]
    columns = {
        k: np.concatenate([ids[k][: len(m)] for m, ids in zip(motions, actions, strict=True)])[:MAX_STEPS]
        for k in shifts
    }
    known = np.all([columns[k] != NO_ACTION for k in shifts], axis=0)
    motion, columns = motion[known], {k: ids[known] for k, ids in columns.items()}
    used = [a for a in range(num_actions) if np.any(columns[0] == a)]
    changes = int(np.count_nonzero(np.diff(columns[0])))
    needed = 4 * len(shifts) * max(len(used), 1)
    if changes < MIN_CHANGES or len(motion) < needed:
        return OffsetEstimate((), len(motion), None, (
            f"not identifiable: {len(motion)} steps with {changes} changes of the action; expected at least {needed} "
            f"steps and {MIN_CHANGES} changes. Take longer clips, or ones in which more is pressed"
        ))  # fmt: skip
    if not motion.std(axis=0).max() > 1e-6:
        return OffsetEstimate((), len(motion), None, "not identifiable: nothing moves in these frames")
    design = np.concatenate([np.stack([columns[k] == a for a in used[1:]], 1) for k in shifts], axis=1).astype(float)
    lost = _lost_without(_standardised(motion), design, len(used) - 1, len(shifts))
    errors = lost.std(axis=1, ddof=1) / np.sqrt(lost.shape[1])
    scores = tuple(ShiftScore(k, float(row.mean()), float(e)) for k, row, e in zip(shifts, lost, errors, strict=True))
    best, reason = _judge(scores, lost)
    return OffsetEstimate(scores, len(motion), best, reason)


def _standardised(motion: Array) -> Array:
    """Unit variance; a cut in the picture is not worth more than any fast motion."""
    spread = motion.std(axis=0)
    kept = motion[:, spread > 1e-6 * spread.max()]
    scaled = (kept - kept.mean(axis=0)) / kept.std(axis=0)
    clipped: Array = np.clip(scaled, -4, 4)
    return clipped


def _lost_without(motion: Array, design: Array, width: int, num_shifts: int) -> Array:
    """(num_shifts, folds): share of the motion that is no longer explained when a shift's columns are left out."""
    design = np.concatenate([np.ones((len(design), 1)), design], axis=1)
    folds = [rows for rows in np.array_split(np.arange(len(motion)), _FOLDS) if len(rows)]
    gram, cross = design.T @ design, design.T @ motion
    errors = np.empty((num_shifts + 1, len(folds), motion.shape[1]))
    for number, rows in enumerate(folds):
        own, seen = design[rows], motion[rows]
        fold_gram, fold_cross = gram - own.T @ own, cross - own.T @ seen
        for shift in range(num_shifts + 1):  # the last one leaves nothing out
            left_out = range(1 + shift * width, 1 + (shift + 1) * width) if shift < num_shifts else range(0)
            keep = np.delete(np.arange(design.shape[1]), left_out)
            ridge = _RIDGE * len(motion) / len(folds) * np.eye(len(keep))
            weights = np.linalg.solve(fold_gram[np.ix_(keep, keep)] + ridge, fold_cross[keep])
            errors[shift, number] = ((seen - own[:, keep] @ weights) ** 2).sum(axis=0)
    # Only what actions explain at all: the noise of other things that move would drown it.
    total = (motion**2).sum(axis=0)
    explained = 1 - errors[-1].sum(axis=0) / total
    kept = explained > max(0.25 * float(explained.max()), 0.0)
    if not kept.any():
        kept = np.ones_like(kept)
    lost: Array = (errors[:-1] - errors[-1])[:, :, kept].sum(axis=2) / total[kept].sum() * len(folds)
    return lost


def _judge(scores: tuple[ShiftScore, ...], lost: Array) -> tuple[int | None, str]:
    order = sorted(range(len(scores)), key=lambda i: -scores[i].explained)
    top, second = order[0], order[1]
    best = scores[top]
    difference = lost[top] - lost[second]
    clear = difference.mean() / max(float(difference.std(ddof=1) / np.sqrt(len(difference))), 1e-12)
    if best.explained < _LEAST_SHARE or best.explained < _CLEAR * best.error:
        return None, (
            f"not identifiable: no shift explains more than {best.explained:.4f} of the motion for sure; the actions "
            "hardly show in these frames, or the log belongs to another clip"
        )
    if clear < _CLEAR:
        return None, (
            f"not identifiable: {best.shift:+d} and {scores[second].shift:+d} explain motion about equally well; take "
            "longer clips, or ones in which keys are pressed at many different moments"
        )
    if top in (0, len(scores) - 1):
        return None, f"not identifiable: the best shift, {best.shift:+d}, is the last one tried; raise --max_shift"
    return best.shift, f"shift {best.shift:+d} is the best one by {clear:.1f} standard errors"
