"""What a user says of their recordings, in a small YAML: the game, the stream, the actions, how the log names keys."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from gamengen.contract import Action, GameContract
from gamengen.importing.spec_file import Entry, read_yaml

MAX_SIDE = 4096
"""Pixels of a frame's side, of the dataset and of a source."""
LOG_COLUMNS = (
    "action", "keys", "time", "key", "event", "frame", "episode", "reward", "terminated", "truncated", "frames",
)  # fmt: skip
"""What a log's columns may mean; `columns` of the YAML maps other names to these."""
_SPELLED_KEYS = {"Space": " ", "Spacebar": " "}
_FIELDS = {
    "game", "fps", "source_fps", "frame_size", "crop", "resize", "resize_filter", "colour_order", "known_colours",
    "accept_grayscale", "noop", "actions", "columns", "time_unit", "aliases", "ignored_keys", "other_combinations",
    "action_offset",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SourceAction:
    """One row of the action table: its id is its position."""

    name: str
    keys: tuple[str, ...] = ()
    """Default keys of the player, as the browser names them."""
    pressed: tuple[str, ...] = ()
    """The keys, as the log names them, that are down together when this is the action."""
    value: str = ""
    """How an `action` column writes it; empty: its id or its name."""


@dataclass(frozen=True, kw_only=True)
class ImportSpec:
    """Read it with `read_spec`. Frames are height before width; times are seconds."""

    game: str
    fps: float
    """Frames a second of the dataset."""
    frame_height: int
    frame_width: int
    actions: tuple[SourceAction, ...]
    noop_action: int
    source_fps: float | Literal["variable"] | None = None
    """Frames a second of the sources where they differ from `fps`, or `variable`: then frames are chosen by time."""
    crop: tuple[int, int, int, int] | None = None
    """What is cut out of a source's frame: top, left, height, width."""
    resize: Literal["exact", "letterbox"] = "exact"
    """`exact`: sources have the size of the dataset. `letterbox`: scaled as a whole, black borders."""
    resize_filter: Literal["area", "nearest"] = "area"
    colour_order: Literal["RGB", "BGR"] = "RGB"
    """Of the sources' pixels. The dataset is always RGB."""
    known_colours: tuple[tuple[int, int, int], ...] = ()
    """RGB colours that every clip shows, to tell RGB from BGR."""
    accept_grayscale: bool = False
    columns: tuple[tuple[str, str], ...] = ()
    """(meaning, name in the log) where the log names a column in another way."""
    time_unit: Literal["seconds", "milliseconds"] = "seconds"
    aliases: tuple[tuple[str, str], ...] = ()
    """(another name in the log, the key)."""
    ignored_keys: tuple[str, ...] = ()
    other_combinations: Literal["error", "largest"] = "error"
    """Keys held together that no action names: an error, or the action with most of them (the first of several)."""
    action_offset: float = 0.0
    """Frames of the dataset: the action chosen on frame t stands in the log's row of frame t + action_offset."""

    @property
    def known_keys(self) -> frozenset[str]:
        """Every key that an action is made of."""
        return frozenset(key for action in self.actions for key in action.pressed)

    def contract(self) -> GameContract:
        """The contract of the dataset. No emulator stands behind it."""
        return GameContract(
            env_id=self.game, frame_height=self.frame_height, frame_width=self.frame_width, fps=self.fps,
            actions=tuple(Action(meaning=action.name, keys=action.keys) for action in self.actions),
            noop_action=self.noop_action,
        )  # fmt: skip


def read_spec(path: str | Path) -> ImportSpec:
    """Read and check the YAML.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: names the file, the line and the field of the first mistake.
    """
    root = read_yaml(path)
    fields = root.fields(_FIELDS)
    missing = [name for name in ("game", "fps", "frame_size", "noop", "actions") if name not in fields]
    if missing:
        raise ValueError(f"{path}: the field {missing[0]!r} is missing; needed: game, fps, frame_size, noop, actions")
    actions = _actions(fields["actions"])
    names = [action.name for action in actions]
    if fields["noop"].text() not in names:
        raise fields["noop"].fail(f"the name of the action that does nothing, one of {', '.join(names)}")
    height, width = _sides(fields["frame_size"], "[height, width] in pixels", 2)
    optional = {name: _OPTIONAL[name](entry) for name, entry in fields.items() if name in _OPTIONAL}
    spec = ImportSpec(
        game=fields["game"].text(), fps=fields["fps"].number(above=0), frame_height=height, frame_width=width,
        actions=actions, noop_action=names.index(fields["noop"].text()), **optional,
    )  # fmt: skip
    _check_keys(spec, fields)
    if isinstance(spec.source_fps, float) and spec.source_fps < spec.fps:
        raise fields["source_fps"].fail(f"at least fps, {spec.fps:g}: frames that were not recorded cannot be made")
    return spec


def _actions(entry: Entry) -> tuple[SourceAction, ...]:
    actions: list[SourceAction] = []
    values: dict[str, int] = {}
    pressed: dict[frozenset[str], int] = {}
    for number, item in enumerate(entry.items()):
        fields = item.fields(("name", "keys", "pressed", "value"))
        if "name" not in fields:
            raise item.fail("a `name`")
        keys = tuple(_SPELLED_KEYS.get(key, key) for key in fields["keys"].texts()) if "keys" in fields else ()
        down = fields["pressed"].texts() if "pressed" in fields else keys
        value = fields["value"].text() if "value" in fields else ""
        action = SourceAction(name=fields["name"].text(), keys=keys, pressed=down, value=value)
        for written in {value} if value else {str(number), action.name}:
            if written in values:
                raise item.fail(f"a name and value of its own: {written!r} is action {values[written]} already")
            values[written] = number
        combination = frozenset(down)
        if combination and combination in pressed:
            raise item.fail(
                f"keys of its own: {' + '.join(sorted(combination))} is action {pressed[combination]} already"
            )
        pressed[combination] = number
        actions.append(action)
    if not actions:
        raise entry.fail("at least one action")
    return tuple(actions)


def _check_keys(spec: ImportSpec, fields: dict[str, Entry]) -> None:
    for name, keys in (("ignored_keys", spec.ignored_keys), ("aliases", tuple(other for other, _ in spec.aliases))):
        both = sorted(spec.known_keys & set(keys))
        if both:
            raise fields[name].fail(f"no key of an action, but {both[0]!r} is one")
    unknown = sorted({key for _, key in spec.aliases} - spec.known_keys)
    if unknown:
        raise fields["aliases"].fail(f"other names of the keys {', '.join(sorted(spec.known_keys))}")
    if spec.actions[spec.noop_action].pressed:
        raise fields["noop"].fail("an action without keys")


def _sides(entry: Entry, expected: str, count: int) -> tuple[int, ...]:
    values = [item.value for item in entry.items()]
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if len(values) != count or not whole or not all(0 <= value <= MAX_SIDE for value in values) or 0 in values[-2:]:
        raise entry.fail(f"{expected}, at most {MAX_SIDE}")
    return tuple(values)


def _crop(entry: Entry) -> tuple[int, int, int, int]:
    return cast(tuple[int, int, int, int], _sides(entry, "[top, left, height, width] in pixels", 4))


def _source_fps(entry: Entry) -> float | str:
    return "variable" if entry.value == "variable" else entry.number(above=0)


def _colours(entry: Entry) -> tuple[tuple[int, int, int], ...]:
    colours = []
    for item in entry.items():
        if not isinstance(item.value, str) or not re.fullmatch("#[0-9a-fA-F]{6}", item.value):
            raise item.fail('an RGB colour such as "#20a0e0", in quotes')
        colours.append(cast(tuple[int, int, int], tuple(bytes.fromhex(item.value[1:]))))
    return tuple(colours)


def _columns(entry: Entry) -> tuple[tuple[str, str], ...]:
    return tuple((meaning, name.text()) for meaning, name in entry.fields(LOG_COLUMNS).items())


_OPTIONAL = {
    "source_fps": _source_fps,
    "crop": _crop,
    "resize": lambda entry: entry.choice("exact", "letterbox"),
    "resize_filter": lambda entry: entry.choice("area", "nearest"),
    "colour_order": lambda entry: entry.choice("RGB", "BGR"),
    "known_colours": _colours,
    "accept_grayscale": Entry.flag,
    "columns": _columns,
    "time_unit": lambda entry: entry.choice("seconds", "milliseconds"),
    "aliases": lambda entry: tuple((other, key.text()) for other, key in entry.fields().items()),
    "ignored_keys": Entry.texts,
    "other_combinations": lambda entry: entry.choice("error", "largest"),
    "action_offset": Entry.number,
}
