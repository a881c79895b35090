"""Command lines: one frozen dataclass a script, presets as Python objects, flat diffusers-style flags."""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

C = TypeVar("C")

CONFIG_HELP = "Also: --config FILE.yaml takes flags from a file; flags on the command line win over it."


def parse(
    presets: Mapping[str, C],
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
) -> C:
    """The config of one run: a preset, changed by a YAML file, changed by the flags.

    Every field is a flag of its own name (`--train_batch_size 8`, `--use_ema` / `--no_use_ema`), fields of
    nested dataclasses too. A field whose value is `tyro.MISSING` in the preset must be given.

    Args:
        presets: name -> frozen dataclass with a field `preset`; the field's default names the default preset.
        argv: flags without the program's name; `sys.argv[1:]` when None.
        description: what `--help` begins with; the docstring of the calling module when None.
        prog: the program's name in `--help` and errors; the script's when None.
    Raises:
        ValueError: the presets are of several classes, or two nested classes share a field name.
        SystemExit: `--help`, or a flag, value, preset or file that is wrong (exit code 2, the reason on stderr).
    """
    import tyro  # here and not above: to_plain is needed where nothing is parsed

    if description is None:
        description = sys._getframe(1).f_globals.get("__doc__") or ""
    argv = list(sys.argv[1:] if argv is None else argv)
    fields = _check_presets(presets)
    argv, file_name = _take_flag(argv, "config")
    file_flags = _read_flags(Path(file_name), fields) if file_name is not None else []
    name = _take_flag(argv, "preset")[1] or _take_flag(file_flags, "preset")[1] or _default_preset(presets)
    if name not in presets:
        _exit(f"unknown preset {name!r}; expected one of: {', '.join(presets)}")
    base = dataclasses.replace(cast(Any, presets[name]), preset=name)
    # The preset is settled: it would stand twice where both the file and the command line name it.
    flags = [*_take_flag(file_flags, "preset")[0], *_take_flag(argv, "preset")[0]]
    return cast(
        C,
        tyro.cli(
            type(base),
            default=base,
            args=flags,
            prog=prog,
            description=f"{description.strip()}\n\nPresets: {', '.join(presets)}. {CONFIG_HELP}",
            use_underscores=True,
            config=(tyro.conf.OmitArgPrefixes,),
        ),
    )


def to_plain(config: object) -> dict[str, Any]:
    """A config dataclass as JSON values: nested dicts, lists for tuples, text for paths.

    Fields whose metadata says `secret`, such as a token, are left out: the result is written and shown.

    Raises:
        ValueError: names the field whose value has no JSON form.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ValueError(f"expected a dataclass instance, got {type(config).__name__}")
    shown = [f.name for f in dataclasses.fields(config) if not f.metadata.get("secret")]
    return {name: _plain(getattr(config, name), name) for name in shown}


def _plain(value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(value)
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    raise ValueError(f"config field {where}: expected a JSON value, got {type(value).__name__} {value!r}")


def _check_presets(presets: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Every flag -> the dotted path of its field; refuses what flat flags cannot express."""
    if not presets:
        raise ValueError("expected at least one preset, got none")
    kinds = {type(config) for config in presets.values()}
    if len(kinds) > 1:
        raise ValueError(f"presets must be of one class, got {sorted(kind.__name__ for kind in kinds)}")
    fields: dict[str, tuple[str, ...]] = {}
    for config in presets.values():
        fields = {}
        for name, path in _leaves(config):
            if name in fields:
                raise ValueError(
                    f"{type(config).__name__}: two fields would be the flag --{name}: {'.'.join(fields[name])} and "
                    f"{'.'.join(path)}; rename one of them"
                )
            fields[name] = path
    if "preset" not in fields:
        raise ValueError(f"{kinds.pop().__name__}: expected a field `preset: str`")
    return fields


def _leaves(config: Any, above: tuple[str, ...] = ()) -> list[tuple[str, tuple[str, ...]]]:
    leaves = []
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), (*above, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            leaves += _leaves(value, path)
        else:
            leaves.append((field.name, path))
    return leaves


def _default_preset(presets: Mapping[str, Any]) -> str:
    kind = type(next(iter(presets.values())))
    default = next(f.default for f in dataclasses.fields(kind) if f.name == "preset")
    if default not in presets:
        _exit(f"--preset is needed; expected one of: {', '.join(presets)}")
    return str(default)


def _take_flag(argv: Sequence[str], name: str) -> tuple[list[str], str | None]:
    """`argv` without `--name VALUE` or `--name=VALUE`, and the last VALUE."""
    rest: list[str] = []
    value: str | None = None
    words = iter(argv)
    for word in words:
        if word == f"--{name}":
            value = next(words, None)
            if value is None:
                _exit(f"--{name} needs a value")
        elif word.startswith(f"--{name}="):
            value = word.split("=", 1)[1]
        else:
            rest.append(word)
    return rest, value


def _read_flags(path: Path, fields: Mapping[str, tuple[str, ...]]) -> list[str]:
    """A YAML file as flags, so that a file and a command line are checked by the same code."""
    import yaml

    if not path.is_file():
        _exit(f"--config {path}: no such file")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        _exit(f"--config {path} is not YAML: {error}")
    if not isinstance(values, dict):
        _exit(f"--config {path}: expected `flag: value` lines, got {type(values).__name__}")
    flags: list[str] = []
    for name, value in _flatten(values, fields):
        if name not in fields:
            _exit(f"--config {path}: unknown key {name!r}; expected one of: {', '.join(sorted(fields))}")
        if isinstance(value, bool):
            flags.append(f"--{name}" if value else f"--no_{name}")
        elif isinstance(value, list):
            flags += [f"--{name}", *map(str, value)]
        else:
            flags += [f"--{name}", str(value)]
    return flags


def _flatten(values: Mapping[str, Any], fields: Mapping[str, tuple[str, ...]]) -> list[tuple[str, Any]]:
    """Flat keys, or nested as in run.json: a mapping stands for a nested dataclass."""
    groups = {name for path in fields.values() for name in path[:-1]}
    flat: list[tuple[str, Any]] = []
    for name, value in values.items():
        if name in groups and isinstance(value, dict):
            flat += _flatten(value, fields)
        else:
            flat.append((str(name), value))
    return flat


def _exit(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
