"""The convention that every metric follows; the room's docstring says it in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gamengen.evaluation.figures import Figures, Measure, Sample
from gamengen.evaluation.recordings import Place
from gamengen.evaluation.section import Clip, Section
from gamengen.evaluation.study import Study


@dataclass(frozen=True)
class Part:
    """A unit of work, measured and stored as a whole: a batch of places under all settings, so that these compare."""

    name: str
    """Unique in its metric and a legal file name; the same in every run of the same evaluation."""
    places: Sequence[Place] = ()
    detail: Any = None
    """What else the metric wants to know of it."""


def batch_parts(study: Study, places: Sequence[Place]) -> list[Part]:
    """A part for every batch of places that the world takes at once."""
    return [Part(f"{number:05d}", batch) for number, batch in enumerate(study.batches(places))]


class Metric(Protocol):
    """One metric, or a few that read the same dreams."""

    @property
    def name(self) -> str:
        """Its key in report.json, a legal file name."""
        ...

    @property
    def measures(self) -> Mapping[str, Measure]:
        """The second word of its paths -> what that is."""
        ...

    @property
    def share(self) -> float:
        """How much of a bounded time it should have, compared with the others."""
        ...

    @property
    def ranked_by(self) -> Sequence[str]:
        """Paths by whose value per sample the best, median and worst samples are shown."""
        ...

    def missing(self, study: Study) -> str | None:
        """Why it cannot be measured here and what to do about it, or None."""
        ...

    def parts(self, study: Study) -> Sequence[Part]:
        """Its work. Every beginning is a fair sample of the whole; the first part is always done."""
        ...

    def measure(self, study: Study, part: Part) -> list[Sample]:
        """Raw values. All samples of a part have the same paths."""
        ...

    def sections(self, figures: Figures) -> list[Section]:
        """What the report shows, from the figures alone: no world, no episodes."""
        ...

    def clip(self, study: Study, place: Place, path: str) -> Clip | None:
        """What a sample looked like beside the real game: dreamt again, so the same frames as were measured."""
        ...
