"""What a figure belongs to: the machine and the versions of everything that took part."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import outrider
from outrider import kernels
from outrider.machine import describe_cpu, num_cores, total_memory_bytes


def describe_machine() -> dict[str, str | int | float]:
    """Name processor, cores, memory and system."""
    return {
        "cpu": describe_cpu(),
        "cores": num_cores(),
        "memory_gb": round((total_memory_bytes() or 0) / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
    }


def describe_versions() -> dict[str, str]:
    """Name what is compared and what it was built with; "unknown" where nothing tells."""
    return {
        "outrider": outrider.__version__,
        "commit": _first_line(
            "git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"
        ),
        "compiler": kernels.compiler(),
        "python": platform.python_version(),
    }


def _first_line(*command: str) -> str:
    try:
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return text.splitlines()[0] if text else "unknown"
