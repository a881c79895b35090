"""gamengen.cli: help at once, each command under its name, user errors as one line, bugs with their traceback."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from gamengen import __version__, cli
from gamengen.cli import COMMANDS, Command, main
from gamengen.world import check_option
from tests.test_scripts import load

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("flags", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command_and_what_it_needs(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags) == 0
    text = capsys.readouterr().out
    assert all(f"  {name}" in text and command.purpose in text for name, command in COMMANDS.items())
    assert 'pip install "gamengen[play]"' in text


def test_help_imports_nothing_heavy_and_is_quick() -> None:
    code = (
        "import sys; from gamengen.cli import main; main(['--help']); "
        "heavy = {'torch', 'numpy', 'gymnasium', 'tyro', 'diffusers'} & set(sys.modules); sys.exit(len(heavy))"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == 0
    assert time.perf_counter() - started < 5, "well under a second on a quiet machine"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gamengen {__version__}\n"


def test_an_unknown_command_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evalute"]) == 2
    assert "error: no command 'evalute'; did you mean evaluate?" in capsys.readouterr().err


def test_flags_reach_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gamengen"]["version"] == __version__


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_answers_help_under_its_own_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and f"usage: gamengen {name}" in text
    for part in ("Reads", "Writes", "Example", f"gamengen {name}"):
        assert part in text


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"info"}))
def test_the_script_of_a_checkout_runs_the_same_command(name: str) -> None:
    script = load(ROOT / "scripts" / f"{name}.py")
    command = importlib.import_module(f"gamengen.commands.{name}")
    assert getattr(script, name) is command
    # A script may bring the agents, which the package does not know; its flags are the command's and theirs.
    assert all(isinstance(preset, command.Config) for preset in script.PRESETS.values())
    assert set(script.PRESETS) <= set(command.PRESETS)


def test_what_a_user_can_put_right_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "--world", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path} holds no world") and "Traceback" not in error


def command_that_raises(monkeypatch: pytest.MonkeyPatch, body: str, extra: str | None = None) -> None:
    """A command `fails` whose module does what `body` says as soon as it is imported."""

    def imported(name: str) -> types.ModuleType:
        assert name == "gamengen.commands.fails"
        exec(compile(body, "fails.py", "exec"), {"__name__": "gamengen.commands.fails", "check_option": check_option})
        raise AssertionError("it did not raise")

    monkeypatch.setitem(COMMANDS, "fails", Command("fails", extra))
    monkeypatch.setattr(cli.importlib, "import_module", imported)


def test_an_extra_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(monkeypatch, "import no_such_server.websockets", extra="play")
    assert main(["fails"]) == 1
    assert capsys.readouterr().err == ('error: gamengen fails needs no_such_server: pip install "gamengen[play]"\n')


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("import no_such_module", ModuleNotFoundError),  # no extra would help
        ("import json; json.loads('{')", ValueError),  # from within another package
        ("raise KeyError('bug')", KeyError),
    ],
)
def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, body: str, error: type[Exception]) -> None:
    command_that_raises(monkeypatch, body)
    with pytest.raises(error):
        main(["fails"])


def test_our_errors_are_told_from_those_of_other_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command_that_raises(monkeypatch, "check_option({}, 'speed', 1)")
    assert main(["fails"]) == 1
    assert "error: this world has no option 'speed'" in capsys.readouterr().err


def test_an_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    command_that_raises(monkeypatch, "raise KeyboardInterrupt")
    assert main(["fails"]) == 130
