"""gamengen.config: presets, flat flags, a config file, and errors that say what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import tyro

from gamengen.config import parse, to_plain


@dataclass(frozen=True, kw_only=True)
class Network:
    channels: tuple[int, ...] = (8, 16)
    """Width of each level."""
    norm: Literal["group", "none"] = "group"


@dataclass(frozen=True, kw_only=True)
class Config:
    preset: str = "small"
    output_dir: Path = tyro.MISSING
    """Where it is written."""
    train_batch_size: int = 4
    use_ema: bool = True
    max_minutes: float | None = None
    network: Network = field(default_factory=Network)

    def __post_init__(self) -> None:
        if isinstance(self.train_batch_size, int) and self.train_batch_size < 1:
            raise ValueError(f"train_batch_size: expected at least 1, got {self.train_batch_size}")


PRESETS = {
    "tiny": Config(train_batch_size=2, network=Network(channels=(2,))),
    "small": Config(),
}
OUT = ["--output_dir", "out"]


def test_the_default_preset_is_the_default_of_the_field() -> None:
    assert parse(PRESETS, OUT) == Config(output_dir=Path("out"))


@pytest.mark.parametrize("flag", [["--preset", "tiny"], ["--preset=tiny"]])
def test_a_preset_fills_every_field_and_is_named_in_the_config(flag: list[str]) -> None:
    config = parse(PRESETS, [*OUT, *flag])
    assert (config.preset, config.train_batch_size, config.network.channels) == ("tiny", 2, (2,))


def test_flags_are_flat_and_win_over_the_preset() -> None:
    flags = ["--preset", "tiny", "--no_use_ema", "--channels", "4", "8", "16", "--norm", "none", "--max_minutes", "1.5"]
    config = parse(PRESETS, [*flags, *OUT])
    assert config.network == Network(channels=(4, 8, 16), norm="none")
    assert (config.use_ema, config.max_minutes, config.train_batch_size) == (False, 1.5, 2)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--preset", "huge"], ["huge", "tiny, small"]),
        (["--preset"], ["--preset needs a value"]),
        ([], ["output_dir"]),
        ([*OUT, "--train_batch_sise", "3"], ["train_batch_size"]),
        ([*OUT, "--train_batch_size", "0"], ["expected at least 1, got 0"]),
        ([*OUT, "--norm", "batch"], ["batch", "group"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
    ],
)
def test_a_wrong_flag_ends_with_code_2_and_a_message(
    flags: list[str], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(PRESETS, flags)
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert all(part in text for part in said), text


def test_help_shows_the_docstring_of_the_caller_the_fields_and_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(PRESETS, ["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for part in ("errors that say what to do", "Where it is written.", "--train_batch_size", "tiny", "--config"):
        assert part in text
    assert "--train-batch-size" not in text and "--network.channels" not in text


def test_a_file_changes_the_preset_and_flags_change_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "preset: tiny\nuse_ema: false\ntrain_batch_size: 3\nnetwork:\n  channels: [1, 2]\nmax_minutes: null\n"
    )
    config = parse(PRESETS, ["--config", str(file), *OUT, "--train_batch_size", "5"])
    assert config == Config(
        preset="tiny", output_dir=Path("out"), use_ema=False, train_batch_size=5, network=Network(channels=(1, 2))
    )
    assert parse(PRESETS, [f"--config={file}", "--preset", "small", *OUT]).preset == "small"


def test_the_config_of_a_run_can_be_given_back_as_a_file(tmp_path: Path) -> None:
    config = parse(PRESETS, [*OUT, "--preset", "tiny", "--channels", "3", "--no_use_ema"])
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(to_plain(config)))
    assert parse(PRESETS, ["--config", str(file)]) == config


def test_an_unknown_key_of_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("batch_size: 3\n")
    with pytest.raises(SystemExit):
        parse(PRESETS, ["--config", str(file)])
    text = capsys.readouterr().err
    assert "'batch_size'" in text and "train_batch_size" in text and str(file) in text


def test_two_nested_fields_of_one_name_are_one_clear_error() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Two:
        preset: str = "small"
        left: Network = field(default_factory=Network)
        right: Network = field(default_factory=Network)

    with pytest.raises(ValueError, match="--channels: left.channels and right.channels"):
        parse({"small": Two()}, [])


def test_to_plain_gives_json_values_and_names_what_has_none() -> None:
    plain = to_plain(Config(output_dir=Path("a/b")))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["output_dir"] == "a/b" and plain["network"] == {"channels": [8, 16], "norm": "group"}

    @dataclass(frozen=True)
    class Odd:
        thing: object

    with pytest.raises(ValueError, match="thing"):
        to_plain(Odd(thing=object()))


def test_parsing_imports_no_torch() -> None:
    code = "import gamengen.config, gamengen.run_folder, tyro, yaml, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
