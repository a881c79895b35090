"""What this machine is: for benchmarks and bug reports."""

from __future__ import annotations

import platform
from pathlib import Path


def processor(cpu_info: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model, as exactly as the system tells."""
    if cpu_info.is_file():
        for line in cpu_info.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
