"""Exported networks in the user's cache: made once a world and version, checked before every use."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import diffusers
import torch

from gamengen.backends.agreement import measure_agreement
from gamengen.backends.eager import EagerBackend
from gamengen.backends.export import DECODER_FILE, NETWORK_FILE, OPSET, export_networks
from gamengen.backends.onnx import OnnxBackend, import_onnxruntime
from gamengen.contract import to_dict
from gamengen.diffusion.pipeline import GameNGenPipeline
from gamengen.durable import publish_folder, read_json, sha256_file, write_json

FORMAT_VERSION = 1
INDEX_FILE = "export.json"
_FILES = (NETWORK_FILE, DECODER_FILE)


def cache_folder(cache_dir: str | Path | None = None) -> Path:
    """Where exports are kept: `cache_dir`, $GAMENGEN_CACHE, or `gamengen` where this system keeps a user's caches."""
    named = cache_dir or os.environ.get("GAMENGEN_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "gamengen" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/gamengen"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gamengen"


def export_key(pipeline: GameNGenPipeline) -> str:
    """sha256 of all that an export depends on: weights, configs, contract, and the versions that make and run it."""
    facts = {
        "format": FORMAT_VERSION,
        "opset": OPSET,
        "versions": [torch.__version__, diffusers.__version__, import_onnxruntime().__version__],
        "contract": to_dict(pipeline.world_contract),
        "unet": dict(pipeline.unet.config),
        "vae": dict(pipeline.vae.config),
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    parts = {"unet": pipeline.unet.state_dict(), "vae": pipeline.vae.state_dict()}
    if pipeline.scene is not None:
        parts["scene"] = pipeline.scene.tensors()
    for part, tensors in parts.items():
        for name, value in sorted(tensors.items()):
            digest.update(f"{part}.{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def exported(pipeline: GameNGenPipeline, cache_dir: str | Path | None, say: Callable[[str], None]) -> Path:
    """The folder of a world's exported networks; exported, and compared with the reference, when it is not there.

    A damaged entry is said aloud and made anew. Every export is for any number of worlds, so that the hundred frames
    of the comparison are dreamt once.

    Raises:
        ValueError: the export does not agree with the reference. OSError: the cache cannot be written.
    """
    final = cache_folder(cache_dir) / "onnx" / export_key(pipeline)[:32]
    try:
        verify_export(final)
        return final
    except FileNotFoundError:
        say("exporting the networks to ONNX, once for this world")
    except ValueError as error:
        say(f"the export in {final} is damaged ({error}): exporting anew")
    unfinished = final.with_name(f"{final.name}.{os.getpid()}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        export_networks(pipeline, unfinished)
        agreement = measure_agreement(pipeline, EagerBackend(pipeline), OnnxBackend(unfinished), progress=say)
        agreement.check("onnx")
        checksums = {name: sha256_file(unfinished / name) for name in _FILES}
        write_json(unfinished / INDEX_FILE, {"files": checksums, "agreement": asdict(agreement)})
        publish_folder(unfinished, final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return final


def verify_export(folder: Path) -> None:
    """FileNotFoundError when there is no entry of the cache, ValueError when it is damaged."""
    if not folder.exists():
        raise FileNotFoundError(folder)
    try:
        index = read_json(folder / INDEX_FILE)
        wrong = [name for name in _FILES if sha256_file(folder / name) != index["files"][name]]
    except (FileNotFoundError, KeyError, TypeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if wrong:
        raise ValueError(f"other bytes in {', '.join(wrong)}")
