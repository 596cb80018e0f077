"""Tables of ``results/`` as they are published, and whether numbers made again agree with them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tag2mask.core.errors import ConfigError, DataError, unknown
from tag2mask.evaluation.rows import COLUMNS, MetricRow, ResultRow

TOLERANCE = 0.2
"""Points that a number may differ by where its table has no column ``tolerance``."""

_TOLERANCE = "tolerance"
_TIMES = ("seconds", "peak_memory")
_CHOSEN = ("fixed", "published")
_DIGITS = 4

Verdict = Literal["equal", "within", "differs", "missing", "time"]
"""Equal to four decimals; within the tolerance; beyond it; not made again; a time, which no machine repeats."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One number of a table.

    Attributes:
        line: in the file, the header being 1.
        result: the columns that every table of results has.
        more: the other columns, such as settings of a sweep.
        tolerance: points that the number may differ by, where the table says so.
    """

    line: int
    result: ResultRow
    more: Mapping[str, str]
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A published number and the one made again; a line of ``reproduce.csv``.

    Attributes:
        line: of the table.
        method: of the number, like the next ones.
        split: the evaluated split.
        n_images: images that were counted.
        threshold_kind: kind of the threshold.
        metric: name of the metric.
        seed: of the run.
        published: the table's value, None where undefined.
        made: the value made again, None where undefined or missing.
        difference: made minus published.
        tolerance: points allowed.
        verdict: one of `Verdict`.
        note: what else differs.
        command: that was run.
    """

    line: int
    method: str
    split: str
    n_images: int
    threshold_kind: str
    metric: str
    seed: int
    published: float | None
    made: float | None
    difference: float | None
    tolerance: float
    verdict: Verdict
    note: str
    command: str


def read_table(path: Path, *, required: bool = True) -> list[TableRow]:
    """Read a CSV that has at least the columns of `ResultRow`.

    Args:
        path: the CSV.
        required: whether another kind of table is an error; else it gives no rows.

    Raises:
        DataError: it cannot be read, has no such columns, or a line does not fit.
    """
    try:
        lines = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    header = lines[0] if lines else []
    absent = [name for name in COLUMNS if name not in header]
    if absent and not required:
        return []
    if absent:
        raise DataError(
            f"{path} has no column {', '.join(absent)}, so it does not say what its numbers are or which command made "
            "them. Tables of benchmarks are made again with: python -m benchmarks.NAME"
        )
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise DataError(f"line {number} of {path} has {len(line)} cells; expected {len(header)}")
        rows.append(_row(dict(zip(header, line, strict=True)), number, path))
    return rows


def _row(cells: Mapping[str, str], line: int, path: Path) -> TableRow:
    def number(name: str) -> float | None:
        try:
            return float(cells[name]) if cells[name] else None
        except ValueError:
            raise DataError(f"line {line} of {path}: {name} is '{cells[name]}'; expected a number") from None

    def count(name: str) -> int:
        value = number(name)
        if value is None or value != int(value):
            raise DataError(f"line {line} of {path}: {name} is '{cells[name]}'; expected a whole number")
        return int(value)

    result = ResultRow(
        cells["method"], cells["split"], count("n_images"), cells["threshold_kind"], number("threshold"),
        cells["metric"], number("value"), count("seed"), cells["command"],
    )  # fmt: skip
    more = {name: cell for name, cell in cells.items() if name not in (*COLUMNS, _TOLERANCE)}
    return TableRow(line, result, more, number(_TOLERANCE) if _TOLERANCE in cells else None)


def of_metrics(rows: Iterable[MetricRow], command: str) -> list[TableRow]:
    """The numbers of a run as rows of a table."""
    return [TableRow(number, row.result(command), {}) for number, row in enumerate(rows, start=1)]


def choose(rows: Sequence[TableRow], filters: Sequence[str], path: Path) -> list[TableRow]:
    """The rows that fit ``column=value`` filters: one of the values of each column that is named.

    Raises:
        ConfigError: a filter is not ``column=value``, of an unknown column, or no row fits.
    """
    wanted: dict[str, set[str]] = {}
    for text in filters:
        column, sign, value = text.partition("=")
        known = {*COLUMNS, "line", *(rows[0].more if rows else ())}
        if not sign:
            raise ConfigError(f"--row {text} is not column=value, such as metric=miou")
        if column not in known:
            raise ConfigError(unknown("column", column, known))
        wanted.setdefault(column, set()).add(value)
    found = [row for row in rows if all(_text(row, column) in values for column, values in wanted.items())]
    if not found:
        raise ConfigError(f"no row of {path} is left ({', '.join(filters) or 'it has none'})")
    return found


def _text(row: TableRow, column: str) -> str:
    if column == "line":
        return str(row.line)
    value = row.more[column] if column in row.more else getattr(row.result, column)
    return "" if value is None else str(value)


def judge(row: TableRow, made: Sequence[TableRow], default: float, failure: str = "") -> Judged:
    """Hold a published number against those that its command made again.

    Args:
        row: the published one.
        made: everything that the command made.
        default: tolerance where the table has none.
        failure: why the command failed, empty where it did not.
    """
    tolerance = default if row.tolerance is None else row.tolerance
    ours = next((other for other in made if _same(row, other)), None)
    old, new = row.result.value, None if ours is None else ours.result.value
    verdict: Verdict
    if row.result.metric.startswith(_TIMES):
        verdict, note = "time", ""
    elif ours is None:
        verdict, note = "missing", failure or "the command makes no such number"
    else:
        note = _note(row.result, ours.result)
        verdict = _verdict(old, new, tolerance) if row.result.n_images == ours.result.n_images else "differs"
    difference = None if old is None or new is None else round(new - old, _DIGITS)
    result = row.result
    return Judged(
        row.line, result.method, result.split, result.n_images, result.threshold_kind, result.metric, result.seed,
        old, new, difference, tolerance, verdict, note, result.command,
    )  # fmt: skip


def _same(row: TableRow, other: TableRow) -> bool:
    """Whether two rows are the same number: a chosen threshold is part of that, a found one is a result itself."""
    one, two = row.result, other.result
    names = ("method", "split", "threshold_kind", "metric", "seed")
    if any(getattr(one, name) != getattr(two, name) for name in names):
        return False
    if one.threshold_kind in _CHOSEN and one.threshold != two.threshold:
        return False
    return all(other.more.get(name, cell) == cell for name, cell in row.more.items())


def _note(old: ResultRow, new: ResultRow) -> str:
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in ("n_images", "threshold")]
    return "; ".join(f"{name}: {before} → {after}" for name, before, after in pairs if before != after)


def _verdict(old: float | None, new: float | None, tolerance: float) -> Verdict:
    if old is None or new is None:
        return "equal" if old is new else "differs"
    if round(old, _DIGITS) == round(new, _DIGITS):
        return "equal"
    return "within" if abs(new - old) <= tolerance else "differs"
