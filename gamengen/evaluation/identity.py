"""What the figures of an evaluation depend on besides its config: with another of these it is another evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import torch

from gamengen.contract import INDEX_FILE
from gamengen.durable import read_json, sha256_file
from gamengen.evaluation.lpips import find_lpips
from gamengen.hub.repository import resolve, resolve_file
from gamengen.loading import find_world
from gamengen.machine import processor

NONE = "none"
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.index.json", "*config.json")
"""Files of a component that are loaded."""


def world_fingerprint(path: str | Path, revision: str | None = None) -> str:
    """Hex sha256 of the weights and configs that are loaded from a world folder, a run folder or a Hub id.

    It changes with any of them, a run's fine-tuned decoder included (which is played in place of the world's own, see
    `load_pipeline`), and with nothing else that lies beside them, such as the card or the output of an evaluation.

    Raises:
        FileNotFoundError: there is no world.
    """
    path = resolve(path, revision=revision)
    folder = find_world(path)
    decoder = path / "decoder"
    in_place_of_vae = decoder if folder == path / "unet/world" and (decoder / "config.json").is_file() else None
    digest = hashlib.sha256()
    for name, file in _loaded(folder, in_place_of_vae):
        digest.update(f"{name} {sha256_file(file)}\n".encode())
    return digest.hexdigest()


def surroundings(
    *, real_game: bool, agent: str | None, lpips_weights: str | None, fvd_weights: str | None, device: str
) -> dict[str, str]:
    """What is at hand for an evaluation: name -> fingerprint, `none` for what is not there.

    Args:
        real_game: can the emulator stand in the held-out states?
        agent: as `load_policy` takes it. lpips_weights, fvd_weights: as `find_networks` takes them.
    """
    lpips = find_lpips(lpips_weights)
    i3d = None if fvd_weights is None else Path(fvd_weights)
    return {
        "real game": "there" if real_game else NONE,
        "agent": NONE if agent is None else sha256_file(resolve_file(agent, "*.zip"))[:16],
        "lpips": NONE if lpips is None else f"{lpips[0]} {' '.join(sha256_file(file)[:16] for file in lpips[1:])}",
        "fvd": NONE if i3d is None or not i3d.is_file() else sha256_file(i3d)[:16],
        "machine": machine(device),
    }


def machine(device: str) -> str:
    """What speed is measured on: the accelerator, or the processor and how many threads."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {device}, {torch.get_num_threads()} threads"


def _loaded(folder: Path, in_place_of_vae: Path | None) -> Iterator[tuple[str, Path]]:
    """(name, file) of what a world is made of: its index, what lies beside that, and the components that it names."""
    index = read_json(folder / INDEX_FILE)
    components = sorted(name for name, value in index.items() if isinstance(value, list))
    yield INDEX_FILE, folder / INDEX_FILE
    yield from ((file.name, file) for file in sorted(folder.glob("*.safetensors")))
    for name in components:
        place = in_place_of_vae if name == "vae" and in_place_of_vae is not None else folder / name
        files = {file for pattern in WEIGHTS for file in place.glob(pattern)}
        yield from ((f"{name}/{file.name}", file) for file in sorted(files))
