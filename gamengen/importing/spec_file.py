"""A YAML file read so that every mistake is reported with its line."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1 << 20
_PLAIN_TAGS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


@dataclass(frozen=True)
class Entry:
    """A value of the file and where it stands."""

    value: Any
    """A scalar, a list of entries or a dict of entries."""
    file: str
    line: int
    name: str
    """Such as `actions[2].keys`."""

    def fail(self, expected: str) -> ValueError:
        """The error to raise: file, line, field, what was expected and what stands there."""
        return ValueError(
            f"{self.file}, line {self.line}, {self.name or 'the file'}: expected {expected}, got {self.plain()!r}"
        )

    def plain(self) -> Any:
        """The value without lines."""
        if isinstance(self.value, list):
            return [item.plain() for item in self.value]
        if isinstance(self.value, dict):
            return {name: item.plain() for name, item in self.value.items()}
        return self.value

    def text(self) -> str:
        """A text that is not empty; a bare number or letter is text too (a key `1`, an action `7`)."""
        if isinstance(self.value, (str, int, float)) and not isinstance(self.value, bool) and str(self.value) != "":
            return str(self.value)
        raise self.fail("a text (quote YES, NO, ON and OFF: YAML takes them for true and false)")

    def texts(self) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(item.text() for item in self.items())

    def items(self) -> list[Entry]:
        """The entries of a list."""
        if not isinstance(self.value, list):
            raise self.fail("a list")
        return self.value

    def fields(self, known: Collection[str] | None = None) -> dict[str, Entry]:
        """The entries of a mapping.

        Args:
            known: the only names that may stand in it; any when None.
        """
        if not isinstance(self.value, dict):
            raise self.fail("`name: value` lines")
        for name, entry in self.value.items():
            if known is not None and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                where = f"{entry.file}, line {entry.line}"
                raise ValueError(f"{where}: unknown field {entry.name!r}; {hint}known: {', '.join(sorted(known))}")
        return self.value

    def number(self, above: float | None = None) -> float:
        """A number."""
        bound = "" if above is None else f" above {above:g}"
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.fail(f"a number{bound}")
        if above is not None and not above < self.value < float("inf"):
            raise self.fail(f"a number{bound}")
        return float(self.value)

    def whole(self, least: int) -> int:
        """A whole number from `least` up."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < least:
            raise self.fail(f"a whole number from {least} up")
        return self.value

    def flag(self) -> bool:
        """true or false."""
        if not isinstance(self.value, bool):
            raise self.fail("true or false")
        return self.value

    def choice(self, *choices: str) -> str:
        """One of the given words."""
        if self.value not in choices:
            raise self.fail(f"one of {', '.join(choices)}")
        return str(self.value)


def read_yaml(path: str | Path) -> Entry:
    """The whole file as an entry. Values are plain YAML scalars, lists and mappings; aliases are refused.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not YAML, too large, a field twice; with the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: expected the YAML that describes the game (docs/own-game.md)")
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(
            f"{path}: {path.stat().st_size} bytes; expected the description of a game, at most {MAX_BYTES}"
        )
    try:
        text = path.read_text(encoding="utf-8")
        # An alias of an alias of an alias is a file of a kilobyte that unfolds to gigabytes.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"{path}, line {_line(event.start_mark)}: aliases (*name) are not read; write it out")
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise ValueError(f"{path} is empty: expected the description of a game (docs/own-game.md)")
            return _entry(loader, node, str(path), "")
        finally:
            loader.dispose()
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error


def _entry(loader: yaml.SafeLoader, node: yaml.Node, file: str, name: str) -> Entry:
    line = _line(node.start_mark)
    if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
        raise ValueError(f"{file}, line {line}: the tag {node.tag!r} is not read; write plain lists and mappings")
    if isinstance(node, yaml.SequenceNode):
        items = [_entry(loader, item, file, f"{name}[{index}]") for index, item in enumerate(node.value)]
        return Entry(items, file, line, name)
    if isinstance(node, yaml.MappingNode):
        fields: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            entry = _entry(loader, value_node, file, f"{name}.{key}" if name else key)
            if key in fields:
                raise ValueError(f"{file}, line {_line(key_node.start_mark)}: field {entry.name!r} stands twice")
            fields[key] = Entry(entry.value, file, _line(key_node.start_mark), entry.name)
        return Entry(fields, file, line, name)
    return Entry(loader.construct_object(node), file, line, name)


def _line(mark: Any) -> int:
    return 0 if mark is None else int(mark.line) + 1
