"""Kills a program at any one of its file events, starts it again, and looks whether anything was lost.

A file event is a call that changes the disk below the program's folder: open for writing, write, fsync, rename, swap,
make or remove. A program is killed (SIGKILL) before an event, in the middle of it (half of the bytes of a write), or
after it. What a program does, what must hold at its death and what at its end stand in `tests/crash_programs.py`.

Programs run in forks of a process that has imported everything, since importing takes longer than the programs do.

Example
    python -m tests.crash checkpoint 1 all            # program (or each), ranks, number of events tried (or all)
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODES = ("before", "torn", "after")


@dataclass(frozen=True)
class Program:
    """One program to be killed."""

    prepare: Callable[[Path], None]
    """Makes what the program finds; not killed."""
    run: Callable[[Path], None]
    result: Callable[[Path], Any]
    """What it has made, JSON values: equal after any kill and a second start."""
    check: Callable[[Path, list[str]], None]
    """Raises AssertionError when something is wrong at the program's death; is given the events before it."""


class Events:
    """Counts the file events below `root`, and ends the process at the one that is asked for."""

    def __init__(self, root: Path, kill_at: int = -1, mode: str = "before") -> None:
        self.root, self.kill_at, self.mode = str(root.resolve()), kill_at, mode
        self.names: list[str] = []
        self.die: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGKILL)

    def happen(self, kind: str, path: Any, act: Callable[[], Any], torn: Callable[[], None] | None = None) -> Any:
        """Do `act`, which is one event if it is about a path below the root."""
        place = os.path.realpath(path)
        if not place.startswith(self.root + "/"):
            return act()
        self.names.append(f"{kind} {place[len(self.root) + 1 :]}")
        now = len(self.names) - 1 == self.kill_at
        if now and self.mode == "before":
            self.die()
        if now and self.mode == "torn":
            if torn is not None:
                torn()
            self.die()
        try:
            return act()
        finally:
            if now and self.mode == "after":
                self.die()

    def install(self) -> None:
        """From now on everything in this process goes through `happen`."""
        from gamengen import durable
        from gamengen.training import state as training_state

        real_open = builtins.open

        def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if not set(mode) & set("wax") or isinstance(file, int):
                return real_open(file, mode, *rest, **options)
            made = self.happen("open", file, lambda: real_open(file, mode, *rest, **options))
            return WatchedFile(made, os.path.realpath(file), self)

        builtins.open = opened
        for name in ("replace", "rename"):
            self._watch(os, name, lambda left, right: right)
        for name in ("unlink", "remove", "rmdir", "mkdir"):
            self._watch(os, name, lambda path, *rest: path)
        self._watch(os, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
        self._watch(durable, "exchange", lambda left, right: right)
        self._watch_save(training_state)
        import safetensors.torch

        self._watch_save(safetensors.torch)

    def _watch(self, module: Any, name: str, where: Callable[..., Any]) -> None:
        real = getattr(module, name)

        def watched(*arguments: Any, dir_fd: int | None = None, **options: Any) -> Any:
            path = where(*arguments)
            if dir_fd is not None:  # shutil.rmtree
                path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
                options["dir_fd"] = dir_fd
            return self.happen(name, path, lambda: real(*arguments, **options))

        setattr(module, name, watched)

    def _watch_save(self, module: Any) -> None:
        """safetensors writes below Python: a torn file is made by cutting a whole one."""
        real = module.save_file

        def watched(tensors: Any, path: Any, *rest: Any, **options: Any) -> Any:
            def save() -> Any:
                return real(tensors, path, *rest, **options)

            def torn() -> None:
                save()
                os.truncate(path, os.path.getsize(path) // 2)

            return self.happen("save_file", path, save, torn)

        module.save_file = watched


class WatchedFile:
    """A file open for writing whose writes are events."""

    def __init__(self, file: Any, path: str, events: Events) -> None:
        self._file, self._path, self._events = file, path, events

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        return self._events.happen("write", self._path, lambda: self._file.write(data), half)

    def __enter__(self) -> WatchedFile:
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def forked(work: Callable[[], Any]) -> tuple[int, Any]:
    """Do `work` in a fork: (exit status, its JSON result). -9: it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        with contextlib.suppress(BaseException):
            try:
                data = json.dumps(work()).encode()
                with os.fdopen(writing, "wb") as pipe:
                    pipe.write(data)
                status = 0
            except BaseException:
                traceback.print_exc()
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, json.loads(data) if status == 0 else None


def run_ranks(program: Program, root: Path, ranks: int, kill_at: int = -1, mode: str = "before") -> list[str]:
    """Run a program to its end, or to its death: the events of the first rank until then."""
    log = root.with_name(root.name + ".events")
    log.unlink(missing_ok=True)
    port = _free_port()

    def rank(number: int) -> None:
        if ranks > 1:
            os.environ |= {
                "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
            }  # fmt: skip
        events = Events(root, kill_at if number == 0 else -1, mode)
        die = events.die

        def leave() -> None:
            log.write_text("\n".join(events.names))
            die()

        events.die = leave
        if number == 0:
            events.install()
        program.run(root)
        if number == 0:
            log.write_text("\n".join(events.names))

    others = [_start(lambda n=n: rank(n)) for n in range(1, ranks)]
    status, _ = forked(lambda: rank(0))
    for other in others:  # as torchrun does when one rank ends in an error
        if status != 0:
            os.kill(other, signal.SIGKILL)
        ended = os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
        assert ended == 0 or status != 0, f"another rank ended with {ended}"
    assert status == (0 if kill_at < 0 else -signal.SIGKILL), f"event {kill_at} {mode}: ended with {status}"
    return log.read_text().splitlines() if log.is_file() else []


def _start(work: Callable[[], Any]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return child


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def matrix(program: Program, ranks: int, count: int | None = None) -> dict[str, Any]:
    """Kill at `count` events, evenly spread (all when None), in every mode; what there was to see.

    Returns:
        `events` of a whole run, those of them that are `different`, `points` tried, and `failures`, each with its
        event, its mode and what was wrong.
    """
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        clean = Path(folder) / "clean"
        program.prepare(clean)
        names = run_ranks(program, clean, ranks)
        expected = forked(lambda: program.result(clean))[1]
        assert expected is not None and names
        different = _different(names)
        number = len(different) if count is None else min(count, len(different))
        chosen = sorted({different[round(i * (len(different) - 1) / max(1, number - 1))] for i in range(number)})
        failures, points = [], 0
        for at in chosen:
            for mode in MODES:
                if mode == "torn" and names[at].split()[0] not in ("write", "save_file"):
                    continue
                if mode == "after" and at + 1 in chosen:
                    continue  # it is before the next one
                points += 1
                wrong = _kill_once(program, Path(folder) / f"{at}-{mode}", ranks, at, mode, expected)
                if wrong:
                    failures.append({"event": names[at], "mode": mode, "wrong": wrong})
    return {"events": len(names), "different": len(different), "points": points, "failures": failures}


def _different(names: list[str]) -> list[int]:
    """All events, but of many writes into one file in a row the first, the middle and the last.

    Between the others the disk differs in the length of one unfinished file only.
    """
    kept, start = [], 0
    for end in range(1, len(names) + 1):
        if end == len(names) or names[end] != names[start]:
            kept += sorted({start, (start + end - 1) // 2, end - 1})
            start = end
    return kept


def _kill_once(program: Program, root: Path, ranks: int, at: int, mode: str, expected: Any) -> str:
    """Kill, look, start again, compare: what was wrong, empty when nothing was."""
    program.prepare(root)
    try:
        before = run_ranks(program, root, ranks, at, mode)
        if ranks == 1:  # all in one fork, since forks are what takes the time
            _, (wrong, result) = forked(lambda: (_said(lambda: program.check(root, before)), _again(program, root)))
        else:
            _, wrong = forked(lambda: _said(lambda: program.check(root, before)))
            run_ranks(program, root, ranks)
            _, result = forked(lambda: program.result(root))
    except (AssertionError, TypeError) as error:  # TypeError: a fork that ended in an error has no result
        return str(error)
    if wrong:
        return f"at its death: {wrong}"
    return "" if result == expected else f"another result: {result} instead of {expected}"


def _again(program: Program, root: Path) -> Any:
    program.run(root)
    return program.result(root)


def _said(look: Callable[[], None]) -> str:
    try:
        look()
    except AssertionError as error:
        return str(error) or traceback.format_exc()
    return ""


if __name__ == "__main__":
    import torch

    from tests.crash_programs import PROGRAMS, TRAINERS

    torch.set_num_threads(1)
    names = [name for name in PROGRAMS if name not in TRAINERS] if sys.argv[1] == "each" else sys.argv[1].split(",")
    limit = None if sys.argv[3] == "all" else int(sys.argv[3])
    print(json.dumps({name: matrix(PROGRAMS[name], int(sys.argv[2]), limit) for name in names}))
