"""Series of a sweep's metric for its figure and the command line, and its table on disk."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import astuple, replace

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.files import write_text
from tag2mask.evaluation.result_tables import COLUMNS, MetricRow, csv_text
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.sweep.figure import draw_sweep
from tag2mask.sweep.result import Cell, Series, SweepPoint, SweepResult

TABLE, FIGURE = "sweep.csv", "sweep.svg"
_SMALL = ("fp", "fn")
"""Prefixes of metrics whose smallest value is the best."""


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
    """Write table and figure into the folder of a sweep; gives the result with these files."""
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
