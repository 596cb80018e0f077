"""How much memory this process and its workers have taken at their highest, as each system says it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

_STATUS = "/proc/{}/status"
_highest = 0
"""Bytes: the most that was seen of this process, or of one of its workers, so far."""


def peak_memory() -> int:
    """Largest resident memory of this process, or of one of the workers that `note_workers` saw, so far; in bytes.

    Linux (VmHWM) and Windows (peak working set) keep the highest mark themselves. Elsewhere, as on macOS, it is the
    most that was resident at one of the calls of these two functions: a lower bound.
    """
    return _note(psutil.Process())


def note_workers() -> None:
    """Have `peak_memory` count the processes that this one has begun, which run still: call it before they end."""
    for worker in psutil.Process().children():
        _note(worker)


def _note(process: psutil.Process) -> int:
    global _highest  # noqa: PLW0603  # of the process as a whole, as the system's own count is
    with suppress(psutil.Error):  # it has just ended
        found = process.memory_info()
        _highest = max(_highest, found.rss, getattr(found, "peak_wset", 0), _high_water(process.pid))
    return _highest


def _high_water(pid: int) -> int:
    """VmHWM of a process in bytes; 0 where the system does not keep it."""
    with suppress(OSError, ValueError):
        for line in Path(_STATUS.format(pid)).read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
