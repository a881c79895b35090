"""gamengen.commands.info: a report that is complete, that can be pasted, and that a broken install still gives."""

from __future__ import annotations

import json
import re
import sys

import pytest
import torch

from gamengen import __version__
from gamengen.commands.info import Config, main, packages, torch_report


def test_the_text_says_what_the_dict_says(capsys: pytest.CaptureFixture[str]) -> None:
    report = main(Config())
    text = capsys.readouterr().out
    assert report["gamengen"]["version"] == __version__ and report["torch"]["version"] == torch.__version__
    for part in ("gamengen", "python", "machine", "torch", "packages, core", "environment"):
        assert re.search(rf"^{part}  ", text, flags=re.MULTILINE), part
    assert f"version {__version__}" in text and f"diffusers {report['packages']['core']['diffusers']}" in text
    assert main(Config(json=True)) == json.loads(capsys.readouterr().out)


def test_no_secret_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    main(Config())
    text = capsys.readouterr().out
    assert "hf_secret" not in text and "HF_HUB_OFFLINE 1" in text


def test_packages_stand_under_the_extra_that_installs_them() -> None:
    requirements = [
        "numpy>=2.0", "surely-not-installed>=1", 'av>=14.0; extra == "video"', "no-such-server; extra == 'play'",
        'ruff; extra == "dev"', 'gamengen[video,play]; extra == "all"',
    ]  # fmt: skip
    found = packages(requirements)
    assert set(found) == {"core", "video", "play"}
    assert found["core"]["numpy"] is not None and found["core"]["surely-not-installed"] is None
    assert found["play"] == {"no-such-server": None}


def test_a_checkout_that_is_not_installed_reports_what_decides_about_numbers() -> None:
    assert packages([])["core"]["torch"] == torch.__version__


def test_a_broken_torch_is_reported_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "ModuleNotFoundError" in torch_report()["error"]
