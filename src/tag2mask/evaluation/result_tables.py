"""Reads and writes numbers: a run's ``metrics.jsonl``, and every CSV of results, analyses and tables.

CSV is for spreadsheets too: a name never becomes a formula there, and is read back here as it was.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from tag2mask.core.arrays import rounded
from tag2mask.core.errors import DataError, StageError, Tag2MaskError
from tag2mask.core.files import need_regular, write_text
from tag2mask.core.names import shortened
from tag2mask.evaluation.thresholds import Threshold

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet computes, or that `_cell` has made harmless."""


def csv_text(lines: Iterable[Iterable[Any]]) -> str:
    """Lines of cells, the header first, as CSV.

    A text that a spreadsheet would compute gets an apostrophe before it, as OWASP has it; numbers stay numbers.
    """
    return "".join(_line([_cell(cell) for cell in line]) for line in lines)


def read_csv(path: Path) -> list[list[str]]:
    """The cells of a CSV as they were given to `csv_text`."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DataError(f"cannot read {path}: it is not a file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return [[_own(cell) for cell in line] for line in csv.reader(io.StringIO(text, newline=""))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def read_columns(path: Path, names: Sequence[str], numbers: Sequence[str]) -> list[tuple[Any, ...]]:
    """Columns of a CSV of a finished stage by name, a tuple for each line; ``numbers`` are read as float."""
    try:
        header, *lines = read_csv(path)
        places = [header.index(name) for name in names]
        made = [float if name in numbers else str for name in names]
        return [tuple(make(line[i]) for make, i in zip(made, places, strict=True)) for line in lines]
    except (DataError, ValueError, IndexError) as error:
        raise StageError(f"{path} is damaged ({error}). Remove it and run again") from error


def _line(cells: list[Any]) -> str:
    text = io.StringIO()  # with both characters as its end, a cell with one of them is quoted, as Python 3.13 does
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return f"{text.getvalue()[:-2]}\n"


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) and not _is_number(value) else value


def _own(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_AGAIN = "Remove it; the tag2mask run command that made the run rewrites it"
_NUMBERS: dict[str, type[int] | type[float]] = {"n_images": int, "seed": int, "threshold": float, "value": float}


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One number of a run, a line of ``metrics.jsonl``; its threshold and kind must fit each other."""

    stage: str  # name of the evaluated stage's instance, such as ``lpcam-f``
    method: str  # such as ``lpcam``
    split: str
    n_images: int  # images with ground truth that were counted
    metric: str  # name as in `SegmentationScores.values` or `ConfidentScores.values`
    value: float | None  # percent, or None where the metric is undefined (0/0)
    threshold: float | None  # 0..1, or None of kind ``none``
    threshold_kind: str  # as `Threshold.kind_text`
    seed: int
    time: str  # ISO 8601, UTC

    def __post_init__(self) -> None:
        """Check the threshold and its kind."""
        Threshold.parse(self.threshold, self.threshold_kind)

    def result(self, command: str) -> ResultRow:
        """The same number as a line of ``results/``, with the command that made it."""
        return ResultRow(
            self.method, self.split, self.n_images, self.threshold_kind, self.threshold, self.metric, self.value,
            self.seed, command,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line of a CSV in ``results/``: these columns in this order, as in `MetricRow`, and the command."""

    method: str
    split: str
    n_images: int
    threshold_kind: str
    threshold: float | None
    metric: str
    value: float | None
    seed: int
    command: str


COLUMNS = tuple(f.name for f in fields(ResultRow))


class Scores(Protocol):
    """What metrics are read from."""

    def values(self) -> tuple[tuple[str, float], ...]:
        """Every metric by name, percent, NaN where undefined."""


def score_rows(
    scores: Scores,
    threshold: Threshold,
    *,
    stage: str,
    method: str,
    split: str,
    n_images: int,
    seed: int,
    time: str,
) -> tuple[MetricRow, ...]:
    """Every metric of ``scores`` as a row; the other arguments are the row's own."""
    return tuple(
        MetricRow(
            stage, method, split, n_images, metric, _known(value),
            threshold.value, threshold.kind_text, seed, time,
        )
        for metric, value in scores.values()
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """What the lines of one analysis of one stage have in common, as in `ResultRow`."""

    method: str
    seed: int
    command: str

    def rows(
        self, numbers: Iterable[tuple[str, float]], threshold: Threshold, split: str, n_images: int
    ) -> tuple[ResultRow, ...]:
        """Metrics, by name, as lines of ``results/``."""
        at = (threshold.kind_text, threshold.value)
        return tuple(
            ResultRow(self.method, split, n_images, *at, name, _known(value), self.seed, self.command)
            for name, value in numbers
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else rounded(value)


METRICS = "metrics.jsonl"
"""The rows of a stage that measures, in its folder in the store, and of a whole run, in the run's."""
TRIVIAL = "trivial.jsonl"
"""Rows of the trivial answers on the images that a stage has measured, beside its own."""


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def distinct(rows: Iterable[MetricRow]) -> list[MetricRow]:
    """The first of the rows that differ in seed and time alone: what stages have measured alike on the same images."""
    found: dict[MetricRow, MetricRow] = {}
    for row in rows:
        found.setdefault(replace(row, seed=0, time=""), row)
    return list(found.values())


def write_metrics(path: Path, rows: Iterable[MetricRow]) -> None:
    """Write a whole ``metrics.jsonl``, or leave what was there."""
    lines = (json.dumps(asdict(row), ensure_ascii=False, allow_nan=False) for row in rows)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_metrics(path: Path) -> list[MetricRow]:
    """Read a ``metrics.jsonl``."""
    found = []
    try:
        lines = need_regular(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"cannot read {path}: {error}. {_AGAIN}") from error
    for number, line in enumerate(lines, start=1):
        try:
            found.append(_metric_row(json.loads(line)))
        except (ValueError, TypeError, RecursionError, Tag2MaskError) as error:
            raise StageError(f"line {number} of {path} is not a metric row ({error}). {_AGAIN}") from error
    return found


def _metric_row(values: Any) -> MetricRow:
    """A row whose values are of the types that it says; anything else is a ValueError or a TypeError."""
    row = MetricRow(**values)
    for name, value in asdict(row).items():
        wanted = _NUMBERS.get(name, str)
        if wanted is float:
            fits = value is None or (isinstance(value, int | float) and math.isfinite(value))
        else:
            fits = isinstance(value, wanted)
        if not fits or isinstance(value, bool):
            raise ValueError(f"{name} is {shortened(repr(value))}")
    return row


def write_results(path: Path, rows: Iterable[ResultRow]) -> None:
    """Write a CSV of results with the columns `COLUMNS`, whole or not at all."""
    write_table(path, ResultRow, rows)


def write_table(path: Path, line: type[Any], lines: Iterable[Any]) -> None:
    """Write instances of the dataclass ``line`` as CSV, whole or not at all; None and NaN become empty cells."""
    write_cells(path, [f.name for f in fields(line)], (asdict(values).values() for values in lines))


def write_cells(path: Path, columns: Sequence[str], lines: Iterable[Iterable[Any]]) -> None:
    """Write lines of cells under their columns as CSV, whole or not at all; None and NaN become empty cells."""
    write_text(path, csv_text([columns, *(map(_value, line) for line in lines)]))


def _value(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
