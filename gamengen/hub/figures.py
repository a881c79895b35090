"""The figures in a card: a table a metric for readers, the dream's own ones for the Hub (`model-index`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gamengen.contract import GameContract
from gamengen.hub.markdown import markdown_table

OWN_SETTING = re.compile(r"(\d+ steps?|world)\b")
"""What a world was measured as (`study.step_settings`); other columns are what it is compared with."""
NOT_MEASURED = "Not measured yet: `gamengen evaluate --world <this> --dataset <episodes> --output_dir eval` does it."


@dataclass(frozen=True)
class Fact:
    """One measured figure."""

    name: str
    """What was measured and in which setting, such as `next_frame / 4 steps / psnr`."""
    value: float
    low: float | None = None
    """Of the 95 % interval, where there is one."""
    high: float | None = None
    samples: int | None = None
    unit: str = ""

    @property
    def text(self) -> str:
        """Value, interval and unit."""
        interval = "" if self.low is None or self.high is None else f" ({self.low:.2f} to {self.high:.2f})"
        return f"{self.value:.2f}{interval} {self.unit}".rstrip()


def facts_of(figures: Any, where: tuple[str, ...] = ()) -> Iterator[Fact]:
    """The single figures in a report's nested mappings: numbers, or mappings with `value`, `low`, `high`, `samples`.

    Curves and tables (lists) are left to the report.
    """
    if isinstance(figures, bool) or not isinstance(figures, (Mapping, int, float)):
        return
    if not isinstance(figures, Mapping):
        yield Fact(" / ".join(where), float(figures))
    elif "value" not in figures:
        for name, part in figures.items():
            yield from facts_of(part, (*where, *str(name).split("/")))
    elif isinstance(figures["value"], (int, float)):
        yield Fact(
            " / ".join(where), float(figures["value"]), figures.get("low"), figures.get("high"),
            figures.get("samples"), figures.get("unit", ""),
        )  # fmt: skip


def model_index(name: str, game: GameContract, measured: Sequence[Fact]) -> dict[str, Any]:
    """The Hub's metadata of figures, without those of what a world is compared with; empty where none is left."""
    metrics = [
        {"type": fact.name.split(" / ")[-1], "name": fact.name, "value": round(fact.value, 4), "verified": False}
        for fact in measured
        if len(fact.name.split(" / ")) < 3 or OWN_SETTING.match(fact.name.split(" / ")[1])
    ]
    if not metrics:
        return {}
    dataset = {"name": f"{game.env_id}, held-out episodes", "type": game.env_id.split("/")[-1].lower()}
    task = {"type": "other", "name": "world modelling"}
    return {"model-index": [{"name": name, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}]}


def measured_section(measured: Sequence[Fact], sources: Mapping[str, Mapping[str, str]]) -> str:
    """A table a metric: its measures down, across the settings of the world and then what it is compared with.

    Args:
        sources: metric -> `date`, `machine`, `dataset`, `held out` of its evaluation, where they are known.
    """
    metrics: dict[str, list[Fact]] = {}
    for fact in measured:
        metrics.setdefault(fact.name.split(" / ")[0], []).append(fact)
    if not metrics:
        return NOT_MEASURED
    lines = {name: _source(sources[name]) for name in metrics if name in sources}
    common = next(iter(lines.values())) if len(lines) == len(metrics) and len(set(lines.values())) == 1 else ""
    parts = ["On held-out episodes; in brackets the 95 % interval.", common]
    for name, facts in metrics.items():
        parts += [f"### {name.replace('_', ' ').capitalize()}", "" if common else lines.get(name, ""), _table(facts)]
    return "\n\n".join(part for part in parts if part)


def _source(source: Mapping[str, str]) -> str:
    what = f"{source['held out']} of {source['dataset']}" if {"held out", "dataset"} <= source.keys() else ""
    return ". ".join(part for part in (source.get("date", ""), source.get("machine", ""), what) if part) + "."


def _table(facts: Sequence[Fact]) -> str:
    cells: dict[str, dict[str, Fact]] = {}
    for fact in facts:
        _, *where = fact.name.split(" / ")
        setting, measure = ("", "") if not where else (where[0], " / ".join(where[1:]))
        cells.setdefault(measure, {})[setting] = fact
    found = list(dict.fromkeys(setting for row in cells.values() for setting in row))
    settings = sorted(found, key=lambda setting: OWN_SETTING.match(setting) is None)  # stable: the world's own first
    rows = []
    for measure, row in cells.items():
        counts = sorted({fact.samples for fact in row.values() if fact.samples is not None})
        samples = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else "".join(map(str, counts))
        texts = [row[setting].text if setting in row else "-" for setting in settings]
        rows.append((measure.replace("_", " "), *texts, samples))
    return markdown_table(("figure", *settings, "samples"), rows)
