"""The way to the Hub of what a world is made with: autoencoders and agents, each with its card."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gamengen.contract import GameContract, codec_from_dict
from gamengen.durable import read_json, write_bytes
from gamengen.hub.figures import Fact, model_index
from gamengen.hub.markdown import front_matter, markdown_table
from gamengen.hub.repository import HubConfig, open_repository, push
from gamengen.hub.world_card import CARD_FILE, PROJECT, game_section, licence

CODEC_FILE, MANIFEST_FILE = "codec.json", "manifest.json"
VAE_FILES = ("config.json", "diffusion_pytorch_model.safetensors", CODEC_FILE, MANIFEST_FILE)


def push_vae(folder: str | Path, results: Mapping[str, Any], config: HubConfig) -> str | None:
    """Upload a VAE folder: weights and codec, not the run's checkpoints and logs.

    Args:
        results: what the run measured; `psnr` and `psnr_moving` stand in the card.
    Returns:
        The commit's address; None where the config does not ask for a push.
    """
    folder = Path(folder)
    codec = codec_from_dict(read_json(folder / CODEC_FILE))
    names = {"psnr": "reconstruction / psnr", "psnr_moving": "reconstruction, moving pixels / psnr"}
    count = results.get("frames")
    facts = [
        Fact(text, float(results[key]), samples=count, unit="dB")
        for key, text in names.items()
        if results.get(key) is not None
    ]
    settings = [
        ("class", read_json(folder / "config.json")["_class_name"]),
        ("latents", "x".join(map(str, codec.array_shape))),
        ("pixels folded into channels first", codec.patch_size),
        ("padding (top, bottom, left, right)", ", ".join(map(str, codec.padding))),
        ("fingerprint of the encoder", codec.fingerprint[:16]),
    ]

    def card(repo_id: str) -> str:
        use = _USE_VAE.format(repo_id=repo_id)
        return part_card(f"{codec.game.env_id}, its autoencoder", codec.game, "diffusers", facts, settings, use)

    return _push(folder, VAE_FILES, card, config, "Upload autoencoder", folder.resolve().name)


def push_agent(
    file: str | Path, game: GameContract, results: Mapping[str, Any], settings: Mapping[str, Any], config: HubConfig
) -> str | None:
    """Upload a Stable-Baselines3 zip.

    Args:
        results: `mean_return` of the newest games stands in the card, NaN before the first has ended.
        settings: how it was trained.
    Returns:
        The commit's address; None where the config does not ask for a push.
    """
    file = Path(file)
    mean = float(results["mean_return"])
    measured = [] if math.isnan(mean) else [Fact("newest games of the training / mean_reward", mean)]

    def card(repo_id: str) -> str:
        use = _USE_AGENT.format(repo_id=repo_id, env_id=game.env_id)
        title = f"{game.env_id}, an agent"
        return part_card(title, game, "stable-baselines3", measured, list(settings.items()), use)

    return _push(file.parent, (file.name,), card, config, "Upload agent", file.parent.resolve().name)


def part_card(
    title: str, game: GameContract, library: str, facts: Sequence[Fact], settings: Sequence[tuple[str, Any]], use: str
) -> str:
    """The README.md of a part, metadata first."""
    metadata: dict[str, Any] = {
        "library_name": library, "license": "other", "license_name": "game-content",
        "license_link": f"{CARD_FILE}#licence",
        "tags": [PROJECT, library, "reinforcement-learning", "game", game.env_id.split("/")[-1]],
        **model_index(title, game, facts),
    }  # fmt: skip
    measured = [(fact.name, fact.text, "" if fact.samples is None else fact.samples) for fact in facts]
    parts = [
        f"{front_matter(metadata)}# {title}",
        "## How to use it",
        use,
        "## Game",
        game_section(game),
        "## Settings",
        markdown_table(("setting", "value"), settings),
        "## Measured",
        markdown_table(("figure", "value", "samples"), measured) if measured else "Nothing yet.",
        "## Limits",
        "It was made from this game, recorded with these settings, and is of no use for another.",
        "## Licence",
        licence("It was learnt from", game),
    ]
    return "\n\n".join(parts) + "\n"


def _push(folder: Path, names: Sequence[str], card: Any, config: HubConfig, message: str, fallback: str) -> str | None:
    repo_id = open_repository(config, "model", fallback)
    if repo_id is None:
        return None
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            shutil.copyfile(folder / name, Path(place) / name)
        write_bytes(Path(place) / CARD_FILE, card(repo_id).encode())
        return push(place, repo_id, message=message, replace=["*"], token=config.hub_token)


_USE_VAE = """```
python scripts/encode_latents.py --vae {repo_id} --dataset <episodes> --output_dir <latents>
```

`codec.json` says how frames are folded and padded before the stock autoencoder sees them."""

_USE_AGENT = """```
python scripts/record_episodes.py --policy {repo_id} --env_id {env_id} --output_dir <episodes>
```

Only the weights are read from the zip, no code of it runs."""
