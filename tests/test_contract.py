"""gamengen.contract: what is written is read back, and what does not fit is refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gamengen.contract import (
    Action,
    CodecContract,
    ContractMismatch,
    GameContract,
    WorldContract,
    check_actions,
    check_compatible,
    codec_from_dict,
    game_from_dict,
    layers,
    read_game_contract,
    to_dict,
    world_from_dict,
    write_contract,
)

GAME = GameContract(
    env_id="ALE/Pong-v5",
    frame_height=210,
    frame_width=160,
    fps=15.0,
    actions=(Action(meaning="NOOP"), Action(meaning="RIGHTFIRE", keys=("ArrowRight", " "))),
    frame_skip=4,
    hold=(1, 8),
)
CODEC = CodecContract(
    game=GAME,
    kind="autoencoder",
    fingerprint="abc",
    array_shape=(4, 28, 20),
    array_dtype="float16",
    padding=(7, 7, 0, 0),
    mean=(0.1, 0.2, 0.3, 0.4),
    std=(1.0, 1.1, 1.2, 1.3),
)
WORLD = WorldContract(codec=CODEC, kind="latent_diffusion", context_length=4, settings={"noise_buckets": 10})


@pytest.mark.parametrize(
    ("contract", "read"), [(GAME, game_from_dict), (CODEC, codec_from_dict), (WORLD, world_from_dict)]
)
def test_json_gives_an_equal_contract_back(contract: Any, read: Any) -> None:
    assert read(json.loads(json.dumps(to_dict(contract)))) == contract


def test_a_folder_gives_an_equal_contract_back(tmp_path: Path) -> None:
    write_contract(tmp_path, GAME)
    assert read_game_contract(tmp_path) == GAME
    with pytest.raises(FileNotFoundError, match=r"nowhere.*record_episodes"):
        read_game_contract(tmp_path / "nowhere")
    (tmp_path / "contract.json").write_text("{")
    with pytest.raises(ValueError, match=r"contract\.json is damaged"):
        read_game_contract(tmp_path)


def test_a_newer_or_foreign_contract_is_refused() -> None:
    values = to_dict(GAME)
    with pytest.raises(ValueError, match=r"version 2, this gamengen reads 1"):
        game_from_dict({**values, "version": 2})
    with pytest.raises(ValueError, match=r"unknown fields \['colour'\]"):
        game_from_dict({**values, "colour": 1})
    del values["fps"]
    with pytest.raises(ValueError, match=r"missing fields \['fps'\]"):
        game_from_dict(values)
    with pytest.raises(ValueError, match="format_version 9"):
        world_from_dict({**to_dict(WORLD), "format_version": 9})


def changed_world(**game: Any) -> WorldContract:
    other = dataclasses.replace(GAME, **game)
    return dataclasses.replace(WORLD, codec=dataclasses.replace(CODEC, game=other))


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("env_id", "ALE/Breakout-v5", "'ALE/Pong-v5' in data/pong, 'ALE/Breakout-v5' in runs/x"),
        ("frame_skip", 2, "game.frame_skip: 4 in data/pong, 2 in runs/x"),
        ("hold", (1, 1), r"game.hold: (1, 8) in data/pong, (1, 1) in runs/x"),
        ("max_pool", True, "game.max_pool: False in data/pong, True in runs/x"),
        ("colour_order", "BGR", "'RGB' in data/pong, 'BGR' in runs/x"),
    ],
)
def test_a_mismatch_names_both_values_and_both_files(field: str, value: Any, shown: str) -> None:
    with pytest.raises(ContractMismatch) as error:
        check_compatible(GAME, changed_world(**{field: value}), "data/pong", "runs/x")
    assert shown in str(error.value)
    assert isinstance(error.value, ValueError)


def test_every_differing_field_is_named_at_once() -> None:
    other = dataclasses.replace(CODEC, fingerprint="xyz", array_dtype="float32", game=dataclasses.replace(GAME, fps=30))
    with pytest.raises(ContractMismatch) as error:
        check_compatible(CODEC, other, "a", "b")
    for part in ("codec.fingerprint: 'abc' in a, 'xyz' in b", "codec.array_dtype", "game.fps: 15.0 in a, 30 in b"):
        assert part in str(error.value)


def test_only_layers_that_both_have_are_compared() -> None:
    check_compatible(GAME, WORLD, "a", "b")
    check_compatible(WORLD, GAME, "a", "b")
    check_compatible(CODEC, dataclasses.replace(WORLD, context_length=9), "a", "b")
    with pytest.raises(ContractMismatch, match=r"world\.context_length: 4 in a, 9 in b"):
        check_compatible(WORLD, dataclasses.replace(WORLD, context_length=9), "a", "b")
    assert list(layers(WORLD)) == ["game", "codec", "world"]


def test_statistics_that_are_not_there_yet_are_no_mismatch_but_other_ones_are() -> None:
    check_compatible(CODEC, dataclasses.replace(CODEC, mean=None, std=None), "a", "b")
    close = tuple(value * (1 + 1e-9) for value in CODEC.std or ())
    check_compatible(CODEC, dataclasses.replace(CODEC, std=close), "a", "b")
    with pytest.raises(ContractMismatch, match=r"codec\.std"):
        check_compatible(CODEC, dataclasses.replace(CODEC, std=(1.0, 1.1, 1.2, 1.4)), "a", "b")


def test_keys_are_taste_and_meanings_are_a_promise() -> None:
    rebound = (GAME.actions[0], Action(meaning="RIGHTFIRE", keys=("KeyD",)))
    check_compatible(GAME, dataclasses.replace(GAME, actions=rebound), "a", "b")
    swapped = (GAME.actions[1], GAME.actions[0])
    with pytest.raises(ContractMismatch, match=r"game\.actions"):
        check_compatible(GAME, dataclasses.replace(GAME, actions=swapped), "a", "b")


@pytest.mark.parametrize("actions", [[0, 1, 2], [-1], np.array([0, 7])])
def test_an_action_outside_the_table_is_named_with_the_table(actions: Any) -> None:
    with pytest.raises(ValueError, match=r"here: action (2|-1|7) at position \d .*0 NOOP, 1 RIGHTFIRE"):
        check_actions(actions, GAME, "here")
    check_actions(np.array([0, 1, 0]), GAME, "here")


def test_a_table_without_actions_or_with_an_unknown_noop_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        dataclasses.replace(GAME, actions=())
    with pytest.raises(ValueError, match="noop_action 2"):
        dataclasses.replace(GAME, noop_action=2)
