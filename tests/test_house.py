"""The laws of the house, from the source: layering, cycles, sizes, docstrings, tests, README, no machine named."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("gamengen", "agents", "scripts")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LIBRARY = sorted((ROOT / "gamengen").rglob("*.py"))
TESTS = sorted((ROOT / "tests").glob("*.py"))

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
FORBIDDEN_NAMES = re.compile(r"^(utils?|common|helpers?|misc|base_.*)$")

OPTIONAL = {
    "ale_py", "av", "bitsandbytes", "cv2", "matplotlib", "minari", "onnx", "onnxruntime", "onnxscript", "peft",
    "pygame", "stable_baselines3", "starlette", "uvicorn", "vizdoom", "wandb", "websockets",
}  # fmt: skip
"""Packages of an extra: imported in a function, or at the top of the file that is all about them."""
AT_THE_TOP = {"gamengen/player/server.py": {"starlette", "uvicorn", "websockets"}}

ANY_WORLD = (
    "env", "vector_env", "metrics", "objects", "report", "rollout", "media", "world", "contract", "evaluation",
    "player",
)  # fmt: skip
"""Modules and rooms that know no kind of world: no latents, no UNet, no scheduler."""
ONE_KIND = ("codecs", "diffusion", "latents", "training")
"""Rooms of one kind of world or of its training."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports(node: ast.AST, *, at_the_top: bool = False) -> Iterator[str]:
    """Absolute names of imported modules and of what is taken from them; `at_the_top`: on import of the file only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: relative import"
            yield child.module or ""
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            continue
        elif not (at_the_top and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
            yield from imports(child, at_the_top=at_the_top)


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for child in ast.walk(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child


def tracked_files() -> list[Path]:
    """What git tracks; without git, what is neither hidden nor made."""
    try:
        listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True)
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    except (FileNotFoundError, subprocess.CalledProcessError):
        made = {"runs", "data", "dist", ".venv", ".git", "__pycache__"}
        found = (path for path in ROOT.rglob("*") if path.is_file())
        return [path for path in found if not made & set(path.relative_to(ROOT).parts)]


def test_the_house_is_found() -> None:
    assert len(LIBRARY) > 10 and len(SOURCES) > len(LIBRARY)


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_layers_point_downwards(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    above = {"gamengen": {"agents", "scripts"}, "agents": {"scripts"}, "scripts": {"scripts"}}[room]
    used = {name.split(".")[0] for name in imports(tree(path))}
    assert not used & above, f"{shown(path)} imports {used & above}"


@pytest.mark.parametrize(
    "path",
    [path for path in LIBRARY if path.relative_to(ROOT / "gamengen").with_suffix("").parts[0] in ANY_WORLD],
    ids=shown,
)
def test_what_works_on_any_world_knows_no_kind_of_world(path: Path) -> None:
    used = set(imports(tree(path)))
    known = {name for name in used if name.split(".")[1:2] and name.split(".")[1] in ONE_KIND}
    assert not known and not any(module.split(".")[0] == "diffusers" for module in used), known


def test_there_are_no_import_cycles() -> None:
    """Late imports count: a cycle hidden in a function is still one."""
    modules = {module_name(path): path for path in SOURCES if path.relative_to(ROOT).parts[0] != "scripts"}
    graph = {name: {used for used in imports(tree(path)) if used in modules} - {name} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for used in sorted(graph[name]):
                visit(used, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", LIBRARY, ids=shown)
def test_packages_of_an_extra_are_imported_late(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(tree(path), at_the_top=True)}
    assert not used & OPTIONAL - AT_THE_TOP.get(shown(path), set()), f"{shown(path)} imports {used & OPTIONAL}"


def test_every_package_that_is_imported_is_declared() -> None:
    """What comes only with another package's dependencies may go with its next version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = sum(project["optional-dependencies"].values(), project["dependencies"])
    declared = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in lines}
    used = {name.split(".")[0] for path in LIBRARY for name in imports(tree(path))} - set(sys.stdlib_module_names)
    origin = importlib.metadata.packages_distributions()
    missing = {
        module: origin[module]
        for module in used & set(origin)
        if not {name.lower().replace("_", "-") for name in origin[module]} & declared
    }
    assert not missing.keys() - {"bitsandbytes", "gamengen"}, f"not in pyproject.toml: {missing}"


def test_importing_the_package_starts_nothing_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, threading; before = set(sys.modules); import gamengen; "
        "heavy = {'torch', 'numpy', 'diffusers', 'datasets', 'gymnasium'} & (set(sys.modules) - before); "
        "sys.exit(str(heavy) if heavy or threading.active_count() > 1 else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_files_can_be_read_in_one_sitting(path: Path) -> None:
    assert not FORBIDDEN_NAMES.match(path.stem), f"{shown(path)}: a name that says nothing"
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_FILE_LINES, f"{shown(path)} has {lines} lines: two things in one?"


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=shown)
def test_functions_do_one_thing(path: Path) -> None:
    long = {f.name: f.end_lineno - f.lineno + 1 for f in functions(tree(path)) if f.end_lineno is not None}
    assert not {name: lines for name, lines in long.items() if lines > MAX_FUNCTION_LINES}


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_public_names_say_what_they_are(path: Path) -> None:
    """Modules, and the library's and agents' classes and functions; a method when its body is not plain to see."""
    assert ast.get_docstring(tree(path)), f"{shown(path)} has no docstring"
    if path.relative_to(ROOT).parts[0] == "scripts":
        return
    silent = []
    for node in tree(path).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                silent.append(node.name)
            if isinstance(node, ast.ClassDef):
                methods = [item for item in node.body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))]
                silent += [
                    f"{node.name}.{method.name}"
                    for method in methods
                    if not method.name.startswith("_") and not ast.get_docstring(method) and len(method.body) > 8
                ]
    assert not silent, f"{shown(path)}: no docstring on {', '.join(silent)}"


@pytest.mark.parametrize("path", SOURCES, ids=shown)
def test_errors_are_not_swallowed(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{shown(path)}:{node.lineno}: bare except"
            swallowed = len(node.body) == 1 and isinstance(node.body[0], ast.Pass)
            assert not (swallowed and ast.unparse(node.type) in ("Exception", "BaseException")), (
                f"{shown(path)}:{node.lineno}: any error is silently ignored"
            )


def test_every_module_of_the_library_has_its_test_file() -> None:
    """`gamengen/x.py` is tested by tests/test_x.py, `gamengen/room/x.py` by tests/test_room_x.py."""
    tested = {path.stem.removeprefix("test_") for path in TESTS}
    names = {path: "_".join(path.relative_to(ROOT / "gamengen").with_suffix("").parts) for path in LIBRARY}
    missing = [name for path, name in names.items() if path.stem != "__init__" and name not in tested]
    assert not missing, f"no tests/test_<module>.py for {', '.join(missing)}"


def readme_tree() -> dict[str, str]:
    """Top-level entry, `gamengen/<file>` or `gamengen/<room>/` -> what the README's tree says of it."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    trees = [block for block in blocks if re.search(r"^gamengen/", block, flags=re.MULTILINE)]
    assert len(trees) == 1, f"README.md: expected one fenced block with a line `gamengen/`, got {len(trees)}"
    entries, folder = {}, ""
    for line in trees[0].splitlines():
        name, _, purpose = line.strip().partition(" ")
        if not name:
            continue
        if line[0] != " ":
            folder = name if name.endswith("/") else ""
        entries[name if line[0] != " " else folder + name] = purpose.strip()
    return entries


def test_the_tree_in_the_readme_is_the_real_one() -> None:
    entries = readme_tree()
    files = tracked_files()
    top = {path.relative_to(ROOT).parts[0] for path in files if len(path.relative_to(ROOT).parts) > 1}
    top = {f"{name}/" for name in top if not name.startswith(".")}
    modules = {shown(path) for path in files if path.parent == ROOT / "gamengen" and path.suffix in (".py", ".html")}
    modules |= {f"gamengen/{path.parent.name}/" for path in files if path.parent.parent == ROOT / "gamengen"}
    listed = {name for name in entries if name.startswith("gamengen/") and name != "gamengen/"}
    assert listed | {"gamengen/__init__.py"} == modules | {"gamengen/__init__.py"}
    assert top <= set(entries), f"not in the README's tree: {sorted(top - set(entries))}"
    assert not [name for name in entries if not (ROOT / name).exists()]
    silent = [name for name in listed if not entries[name]]
    assert not silent, f"no purpose given for {silent}"


def test_tests_that_the_documents_name_exist() -> None:
    known = {path.stem for path in TESTS} | {f.name for path in TESTS for f in functions(tree(path))}
    documents = [path for path in tracked_files() if path.suffix == ".md"]
    named = {(shown(path), name) for path in documents for name in re.findall(r"\btest_\w+", path.read_text())}
    # A name may be cut: `test_a_full_disk...`.
    missing = {(where, name) for where, name in named if not any(whole.startswith(name) for whole in known)}
    assert len(named) > 20 and not missing


def test_nothing_names_a_machine_or_an_index() -> None:
    machine = re.compile(r"(?<![\w.:/])/(?:root|home|work|Users|opt|mnt|scratch)/\w")
    index = re.compile(r"index-url|find-links|pythonhosted|download\.pytorch\.org")
    found = []
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" in data or path == Path(__file__).resolve():
            continue
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            if machine.search(line) or index.search(line):
                found.append(f"{shown(path)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)
