"""Programs of the tests under torchrun, on the CPU, with as many ranks as one likes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run_on_ranks(ranks: int, module: str, *arguments: str, may_fail: bool = False) -> int:
    """Run `python -m <module> <arguments>` on `ranks` single-threaded ranks of this machine.

    Returns:
        The exit status.
    Raises:
        AssertionError: it is not 0, unless the program `may_fail`; with the end of what was said.
        subprocess.TimeoutExpired: four minutes went by.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(ranks), "--standalone", "-m"]
    done = subprocess.run(
        [*command, module, *arguments],
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
        timeout=240,
    )
    assert may_fail or done.returncode == 0, done.stderr.decode()[-3000:]
    return done.returncode
