"""report.html: one file that needs nothing else, neither a server nor a network."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gamengen.evaluation.clips import Shown
from gamengen.evaluation.figures import Figure
from gamengen.evaluation.section import Section, Table
from gamengen.evaluation.summary import cell_text

FEW_EPISODES = 5
"""Below so many, draws of episodes with replacement differ too little from each other."""


@dataclass(frozen=True)
class Block:
    """A section with what was drawn for it."""

    section: Section
    plots: Mapping[str, bytes] = field(default_factory=dict)
    """Title -> PNG."""
    clips: Sequence[tuple[str, Sequence[Shown]]] = ()
    """(what they are ranked by, animations)."""


def page(title: str, facts: Mapping[str, str], blocks: Sequence[Block]) -> str:
    """The whole page.

    Args:
        facts: what was measured, on what, when: name -> value.
        blocks: the summary first.
    """
    names = [block.section.title for block in blocks]
    links = "".join(f'<a href="#{_anchor(name)}">{html.escape(name)}</a>' for name in names)
    rows = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in facts.items())
    body = "".join(_block(block) for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>'
        f"<header><h1>{html.escape(title)}</h1><dl>{rows}</dl><nav>{links}</nav></header><main>{body}</main></body></html>\n"
    )


def _block(block: Block) -> str:
    section = block.section
    parts = [f"<h2>{html.escape(section.title)}</h2>", f'<p class="text">{_code(section.explanation)}</p>']
    parts += [f'<p class="note">{html.escape(note)}</p>' for note in section.notes]
    parts += [_table(table) for table in section.tables]
    if block.plots:
        images = "".join(
            f'<img alt="{html.escape(title)}" src="data:image/png;base64,{_base64(png)}">'
            for title, png in block.plots.items()
        )
        parts.append(f'<div class="plots">{images}</div>')
    for ranked_by, shown in block.clips:
        figures = "".join(
            f'<figure><img alt="{html.escape(one.title)}" src="data:image/webp;base64,{_base64(one.webp)}">'
            f"<figcaption><b>{html.escape(one.title)}</b> {html.escape(one.text)}</figcaption></figure>"
            for one in shown
        )
        parts.append(f'<h3>Samples by {html.escape(ranked_by)}</h3><div class="clips">{figures}</div>')
    return f'<section id="{_anchor(section.title)}">{"".join(parts)}</section>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>{''.join(_cell(cell, table.digits) for cell in cells)}</tr>"
        for name, cells in table.rows
    )
    figures = [cell for _, cells in table.rows for cell in cells if isinstance(cell, Figure)]
    title = f"<h3>{html.escape(table.title)}</h3>" if table.title else ""
    return (
        f'{title}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="count">{html.escape(count_text(figures))}</p>'
    )


def count_text(figures: Sequence[Figure]) -> str:
    """`n = 64 samples of 3 episodes`, with ranges where the figures of a table differ."""
    if not figures:
        return ""
    texts = []
    for numbers in ({f.samples for f in figures}, {f.episodes for f in figures}):
        low, high = min(numbers), max(numbers)
        texts.append(str(low) if low == high else f"{low} to {high}")
    one = " One episode: nothing is known of how episodes differ, so there is no interval." if texts[1] == "1" else ""
    few = " So few episodes make intervals too narrow." if any(1 < f.episodes < FEW_EPISODES for f in figures) else ""
    samples, episodes = (f"{t} {w}{'' if t == '1' else 's'}" for t, w in zip(texts, ("sample", "episode"), strict=True))
    return f"n = {samples} of {episodes}.{one}{few}"


def _cell(cell: Figure | str | None, digits: int) -> str:
    if not isinstance(cell, Figure):
        return f"<td>{html.escape(cell_text(cell, digits))}</td>"
    value, _, interval = cell_text(cell, digits).partition(" ")
    count = f"n = {cell.samples} samples of {cell.episodes} episodes"
    small = f" <small>{html.escape(interval)}</small>" if interval else ""
    return f'<td title="{count}"><b>{html.escape(value)}</b>{small}</td>'


def _code(text: str) -> str:
    """Backticks become code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


STYLE = """
:root{--ink:#0f172a;--soft:#475569;--line:#e2e8f0;--paper:#fff;--wash:#f8fafc;--accent:#2563eb}
*{box-sizing:border-box}
body{margin:0;font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
body{color:var(--ink);background:var(--wash)}
header,main{max-width:1180px;margin:0 auto;padding:0 28px}
header{padding-top:36px}
h1{font-size:27px;margin:0 0 14px;letter-spacing:-.01em}
h2{font-size:20px;margin:0 0 8px}
h3{font-size:14px;margin:22px 0 6px;color:var(--soft);font-weight:600}
dl{display:flex;flex-wrap:wrap;gap:10px 30px;margin:0 0 16px}
dt{font-size:12px;color:var(--soft)} dd{margin:0;font-size:14px;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:6px 18px;padding:10px 0 4px;border-top:1px solid var(--line)}
nav a{color:var(--accent);text-decoration:none;font-size:14px} nav a:hover{text-decoration:underline}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:22px 26px;margin:18px 0}
.text{max-width:88ch;margin:0 0 14px;color:#1e293b}
.note{background:#fffbeb;border-left:3px solid #f59e0b;padding:7px 12px;margin:8px 0;font-size:14px;max-width:88ch}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:14px;font-variant-numeric:tabular-nums}
th,td{padding:6px 14px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child{text-align:left;padding-left:2px;font-weight:500}
thead th{color:var(--soft);font-weight:600;font-size:13px}
tbody tr:hover{background:var(--wash)}
td b{font-weight:600} small{color:var(--soft);font-size:11.5px}
.count{font-size:12.5px;color:var(--soft);margin:5px 2px 0}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(420px,1fr));gap:16px;margin:18px 0 4px}
.plots img{width:100%;max-width:620px;border:1px solid var(--line);border-radius:8px}
.clips{display:flex;flex-wrap:wrap;gap:18px}
figure{margin:0} figure img{display:block;border-radius:6px;max-width:100%;image-rendering:pixelated}
figcaption{font-size:12.5px;color:var(--soft);margin-top:5px;max-width:360px;overflow-wrap:anywhere}
figcaption b{color:var(--ink);text-transform:capitalize;margin-right:4px}
code{background:#f1f5f9;padding:1px 4px;border-radius:4px;font-size:.93em}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
