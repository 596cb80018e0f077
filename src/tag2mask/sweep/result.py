"""Result of a sweep: its points, and series of comparable numbers over them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.result_tables import MetricRow
from tag2mask.evaluation.thresholds import Threshold


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One point of a grid, run or failed."""

    values: tuple[str, ...]  # text of each swept setting, in the order of `SweepResult.keys`
    path: Path  # its run folder
    command: str  # runs this point alone
    metrics: tuple[MetricRow, ...] = ()
    error: str | None = None  # why it failed; None if it did not


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Result of `tag2mask.sweep.run.sweep`."""

    path: Path  # with sweep.csv and a run folder for each point
    keys: tuple[str, ...]  # the swept settings
    metric: str  # plotted and ranked, such as miou
    points: tuple[SweepPoint, ...]  # of the whole grid, the last key varying fastest
    files: tuple[Path, ...]  # the table, then the figure

    @property
    def failed(self) -> tuple[SweepPoint, ...]:
        """The points that failed."""
        return tuple(point for point in self.points if point.error is not None)


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of one series."""

    mean: float  # over the seeds, in the unit of the metric
    sd: float | None  # sample standard deviation over the seeds; None for one seed
    n_seeds: int
    n_images: int  # that were counted
    threshold: float | None  # that all seeds share; None for several or none


@dataclass(frozen=True, slots=True)
class Series:
    """The numbers of one method at one kind of threshold over a grid."""

    method: str  # as in `MetricRow`; a second threshold of one kind has (2) behind it
    split: str  # the evaluated split
    kind: str  # as `Threshold.kind_text`; without a number for few-masks
    cells: tuple[Cell | None, ...]  # one for each point; None if it failed or lacks the number
    small: bool = False  # whether the smallest number is the best

    @property
    def comparable(self) -> bool:
        """Whether all numbers are of the same count of images."""
        return len(image_counts([self])) <= 1

    @property
    def best(self) -> int | None:
        """Index of the first point with the best mean; None if fewer than two comparable points have a number."""
        means = {i: cell.mean for i, cell in enumerate(self.cells) if cell}
        if not self.comparable or len(means) < 2:
            return None
        return (min if self.small else max)(means, key=means.__getitem__)

    @property
    def spread(self) -> float | None:
        """Largest minus smallest mean; None as for `best`."""
        means = [cell.mean for cell in self.cells if cell]
        return max(means) - min(means) if self.comparable and len(means) > 1 else None


_SMALL = ("fp", "fn")
"""Prefixes of metrics whose smallest value is the best."""


def image_counts(every: Iterable[Series]) -> list[int]:
    """The different numbers of images behind some series, ascending."""
    return sorted({cell.n_images for series in every for cell in series.cells if cell})


def series_of(result: SweepResult) -> tuple[Series, ...]:
    """The numbers of a sweep's metric by method and kind of threshold, in the order of first appearance."""
    by_point = [_cells(point.metrics, result.metric) for point in result.points]
    found = dict.fromkeys(key for cells in by_point for key in cells)
    small = result.metric.startswith(_SMALL)
    every = [_series(key, tuple(cells.get(key) for cells in by_point), small=small) for key in found]
    order = list(dict.fromkeys((s.split, s.kind) for s in every))
    return tuple(sorted(every, key=lambda s: order.index((s.split, s.kind))))


_Key = tuple[str, str, str, int]
"""Method, split, kind of threshold, and a count of several thresholds of that kind."""


def _series(key: _Key, cells: tuple[Cell | None, ...], *, small: bool) -> Series:
    method, split, kind, again = key
    return Series(method if again == 0 else f"{method} ({again + 1})", split, kind, cells, small)


def _cells(rows: Iterable[MetricRow], metric: str) -> dict[_Key, Cell]:
    """The numbers of one point, over all seeds."""
    seen: dict[_Key, int] = {}
    found: dict[_Key, list[MetricRow]] = {}
    for row in rows:
        if row.metric != metric or row.value is None or row.method in TRIVIAL:
            continue  # trivial answers are the same at every point
        few = Threshold.parse(row.threshold, row.threshold_kind).kind == "few-masks"  # a sweep may be over their number
        kind = "few-masks" if few else row.threshold_kind
        of_seed = (row.method, row.split, kind, row.seed)
        seen[of_seed] = seen.get(of_seed, -1) + 1
        found.setdefault((row.method, row.split, kind, seen[of_seed]), []).append(row)
    return {key: _cell(rows_of) for key, rows_of in found.items()}


def _cell(rows: Sequence[MetricRow]) -> Cell:
    values = [row.value for row in rows if row.value is not None]
    thresholds = {row.threshold for row in rows}
    sd = statistics.stdev(values) if len(values) > 1 else None
    threshold = next(iter(thresholds)) if len(thresholds) == 1 else None
    return Cell(statistics.fmean(values), sd, len(values), rows[0].n_images, threshold)
