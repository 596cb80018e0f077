"""What every benchmark shares: fair timing of two callables, peak memory, and rows written as CSV.

A benchmark runs as ``python -m benchmarks.NAME`` from the repository's root and writes ``results/NAME.csv``.
"""

from __future__ import annotations

import gc
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from tag2mask.core.files import write_text
from tag2mask.evaluation.result_tables import csv_text, read_csv

RESULTS = Path(__file__).resolve().parent.parent / "results"
_KIB = 1024
_PROBE = 32 << 20
"""Bytes of a block that must show in the high-water mark before it is believed."""


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison of ours with a baseline; a row of the CSV.

    Attributes:
        benchmark: what is measured, such as ``lpcam-maps``.
        variant: which form of it, such as ``K=12``; empty where there is one.
        seconds_median: median seconds of ours.
        baseline_seconds_median: median seconds of the baseline.
        ratio_median: median over the runs of baseline seconds / our seconds: above 1, ours is that many times faster.
        ratio_min: smallest of these ratios.
        ratio_max: largest of these ratios.
        runs: timed runs of each side.
        threads: CPU threads of torch, 1 where torch is not loaded.
        cpu: model name of the processor.
        torch: version of torch.
    """

    benchmark: str
    variant: str
    seconds_median: float
    baseline_seconds_median: float
    ratio_median: float
    ratio_min: float
    ratio_max: float
    runs: int
    threads: int
    cpu: str
    torch: str


def compare(
    name: str,
    ours: Callable[[], object],
    baseline: Callable[[], object],
    runs: int = 5,
    warmup: int = 1,
    *,
    variant: str = "",
) -> Row:
    """Time two callables in turn, ours baseline ours baseline ..., so that both meet the same load.

    Args:
        name: the benchmark's name.
        ours: one run of our code; it returns when its work is done (synchronise an accelerator inside).
        baseline: one run of what it is held against, on the same input.
        runs: timed runs of each, at least 1.
        warmup: runs of each before, not timed.
        variant: which form of the benchmark this is.

    Raises:
        ValueError: ``runs`` is below 1.
    """
    if runs < 1:
        raise ValueError(f"runs is {runs}, expected at least 1")
    for _ in range(warmup):
        ours()
        baseline()
    pairs = [(seconds(ours), seconds(baseline)) for _ in range(runs)]
    ratios = [theirs / own for own, theirs in pairs]
    return Row(
        benchmark=name,
        variant=variant,
        seconds_median=statistics.median(own for own, _ in pairs),
        baseline_seconds_median=statistics.median(theirs for _, theirs in pairs),
        ratio_median=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        runs=runs,
        threads=torch_threads(),
        cpu=cpu_name(),
        torch=metadata.version("torch"),
    )


def seconds(run: Callable[[], object]) -> float:
    """Wall seconds of one call, never exactly 0; garbage of earlier calls is collected before."""
    gc.collect()
    start = time.perf_counter()
    run()
    return max(time.perf_counter() - start, 1e-9)


def peak_memory(run: Callable[[], object]) -> int:
    """Bytes by which one call raises the resident memory of this process at its highest point.

    Memory that the allocator kept from earlier calls and uses again is not seen: measure in a fresh process, the
    biggest last.

    Raises:
        OSError: this kernel keeps no high-water mark that a process can reset: not Linux, or a sandbox without it.
    """
    gc.collect()
    if _raised_by(lambda: bytearray(_PROBE)) < _PROBE // 2:
        raise OSError("peak_memory needs a kernel whose VmHWM follows /proc/self/clear_refs; this one's does not")
    return _raised_by(run)


def write_rows(path: Path, rows: Sequence[Any], keep: str | None = None) -> None:
    """Write rows as CSV, one column for each field; times and ratios with four significant digits.

    Args:
        path: the CSV file, replaced as a whole; its folder is made where absent.
        rows: at least one instance of `Row`, or of another dataclass, all of one class.
        keep: name of a column: lines of the file whose value there none of the rows has stay, in their place.

    Raises:
        ValueError: there are no rows, or they are of several classes; or the file has other columns.
    """
    if len({type(row) for row in rows}) != 1:
        raise ValueError(f"rows of {len({type(row) for row in rows})} classes given, expected rows of one dataclass")
    header = [f.name for f in fields(rows[0])]
    cells = [[_cell(value) for value in asdict(row).values()] for row in rows]
    if keep is not None and path.exists():
        cells = _beside(path, header, cells, header.index(keep))
    write_text(path, csv_text([header, *cells]))


def _beside(path: Path, header: list[str], cells: list[list[object]], place: int) -> list[list[object]]:
    """The lines of a file with others in the place of those that have the same value in one column."""
    found, *old = read_csv(path)
    if found != header:
        raise ValueError(f"{path} has the columns {', '.join(found)}, expected {', '.join(header)}; delete it")
    lines: dict[object, list[list[object]]] = {}
    for known in old:
        lines.setdefault(known[place], []).append([*known])
    new: dict[object, list[list[object]]] = {}
    for line in cells:
        new.setdefault(line[place], []).append(line)
    return [line for each in (lines | new).values() for line in each]


def cpu_name() -> str:
    """Model name of the processor, without anything that tells the machine."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def torch_threads() -> int:
    """CPU threads of torch, or 1 where torch is not loaded."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else 1


def _cell(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value


def _raised_by(run: Callable[[], object]) -> int:
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        return 0
    reset.write_text("5")
    before = _status("VmRSS")
    run()
    return max(_status("VmHWM") - before, 0)


def _status(key: str) -> int:
    """A memory figure of this process in bytes."""
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if not found:
        raise OSError(f"/proc/self/status has no {key}")
    return int(found.group(1)) * _KIB
