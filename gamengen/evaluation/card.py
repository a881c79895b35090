"""What of an evaluation stands in the model card of the world that was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from gamengen.evaluation.horizons import marks_within, window_names
from gamengen.hub.world_card import WorldFacts, read_world_facts, write_world_card
from gamengen.loading import load_pipeline

BY_HORIZON = ("recall", "error_to", "like_recording")
"""Measures of a rollout whose values at each horizon belong into a card."""


def card_figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """What of a report belongs into a model card: the single figures, and the objects' by horizon; no curves."""
    metrics = report["metrics"].items()
    return {name: dict(_for_card(metric["figures"])) for name, metric in metrics if metric["figures"]}


def with_figures(known: WorldFacts, report: Mapping[str, Any], all_metrics: bool = True) -> WorldFacts:
    """What a world knows, with the figures of a report, and when, where and on what they were measured.

    Args:
        report: as `write_report` gives it back.
        all_metrics: False where only some were asked for: what is known of the others stays.
    """
    kept = replace(known, figures={}, evaluations={}) if all_metrics else known
    figures = card_figures(report)
    sources = dict.fromkeys(figures, _source(report["facts"]))
    return replace(known, figures={**kept.figures, **figures}, evaluations={**kept.evaluations, **sources})


def _source(facts: Mapping[str, str]) -> dict[str, str]:
    """Of the facts of a report those that a card says beside its figures; no folder of the machine."""
    where, _, rest = facts.get("dataset", "").rpartition(", ")
    name = PurePath(where).name if PurePath(where).is_absolute() else where
    known = {key: facts.get(key, "") for key in ("date", "machine", "held out")} | {"dataset": f"{name}, {rest}"}
    return {key: value for key, value in known.items() if value}


def _for_card(figures: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    horizon = next((len(figure["value"]) for path, figure in figures.items() if path.endswith("/kept_curve")), 0)
    marks = marks_within(horizon) if horizon else ()
    for path, figure in figures.items():
        measure = path.split("/")[1]
        if not isinstance(figure["value"], list):
            yield path, figure
        elif measure in BY_HORIZON:
            frames = [f"1-{mark}" for mark in marks] if measure == "error_to" else window_names(marks)
            for i, name in enumerate(frames):
                at = {key: figure[key] and figure[key][i] for key in ("value", "low", "high")}
                if at["value"] is not None:
                    yield f"{path} in frames {name}", {**figure, **at}


def update_card(folder: Path, report: Mapping[str, Any], all_metrics: bool = True) -> None:
    """Put the figures of a report into the model card of a world folder; see `with_figures`."""
    pipeline = load_pipeline(folder)
    parameters = {
        name: sum(weights.numel() for weights in part.parameters())
        for name, part in pipeline.components.items()
        if hasattr(part, "parameters")
    }
    facts = with_figures(read_world_facts(folder), report, all_metrics)
    write_world_card(folder, pipeline.world_contract, parameters, facts)
