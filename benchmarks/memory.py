"""The memory of a process, without anything that would add to it."""

from __future__ import annotations

from pathlib import Path


def peak_mib() -> float:
    """Return the most memory that this process held; `resource` would count that of the process it was forked from."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return round(int(status["VmHWM"].split()[0]) / 1024, 1)
