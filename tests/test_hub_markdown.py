"""Tables and metadata of cards, as their readers parse them."""

from __future__ import annotations

import yaml

from gamengen.hub.markdown import front_matter, markdown_table


def test_metadata_reads_back() -> None:
    values = {"tags": ["a", "b"], "name": "Pöng: yes", "value": 0.5, "verified": False}
    head, body, rest = front_matter(values).split("---\n")
    assert (head, rest) == ("", "") and yaml.safe_load(body) == values


def test_a_table_has_as_many_cells_in_every_row_whatever_they_hold() -> None:
    lines = markdown_table(("a", "b"), [("x|y", 1), ("", None)]).splitlines()
    assert [line.replace("\\|", "").count("|") for line in lines] == [3, 3, 3, 3]
    assert lines[2] == "| x\\|y | 1 |"
