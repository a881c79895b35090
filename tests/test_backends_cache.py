"""gamengen.backends.cache: made once a world and version, made anew aloud when damaged, never under a wrong name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gamengen.backends.cache import INDEX_FILE, cache_folder, export_key, exported, verify_export
from gamengen.backends.export import DECODER_FILE, NETWORK_FILE
from tests.worlds import tiny_pipeline

pytest.importorskip("onnxruntime", reason="needs the extra onnx")


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def made(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """The cache folder, the entry, and what was said while it was made."""
    cache, said = tmp_path_factory.mktemp("cache"), []
    return cache, exported(pipeline, cache, said.append), said


def test_an_export_is_made_once(pipeline: Any, made: tuple[Path, Path, list[str]]) -> None:
    cache, entry, said = made
    assert said[0] == "exporting the networks to ONNX, once for this world"
    assert entry.parent == cache / "onnx" and [path.name for path in entry.parent.iterdir()] == [entry.name]
    assert {path.name for path in entry.iterdir()} == {NETWORK_FILE, DECODER_FILE, INDEX_FILE}
    agreement = json.loads((entry / INDEX_FILE).read_text())["agreement"]
    assert agreement["num_frames"] == 100 and agreement["step_error"] <= 1e-4 and agreement["psnr_change"] <= 0.1
    times = {path: path.stat().st_mtime_ns for path in entry.iterdir()}
    again: list[str] = []
    assert exported(pipeline, cache, again.append) == entry and again == []
    assert {path: path.stat().st_mtime_ns for path in entry.iterdir()} == times


def flip_a_bit(entry: Path) -> None:
    data = bytearray((entry / NETWORK_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (entry / NETWORK_FILE).write_bytes(data)


def tear_the_index(entry: Path) -> None:
    text = (entry / INDEX_FILE).read_text()
    (entry / INDEX_FILE).write_text(text[: len(text) // 2])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_bit, "other bytes in network.onnx"),
        (tear_the_index, "export.json is damaged"),
        (lambda entry: (entry / DECODER_FILE).unlink(), "decoder.onnx"),
        (lambda entry: (entry / INDEX_FILE).write_text("{}"), "KeyError"),
    ],
    ids=["bit flip", "torn index", "lost file", "empty index"],
)
def test_a_damaged_entry_is_refused(made: tuple[Path, Path, list[str]], damage: Any, reason: str) -> None:
    _, entry, _ = made
    kept = {path: path.read_bytes() for path in entry.iterdir()}
    try:
        damage(entry)
        with pytest.raises(ValueError, match=reason):
            verify_export(entry)
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    verify_export(entry)


def test_a_damaged_entry_is_said_aloud_and_made_anew(pipeline: Any, made: tuple[Path, Path, list[str]]) -> None:
    cache, entry, _ = made
    flip_a_bit(entry)
    said: list[str] = []
    assert exported(pipeline, cache, said.append) == entry
    assert "is damaged (other bytes in network.onnx): exporting anew" in said[0]
    verify_export(entry)
    assert [path.name for path in entry.parent.iterdir()] == [entry.name], "nothing is left beside it"


def test_an_export_that_does_not_agree_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a kernel of the runtime is wrong on some machine."""
    pipeline = tiny_pipeline()
    original = pipeline.unet.forward

    def changing(*args: Any, **kwargs: Any) -> Any:  # the graph holds another network than plays later
        shift = 0.01 if torch.jit.is_tracing() else 0.0
        return tuple(output + shift for output in original(*args, **kwargs))

    monkeypatch.setattr(pipeline.unet, "forward", changing)
    with pytest.raises(ValueError, match="backend onnx does not agree with the reference: a step differs by 0.01"):
        exported(pipeline, tmp_path, lambda text: None)
    assert list((tmp_path / "onnx").iterdir()) == []


def test_the_key_knows_all_that_an_export_depends_on(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = export_key(pipeline)
    assert key == export_key(tiny_pipeline()), "the same world made again"
    assert key != export_key(tiny_pipeline(seed=1))
    assert key != export_key(tiny_pipeline("flow"))
    for module in (pipeline.unet.conv_in, next(iter(pipeline.vae.decoder.layers))):
        weight = next(module.parameters())
        before = weight.data.clone()
        weight.data[(0,) * weight.ndim] += 1e-6
        assert export_key(pipeline) != key
        weight.data = before
    assert export_key(pipeline) == key
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert export_key(pipeline) != key


def test_the_cache_is_where_users_expect_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GAMENGEN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "gamengen"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "gamengen"
    monkeypatch.setenv("GAMENGEN_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
