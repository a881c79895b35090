"""What every card is written with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def front_matter(values: Mapping[str, Any]) -> str:
    """A card's metadata, as the Hub reads it."""
    import yaml

    return f"---\n{yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)}---\n"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows under a head, as Markdown."""

    def line(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])
