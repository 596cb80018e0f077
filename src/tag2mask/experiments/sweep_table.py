"""What a sweep has measured: series of numbers that may be compared, the table on disk, the best point, the spread."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.files import write_text
from tag2mask.core.sheets import csv_text
from tag2mask.evaluation.rows import COLUMNS, MetricRow
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.experiments.sweep_figure import draw_sweep

if TYPE_CHECKING:
    from tag2mask.experiments.sweep import SweepPoint, SweepResult

TABLE, FIGURE = "sweep.csv", "sweep.svg"
_SMALL = ("fp", "fn")
"""Metrics that begin so are shares of errors: the smallest is the best."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of one series.

    Attributes:
        mean: of the seeds, in the unit of the metric.
        sd: sample standard deviation over the seeds; None for one seed.
        n_seeds: how many there are.
        n_images: images that were counted.
        threshold: where all seeds have one threshold, that; None for several, and where there is none.
    """

    mean: float
    sd: float | None
    n_seeds: int
    n_images: int
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """The numbers of one method at one kind of threshold over a grid.

    Attributes:
        method: as in `MetricRow`; a second threshold of one kind has ``(2)`` behind it.
        split: the evaluated split.
        kind: of the threshold, as `Threshold.kind_text`; without a number for ``few-masks``.
        cells: for each point; None where it failed, or has no such number.
        small: whether the smallest number is the best.
    """

    method: str
    split: str
    kind: str
    cells: tuple[Cell | None, ...]
    small: bool = False

    @property
    def comparable(self) -> bool:
        """Whether all numbers are of as many images."""
        return len({cell.n_images for cell in self.cells if cell}) <= 1

    @property
    def best(self) -> int | None:
        """The first point of best mean; None where points are not to be compared, or fewer than two have a number."""
        means = {i: cell.mean for i, cell in enumerate(self.cells) if cell}
        if not self.comparable or len(means) < 2:
            return None
        return (min if self.small else max)(means, key=means.__getitem__)

    @property
    def spread(self) -> float | None:
        """Largest minus smallest mean; None as for `best`."""
        means = [cell.mean for cell in self.cells if cell]
        return max(means) - min(means) if self.comparable and len(means) > 1 else None


def series_of(result: SweepResult) -> tuple[Series, ...]:
    """The numbers of a sweep's metric, kinds of threshold apart; a kind of first appearance first."""
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
    """The numbers of one point, all seeds together."""
    seen: dict[_Key, int] = {}
    found: dict[_Key, list[MetricRow]] = {}
    for row in rows:
        if row.metric != metric or row.value is None:
            continue
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


def write_sweep(result: SweepResult, name: str) -> SweepResult:
    """Write table and figure into the folder of a sweep.

    Args:
        result: without files.
        name: of the recipe, for the title.

    Returns:
        The result with its files.

    Raises:
        ConfigError: points were measured, but none has the metric; the table is written.
        StageError: a file cannot be written.
    """
    table, figure = result.path / TABLE, result.path / FIGURE
    write_text(table, _csv(result))
    every = series_of(result)
    if not every:
        measured = sorted({row.metric for point in result.points for row in point.metrics})
        if result.metric in measured:
            raise ConfigError(
                f"metric = {result.metric} is undefined at every point, as means are where the ground truth shows no "
                f"class. All numbers are in {table}"
            )
        if measured:
            raise ConfigError(f"{unknown('metric', result.metric, measured)}. All numbers are in {table}")
        return replace(result, files=(table,))
    if len(result.keys) > 2:
        return replace(result, files=(table,))
    draw_sweep(result, every, name, figure)
    return replace(result, files=(table, figure))


def _csv(result: SweepResult) -> str:
    """Every number of every point: swept settings, then the columns of ``results/``."""
    return csv_text([[*result.keys, *COLUMNS], *(line for point in result.points for line in _lines(point))])


def _lines(point: SweepPoint) -> Iterable[list[object]]:
    for row in point.metrics:
        cells = astuple(row.result(point.command))
        yield [*point.values, *("" if cell is None else cell for cell in cells)]
