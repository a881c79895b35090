"""evaluation.page: one file without links to anywhere, every figure with its count, and no markup from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from gamengen.evaluation.clips import Shown
from gamengen.evaluation.figures import Figure
from gamengen.evaluation.page import Block, count_text, page
from gamengen.evaluation.section import Section, Table

FEW = "So few episodes make intervals too narrow."


class Tags(HTMLParser):
    """Checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_is_whole_and_needs_nothing_else() -> None:
    table = Table(["", "dB"], [("a <b>", [Figure(31.234, 30.0, 32.0, 64, 3)]), ("none", [None])], title="PSNR")
    section = Section("Next frame", "Read `seen` & <think>.", [table], notes=["LPIPS: not measured"])
    clips = [("PSNR, 1 step", [Shown("worst", "12.1 dB", b"webp")])]
    text = page("Pong", {"world": "runs/<x>"}, [Block(section, {"PSNR": b"png"}, clips)])
    parser = Tags()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r'(src|href)="(?!data:|#)', text) and "<script" not in text and "@import" not in text
    assert "a &lt;b&gt;" in text and "runs/&lt;x&gt;" in text and "<code>seen</code> &amp; &lt;think&gt;" in text
    assert "<b>31.23</b> <small>[30.00, 32.00]</small>" in text and "n = 64 samples of 3 episodes" in text
    assert text.count("data:image/png;base64,") == 1 and text.count("data:image/webp;base64,") == 1


def test_counts_say_when_there_is_no_interval() -> None:
    assert count_text([Figure(1.0, None, None, 64, 1)]).startswith("n = 64 samples of 1 episode. One episode:")
    both = [Figure(1.0, 0.0, 2.0, 4, 2), Figure(1.0, 0.0, 2.0, 8, 2)]
    assert count_text(both) == ("n = 4 to 8 samples of 2 episodes. So few episodes make intervals too narrow.")
    assert count_text([both[0], Figure(None, None, None, 0, 0)]).endswith("0 to 2 episodes. " + FEW)
    assert count_text([Figure(1.0, 0.0, 2.0, 40, 20)]) == "n = 40 samples of 20 episodes."
    assert count_text([]) == ""
