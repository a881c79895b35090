"""This process as a client of a loopback Hub, with a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.loopback_hub import WRITE_TOKEN, LoopbackHub


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: LoopbackHub, home: Path, token: str | None = WRITE_TOKEN) -> None:
    """What the environment variables of `LoopbackHub.environment` do, after huggingface_hub was imported."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
