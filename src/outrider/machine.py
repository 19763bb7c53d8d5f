"""What this machine lets the process use: cores, memory and files, containers' limits included.

Linux only in the details; elsewhere the answers are the plain ones of the operating system.
It measures and never decides; what it does is to hand freed memory back, and to ask for files.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """Give the cores that this process may use, at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        count = os.cpu_count() or 1
    fields = _read(_CGROUP / "cpu.max").split()
    if len(fields) == 2 and fields[0].isdigit() and fields[1].isdigit() and int(fields[1]) > 0:
        count = min(count, max(1, int(fields[0]) // int(fields[1])))
    return count


def describe_cpu() -> str:
    """Name the processor; an empty name if nothing tells it."""
    lines = _read(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def available_memory_bytes() -> int | None:
    """Give the bytes that can be allocated without swapping; None if that is unknown."""
    limits = []
    available_kib = _field(_read(Path("/proc/meminfo")), "MemAvailable")
    if available_kib:
        limits.append(available_kib * 1024)
    allowed, used = _read(_CGROUP / "memory.max").strip(), _read(_CGROUP / "memory.current").strip()
    if allowed.isdigit() and used.isdigit():
        # Cached files count as used but are given back when memory is asked for.
        cached = _field(_read(_CGROUP / "memory.stat"), "inactive_file")
        limits.append(max(0, int(allowed) - max(0, int(used) - cached)))
    return min(limits, default=None)


def total_memory_bytes() -> int | None:
    """Give the memory that this machine or container has, used or not; None if unknown."""
    limits = []
    total_kib = _field(_read(Path("/proc/meminfo")), "MemTotal")
    if total_kib:
        limits.append(total_kib * 1024)
    allowed = _read(_CGROUP / "memory.max").strip()
    if allowed.isdigit():
        limits.append(int(allowed))
    return min(limits, default=None)


def private_bytes(pid: int) -> int:
    """Give the memory that ends with a process of ours; 0 if that is unknown."""
    return _field(_read(Path(f"/proc/{pid}/status")), "RssAnon") * 1024


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return 0


def ask_for_files(wanted: int) -> int:
    """Let this process open so many files, if the system's limit allows it; give how many it may.

    Connections are files, and 1,024 is what most shells allow at first.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # macOS has one more limit
        return soft
    return most


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library can (glibc).

    Building a tokenizer leaves tens of megabytes of freed small blocks behind, in each process.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library
        return


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
