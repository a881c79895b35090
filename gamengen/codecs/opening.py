"""From what a user names as the autoencoder to a codec."""

from __future__ import annotations

import os
from pathlib import Path

from gamengen.codecs.autoencoder import (
    CODEC_FILE,
    AutoencoderCodec,
    load_autoencoder_codec,
    load_vae,
    resolve_vae,
)
from gamengen.contract import INDEX_FILE, GameContract, check_compatible, codec_from_dict
from gamengen.durable import read_json


def open_codec(
    path_or_id: str | os.PathLike[str],
    game: GameContract,
    game_from: str | Path,
    revision: str | None = None,
    variant: str | None = None,
) -> AutoencoderCodec:
    """The codec of a folder of `save_codec`, of a world, or of any stock autoencoder, on disk or on the Hub.

    Args:
        game, game_from: whose frames it will take, and where that contract stands.
    Raises:
        ContractMismatch: the autoencoder was trained for another game, or a world's is not the one it was trained with.
    """
    folder = resolve_vae(path_or_id, revision, variant)
    if (folder / CODEC_FILE).is_file():
        codec = load_autoencoder_codec(folder)
        check_compatible(game, codec.contract, game_from, folder / CODEC_FILE)
        return codec
    index = folder / INDEX_FILE
    world = read_json(index).get("contract") if index.is_file() else None
    if world is None:
        return AutoencoderCodec(load_vae(folder, variant=variant), game)
    # A world says how its autoencoder takes frames: more can be recorded for it, and its training continued.
    contract = codec_from_dict(world["codec"])
    check_compatible(game, contract, game_from, index)
    codec = AutoencoderCodec(load_vae(folder, variant=variant), game, contract.patch_size, contract.padding)
    check_compatible(contract, codec.contract, index, f"the weights in {folder}")
    return codec
