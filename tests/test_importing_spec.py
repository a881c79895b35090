"""importing/spec.py: the description of a game; each mistake is one clear error with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gamengen.contract import game_from_dict, to_dict
from gamengen.importing.spec import read_spec
from tests.own_clips import DESCRIPTION, make_spec, write_spec


def test_a_description_becomes_a_contract(tmp_path: Path) -> None:
    spec = read_spec(write_spec(tmp_path))
    assert spec == make_spec()
    game = spec.contract()
    assert (game.env_id, game.frame_height, game.frame_width, game.fps, game.colour_order) == (
        "Blocks",
        20,
        28,
        15,
        "RGB",
    )
    assert [a.meaning for a in game.actions] == ["NOOP", "LEFT", "RIGHT", "JUMP", "LEFTJUMP"]
    assert game.actions[4].keys == ("ArrowLeft", " ") and game.noop_action == 0
    assert game_from_dict(to_dict(game)) == game


def test_every_field_is_read(tmp_path: Path) -> None:
    spec = read_spec(
        write_spec(
            tmp_path, source_fps="variable", crop=[0, 4, 20, 28], resize="letterbox", resize_filter="nearest",
            colour_order="BGR", known_colours=["#ff8000"], accept_grayscale=True, columns={"action": "act"},
            time_unit="milliseconds", aliases={"A": "a"}, ignored_keys=["esc"],
            other_combinations="largest", action_offset=-2,
        )
    )  # fmt: skip
    assert spec.source_fps == "variable" and spec.crop == (0, 4, 20, 28) and spec.known_colours == ((255, 128, 0),)
    assert (spec.resize, spec.resize_filter, spec.colour_order) == ("letterbox", "nearest", "BGR")
    assert spec.accept_grayscale and spec.columns == (("action", "act"),) and spec.time_unit == "milliseconds"
    assert (spec.aliases, spec.ignored_keys, spec.action_offset) == ((("A", "a"),), ("esc",), -2.0)
    assert spec.other_combinations == "largest"


ACTIONS: list[dict[str, Any]] = DESCRIPTION["actions"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": None}, r"'fps' is missing"),
        ({"noop": None}, r"'noop' is missing"),
        ({"fps": 0}, r"line 2, fps: expected a number above 0, got 0"),
        ({"fps": "fast"}, r"line 2, fps: expected a number"),
        ({"frame_size": [20]}, r"line 3, frame_size: expected \[height, width\]"),
        ({"frame_size": [20, 99999]}, r"frame_size: expected .* at most 4096"),
        ({"frame_size": [0, 28]}, r"frame_size: expected"),
        ({"noop": "IDLE"}, r"noop: expected the name of the action that does nothing, one of NOOP, .* got 'IDLE'"),
        ({"noop": "JUMP"}, r"noop: expected an action without keys"),
        ({"colour": "RGB"}, r"unknown field 'colour'; did you mean 'colour_order'"),
        ({"colour_order": "rgb"}, r"colour_order: expected one of RGB, BGR"),
        ({"known_colours": ["red"]}, r"known_colours\[0\]: expected an RGB colour"),
        ({"actions": []}, r"actions: expected at least one action"),
        ({"actions": "NOOP"}, r"actions: expected a list"),
        ({"actions": [{"keys": ["a"]}]}, r"actions\[0\]: expected a `name`"),
        ({"actions": [{"name": "NOOP"}, {"name": "NOOP"}]}, r"actions\[1\]: .*'NOOP' is action 0 already"),
        ({"actions": [*ACTIONS, {"name": "X", "pressed": ["space", "a"]}]}, r"a \+ space is action 4 already"),
        ({"actions": [*ACTIONS, {"name": "X", "value": "NOOP"}]}, r"actions\[5\]: .*'NOOP' is action 0 already"),
        ({"actions": [*ACTIONS, {"name": "X", "key": ["k"]}]}, r"'actions\[5\].key'; did you mean 'keys'"),
        ({"aliases": {"A": "b"}}, r"aliases: expected other names of the keys"),
        ({"ignored_keys": ["a"]}, r"ignored_keys: expected no key of an action"),
        ({"source_fps": 10}, r"source_fps: expected at least fps, 15"),
        ({"columns": {"actoin": "act"}}, r"unknown field 'columns.actoin'; did you mean 'action'"),
        ({"crop": [0, 0, 0, 4]}, r"crop: expected \[top, left, height, width\]"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_error_with_its_place(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"game.yaml.*{message}"):
        read_spec(write_spec(tmp_path, **changes))


def test_keys_that_yaml_takes_for_truth_are_explained(tmp_path: Path) -> None:
    text = yaml.safe_dump(DESCRIPTION, sort_keys=False).replace("- a\n", "- on\n", 1)
    (tmp_path / "game.yaml").write_text(text)
    with pytest.raises(ValueError, match="quote YES, NO, ON and OFF"):
        read_spec(tmp_path / "game.yaml")
