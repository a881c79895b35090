"""From a path to a playable World, whatever kind it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gamengen.contract import INDEX_FILE, WorldContract, world_from_dict
from gamengen.durable import read_json
from gamengen.hub.repository import resolve
from gamengen.world import StartState, World

FORMAT_VERSION = 1
_PLACES = ("", "world", "unet/world")
"""Where a world folder stands in what a user names: itself, a remade world's folder, a run's folder."""


def find_world(path: str | Path, revision: str | None = None) -> Path:
    """The world folder that `path` is or holds; of a Hub id, its folder in the cache.

    Args:
        revision: branch, tag or commit on the Hub.
    Raises:
        FileNotFoundError: names the places that were looked at. PermissionError: the Hub wants another token.
    """
    path = resolve(path, revision=revision)
    for place in _PLACES:
        folder = Path(path) / place
        if (folder / INDEX_FILE).is_file():
            return folder
    looked = ", ".join(str(Path(path) / place / INDEX_FILE) for place in _PLACES)
    raise FileNotFoundError(
        f"{path} holds no world: none of {looked} exists. Expected a world folder, or a run folder in which "
        "scripts/train_unet.py has finished or validated at least once"
    )


def load_pipeline(path: str | Path, *, parts: bool = False, decoder: bool = True, **kwargs: Any) -> Any:
    """The GameNGenPipeline of a world folder or a run folder; a run's fine-tuned `decoder/` is used when it is there.

    Args:
        parts: take a run's newest parts (`unet/world`, `decoder`) even where it holds an exported `world/`.
        decoder: False leaves a run's fine-tuned decoder out.
        kwargs: for `from_pretrained`.
    """
    from gamengen.codecs.autoencoder import load_vae
    from gamengen.diffusion.pipeline import GameNGenPipeline

    path = resolve(path, revision=kwargs.pop("revision", None))
    folder = find_world(path / "unet" if parts else path)
    tuned = path / "decoder"
    if decoder and folder == path / "unet/world" and (tuned / "config.json").is_file():
        kwargs.setdefault("vae", load_vae(str(tuned)))
    return GameNGenPipeline.from_pretrained(folder, **kwargs)


def load_world(
    path: str | Path,
    num_worlds: int = 1,
    *,
    device: str = "cpu",
    dtype: Any = None,
    backend: str = "torch",
    num_threads: int | None = None,
    cache_dir: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    revision: str | None = None,
    variant: str | None = None,
    **options: Any,
) -> World:
    """A World from disk or the Hub, dispatched on the `kind` and `format_version` of its contract.

    Args:
        path: a world folder, a run folder that holds one, or a Hub id.
        num_worlds: B, games stepped together.
        device: where the network runs, such as `cpu` or `cuda`.
        dtype: of the network's arithmetic; None is float32, and bfloat16 for `compile` on a GPU.
        backend: what runs the network. `torch`: eager, the reference. `onnx`: ONNX Runtime on the CPU (extra `onnx`).
            `compile`: torch.compile, with CUDA graphs on a GPU. `auto`: the fastest of them, measured on this world.
        num_threads: CPU threads of the backend; None leaves PyTorch's number, `auto` then tries several.
        cache_dir: where exported networks are kept; None is $GAMENGEN_CACHE or the user's cache folder.
        progress: is told, in a line of text, what is under way while the world gets ready.
        revision, variant: on the Hub, branch, tag or commit; and the form of the weights, such as `fp16`.
        options: of the kind, as `World.set_option` takes them: `num_inference_steps`, ...
    """
    path = resolve(path, revision=revision)
    index = find_world(path) / INDEX_FILE
    contract = load_contract(path)
    if contract.kind == "latent_diffusion" and contract.format_version == FORMAT_VERSION:
        from gamengen.diffusion.latent_world import LatentWorld

        return LatentWorld(
            load_pipeline(path, variant=variant),
            num_worlds,
            device=device,
            dtype=dtype,
            backend=backend,
            num_threads=num_threads,
            cache_dir=cache_dir,
            progress=progress,
            **options,
        )
    raise ValueError(
        f"{index}: kind {contract.kind!r}, format version {contract.format_version}; this gamengen plays "
        f"'latent_diffusion', version {FORMAT_VERSION}. Install the gamengen that wrote it"
    )


def load_contract(path: str | Path) -> WorldContract:
    """What a world on disk promises; nothing of it is loaded.

    Raises:
        FileNotFoundError, ValueError: no world, or one that was not written by gamengen.
    """
    index = find_world(path) / INDEX_FILE
    values = read_json(index).get("contract")
    if not isinstance(values, dict):
        raise ValueError(f"{index} has no contract: it was not written by gamengen")
    try:
        return world_from_dict(values)
    except ValueError as error:
        raise ValueError(f"{index}: {error}") from error


def load_start_states(path: str | Path, revision: str | None = None) -> list[StartState]:
    """The start states that ship with a world, on disk or on the Hub."""
    from gamengen.dataset.start_states import read_start_states

    file = find_world(path, revision) / "start_states.parquet"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: the world folder is incomplete")
    return read_start_states(file)
