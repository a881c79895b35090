"""gamengen.machine: the processor's name, wherever the system keeps it."""

from __future__ import annotations

from pathlib import Path

from gamengen.machine import processor


def test_the_processor_has_its_full_name(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nmodel name : A CPU: 3.0 GHz\nflags : x\n\nprocessor : 1\nmodel name : B\n")
    assert processor(info) == "A CPU: 3.0 GHz"
    info.write_text("Hardware : a board without a model name\n")
    assert processor(info) == processor(tmp_path / "absent") != ""
