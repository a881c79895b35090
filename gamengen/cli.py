"""The console command: `gamengen play | rollout | evaluate | info`, over the same functions as the scripts."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gamengen import __version__


@dataclass(frozen=True)
class Command:
    """One command: the module `gamengen.commands.<name>`, imported when it is called."""

    purpose: str
    extra: str | None = None
    """The extra that installs what it needs beyond the core."""


COMMANDS = {
    "play": Command("play a world in the browser", extra="play"),
    "rollout": Command("dream a game from held-out start states, beside the real one: GIF, WebP or MP4"),
    "evaluate": Command("measure a world on held-out episodes"),
    "info": Command("versions, packages and devices, for a bug report"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status.

    What a user can put right (a missing file, a wrong value, an extra that is not installed) is one line on stderr;
    anything else is a bug and keeps its traceback.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    name = argv[0] if argv else "--help"
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name in ("-V", "--version"):
        print(f"gamengen {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"error: no command {name!r}{hint}\n\n{usage()}", file=sys.stderr)
        return 2
    try:
        run(name, argv[1:])
    except ModuleNotFoundError as error:
        extra = COMMANDS[name].extra
        if extra is None or (error.name or "gamengen").split(".")[0] == "gamengen":
            raise
        print(f'error: gamengen {name} needs {error.name}: pip install "gamengen[{extra}]"', file=sys.stderr)
        return 1
    except (ValueError, FileNotFoundError, ImportError) as error:
        if not _is_ours(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell reports an interrupted program
    return 0


def run(name: str, flags: Sequence[str]) -> object:
    """What the command's `main` gives for these flags."""
    from gamengen.config import parse

    module = importlib.import_module(f"gamengen.commands.{name}")
    return module.main(parse(module.PRESETS, flags, module.__doc__, f"gamengen {name}"))


def usage() -> str:
    """What `gamengen --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.purpose}{_needs(command)}" for name, command in COMMANDS.items()]
    return "\n".join([
        "usage: gamengen COMMAND [flags]", "", *lines, "",
        "gamengen COMMAND --help lists the command's flags; gamengen --version names this version.",
    ])  # fmt: skip


def _needs(command: Command) -> str:
    return "" if command.extra is None else f' (pip install "gamengen[{command.extra}]")'


def _is_ours(error: BaseException) -> bool:
    """Raised by this package's own code, whose errors say what to do, and not from within another's."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0] == "gamengen"


if __name__ == "__main__":
    sys.exit(main())
