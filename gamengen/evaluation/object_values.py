"""Metric 3: raw values of what a dream shows, object by object and number by number, against the real game."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gamengen.evaluation.figures import Measure, Values
from gamengen.evaluation.horizons import by_window, up_to_marks
from gamengen.objects import GAMES, Track, read_grids, read_numbers, read_objects
from gamengen.objects.games import game_objects

Frames = npt.NDArray[np.uint8]
STILL = "standing still"
"""Where objects would be that stay where they were at the start."""
SEEN_SHARE = 0.35
"""Of what is visible in the real game: less of an object is a remainder of it, and not seen."""
LOST_FRAMES = 3
"""An object is lost once it is missing for so many frames in a row in which the real game shows it."""
READINGS = 5
"""Of a number, at the beginning and at the end of a course."""
CHANGE_FRAMES = 8
"""So many frames earlier or later a score may change and still be the same change."""

OBJECT_MEASURES: Mapping[str, Measure] = {
    "recall": Measure(title="seen", is_share=True, digits=3),
    "recall_curve": Measure(title="seen", is_share=True, digits=3),
    "precision": Measure(title="true of those shown", is_share=True, digits=3),
    "error": Measure(title="position error", unit="px", better="lower"),
    "error_curve": Measure(title="position error", unit="px", better="lower"),
    "error_to": Measure(title="mean position error", unit="px", better="lower"),
    "doubled": Measure(title="doubled", is_share=True, better="lower", digits=3),
    # More than in the real game is no better: a paddle that stands where the real one has left the picture.
    "visible": Measure(title="visible share", better="", digits=3),
    "kept_curve": Measure(title="rollouts that have lost no object", is_share=True, digits=3),
    "first_lost": Measure(title="frames until the first object is lost", unit="frames", digits=1),
    "readable": Measure(title="readable", is_share=True, digits=3),
    "right": Measure(title="right", is_share=True, digits=3),
    "change_recall": Measure(title="changes made", is_share=True, digits=3),
    "change_precision": Measure(title="changes that are right", is_share=True, digits=3),
}


def can_read(env_id: str) -> bool:
    """Are there readers for this game?"""
    return env_id in GAMES


@dataclass(frozen=True)
class Reading:
    """What frames of a game show."""

    tracks: Mapping[str, Track]
    numbers: Mapping[str, Values]
    grids: Mapping[str, Values]


def read(frames: Frames, env_id: str) -> Reading:
    """Objects, numbers and grids of uint8 frames (T, H, W, 3)."""
    return Reading(read_objects(frames, env_id), read_numbers(frames, env_id), read_grids(frames, env_id))


def object_values(real: Reading, dream: Reading, env_id: str, marks: Sequence[int]) -> dict[str, Values]:
    """Raw values of one rollout.

    Args:
        real: of T + 1 frames, the first is the last frame that the world saw.
        dream: of T frames.
        marks: ends of the windows (and of the means) of the horizon.
    Returns:
        `measure/object` -> (2, T), (2, len(marks)) or (2,).
    """
    return _compare(real.tracks, dream.tracks, env_id, marks) | _numbers(real.numbers, dream.numbers)


def still_values(real: Reading, env_id: str, marks: Sequence[int]) -> dict[str, Values]:
    """Position errors of objects that stay where the last real frame has them."""
    values: dict[str, Values] = {}
    for name, track in real.tracks.items():
        truth, start = _axes(track, name, env_id)[:, 1:], _axes(track, name, env_id)[:, :1]
        values |= _errors(truth, np.broadcast_to(start, truth.shape), name, marks)
    return values


def _compare(
    real: Mapping[str, Track], dream: Mapping[str, Track], env_id: str, marks: Sequence[int]
) -> dict[str, Values]:
    values: dict[str, Values] = {}
    lost: list[npt.NDArray[np.bool_]] = []
    for name, shown in dream.items():
        truth = real[name]
        there = truth.present[1:]
        seen = shown.present & (~there | (shown.share >= SEEN_SHARE * truth.share[1:]))
        both = (there & seen).astype(float)
        seen_of = np.stack([both, there.astype(float)])
        values[f"recall/{name}"], values[f"recall_curve/{name}"] = by_window(seen_of, marks), seen_of
        values[f"precision/{name}"] = by_window(np.stack([both, shown.copies.astype(float)]), marks)
        values[f"doubled/{name}"] = by_window(np.stack([shown.copies > 1, shown.present]).astype(float), marks)
        visible = np.stack([np.where(there, shown.share, 0.0), np.where(there, truth.share[1:], 0.0)])
        values[f"visible/{name}"] = by_window(visible, marks)
        values |= _errors(_axes(truth, name, env_id)[:, 1:], _axes(shown, name, env_id), name, marks)
        lost.append(_lost(there, seen))
    kept = ~np.any(lost, axis=0)
    values["kept_curve"] = np.stack([kept.astype(float), np.ones(len(kept))])
    values["first_lost"] = np.array([float(kept.sum()), 1.0])
    return values


def _axes(track: Track, name: str, env_id: str) -> Values:
    """(axes, T): y and x, or for what the actions move the axis along which they move it."""
    game = game_objects(env_id)
    if name == game.own and game.own_axis is not None:
        return np.stack([track.y if game.own_axis == "y" else track.x])
    return np.stack([track.y, track.x])


def _errors(truth: Values, shown: Values, name: str, marks: Sequence[int]) -> dict[str, Values]:
    """Distances in native pixels where both are there; (axes, T) each."""
    distance = np.sqrt(((shown - truth) ** 2).sum(0))
    known = ~np.isnan(distance)
    errors = np.stack([np.where(known, distance, 0.0), known.astype(float)])
    return {
        f"error/{name}": by_window(errors, marks),
        f"error_curve/{name}": errors,
        f"error_to/{name}": up_to_marks(errors, marks),
    }


def _lost(there: npt.NDArray[np.bool_], seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(T,): from the frame on at which an object was missing for `LOST_FRAMES` frames of those in which it is there."""
    frames = np.flatnonzero(there)
    lost = np.zeros(len(there), bool)
    if len(frames) >= LOST_FRAMES:
        streaks = np.lib.stride_tricks.sliding_window_view(~seen[frames], LOST_FRAMES).all(1)
        if streaks.any():
            lost[frames[int(streaks.argmax()) + LOST_FRAMES - 1] :] = True
    return lost


def _numbers(real: Mapping[str, Values], dream: Mapping[str, Values]) -> dict[str, Values]:
    values = {}
    for name, shown in dream.items():
        truth = real[name][1:]
        known = ~np.isnan(truth)
        values[f"readable/{name}"] = np.array([(known & ~np.isnan(shown)).sum(), known.sum()], float)
        values[f"right/{name}"] = np.array([(known & (shown == truth)).sum(), known.sum()], float)
        wanted, made = number_changes(real[name]), number_changes(np.concatenate([real[name][:1], shown]))
        values[f"change_recall/{name}"] = np.array([matched_changes(wanted, made), len(wanted)], float)
        values[f"change_precision/{name}"] = np.array([matched_changes(made, wanted), len(made)], float)
    return values


def number_changes(values: Values) -> list[tuple[int, float]]:
    """(frame, amount) of every change between two readable values; unreadable frames between them are passed over."""
    readable = np.flatnonzero(~np.isnan(values))
    steps = np.diff(values[readable])
    return [(int(readable[i + 1]), float(steps[i])) for i in np.flatnonzero(steps)]


def gained(values: Values) -> float:
    """By how much a number rises over a course, read from medians at both ends: a digit that flickers is no point."""
    known = values[~np.isnan(values)]
    return float(np.median(known[-READINGS:]) - np.median(known[:READINGS])) if len(known) else 0.0


def matched_changes(
    changes: Sequence[tuple[int, float]], others: Sequence[tuple[int, float]], frames: int = CHANGE_FRAMES
) -> int:
    """How many changes have one of the same amount, at most `frames` apart, among the others; each of those once."""
    left = list(others)
    count = 0
    for frame, amount in changes:
        near = [one for one in left if one[1] == amount and abs(one[0] - frame) <= frames]
        if near:
            left.remove(min(near, key=lambda one: abs(one[0] - frame)))
            count += 1
    return count
