"""gamengen.registration: the id is known once both packages are imported, in any order, and costs nothing before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KNOWN = (
    "import gymnasium; spec = gymnasium.spec('World-v0'); assert spec.vector_entry_point and 'torch' not in sys.modules"
)


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", f"import sys; {code}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "imports",
    [
        "import gamengen, gymnasium",
        "import gymnasium, gamengen",
        "import gamengen; from gymnasium.spaces import Box",  # a module below Gymnasium imports Gymnasium first
    ],
)
def test_the_id_is_known_in_either_order(imports: str) -> None:
    run(f"{imports}; {KNOWN}; assert not any(type(f).__module__.startswith('gamengen') for f in sys.meta_path)")


def test_gymnasium_imports_the_package_that_the_id_names() -> None:
    missing = run(
        "import gymnasium\n"
        "try: gymnasium.make('gamengen:World-v0', world='nowhere')\n"
        "except FileNotFoundError as error: print(error)"
    )
    assert "nowhere holds no world" in missing


def test_a_failed_import_of_gymnasium_may_be_tried_again(tmp_path: Path) -> None:
    broken = tmp_path / "gymnasium"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('broken')")
    run(
        f"import gamengen; sys.path.insert(0, {str(tmp_path)!r})\n"
        "try: import gymnasium\n"
        "except RuntimeError: del sys.path[0]\n"
        f"sys.path_importer_cache.clear(); {KNOWN}"
    )


def test_other_imports_are_left_alone() -> None:
    run("import gamengen, wave; assert wave.__spec__.loader.__class__.__name__ == 'SourceFileLoader'")
    run("import gamengen\ntry: import no_such_module\nexcept ModuleNotFoundError: pass\nelse: raise AssertionError")
