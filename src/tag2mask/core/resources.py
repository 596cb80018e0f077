"""CPU threads and memory: a run takes as many threads as cores are free when it begins, and every resume the same.

A thread too many costs more than one too few: OpenMP's threads wait for one another many times in a step, and where a
core is taken by another program, all of them wait for the one that has to share it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

from tag2mask.core.processes.ranks import local_processes

_SECONDS = 0.5
"""How long the cores are looked at; the kernel counts their time in hundredths of a second."""
_STAT, _OWN_GROUPS, _CGROUPS = Path("/proc/stat"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_IDLE = slice(3, 5)
"""Columns of /proc/stat: idle, and waiting for a disk."""
_COLUMNS = 8
"""Those behind are counted in others already."""


def wait_asleep() -> None:
    """Have OpenMP's threads sleep while they wait for one another; before torch is loaded, or it has no effect.

    By default they spin, in the belief that the cores are theirs alone: on busy ones that takes tenfold the time.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def threads_for(requested: int | None, before: int | None) -> int:
    """CPU threads of torch in each process of this machine: the first of four that there is, at least 1.

    ``engine.threads``; those that the run was begun with, for sums in another order end in other bits;
    ``OMP_NUM_THREADS`` where somebody set it; this process's share of the free cores.
    """
    if requested is not None or before is not None:
        return requested or before or 1
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    processes = local_processes()
    if given.isdecimal() and int(given) and not (given == "1" and processes > 1):  # which torchrun sets by itself
        return int(given)
    return max(1, free_cores() // processes)


@cache
def free_cores() -> int:
    """Cores that this process may use and nobody else is using, at least 1; looked at once in a process."""
    allowed = usable_cores()
    usable = len(allowed)
    quota = _quota()
    if usable > 1:
        before = _times()
        time.sleep(_SECONDS)
        usable = min(usable, round(_idle(allowed, before, _times())))
    return max(1, usable if quota is None else min(usable, int(quota)))


def usable_cores() -> set[int]:
    """Numbers of the cores that this process may run on, whoever else is using them."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _times() -> dict[int, list[int]]:
    """Core -> what it has spent its time on so far; empty where the system does not say."""
    try:
        lines = _STAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    cells = [line.split() for line in lines if line.startswith("cpu") and line[3:4].isdecimal()]
    return {int(name[3:]): [int(value) for value in values[:_COLUMNS]] for name, *values in cells}


def _idle(allowed: set[int], before: dict[int, list[int]], after: dict[int, list[int]]) -> float:
    """Cores' worth of time that nobody took in between; by the load of the last minute where it is not counted."""
    free = 0.0
    for core in allowed:
        spent = [b - a for a, b in zip(before.get(core, ()), after.get(core, ()), strict=False)]
        if sum(spent) <= 0:
            return len(allowed) - psutil.getloadavg()[0]
        free += sum(spent[_IDLE]) / sum(spent)
    return free


def _quota() -> float | None:
    """Cores' worth of time that the container may take; None for as much as there is."""
    return min((limit for folder in _groups() if (limit := _limit(folder)) is not None), default=None)


def _groups() -> list[Path]:
    """The control groups of this process, and those they lie in."""
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in lines]
    roots = {"": _CGROUPS, "cpu": _CGROUPS / "cpu", "cpu,cpuacct": _CGROUPS / "cpu,cpuacct"}
    named = [(roots[kind], path.strip("/")) for _, kind, path in parts if kind in roots]
    around = [(root, folder) for root, path in named for folder in (root / path, *(root / path).parents)]
    return [folder for root, folder in around if folder.is_relative_to(root)]


def _limit(folder: Path) -> float | None:
    """Cores that one control group may take: in one file of version 2, in two of version 1."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = ((folder / f"cpu.cfs_{n}_us").read_text(encoding="ascii") for n in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # "max", or no such file: no limit
        return None


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
