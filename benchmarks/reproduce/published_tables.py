"""Tables of ``results/`` as they are published: read line by line, and the rows that are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.errors import ConfigError, DataError, unknown
from tag2mask.evaluation.result_tables import COLUMNS, MetricRow, ResultRow, read_csv

_TOLERANCE = "tolerance"


@dataclass(frozen=True, slots=True)
class PublishedNumber:
    """One number of a table.

    Attributes:
        line: in the file, the header being 1.
        result: the columns that every table of results has.
        more: the other columns, such as settings of a sweep.
        tolerance: points that the number may differ by; None where nothing says so.
    """

    line: int
    result: ResultRow
    more: Mapping[str, str]
    tolerance: float | None = None


def read_table(path: Path, *, required: bool = True) -> list[PublishedNumber]:
    """Read a CSV that has at least the columns of `ResultRow`.

    Args:
        path: the CSV.
        required: whether another kind of table is an error; else it gives no rows.

    Raises:
        DataError: it cannot be read, has no such columns, or a line does not fit.
    """
    lines = read_csv(path)
    header = lines[0] if lines else []
    absent = [name for name in COLUMNS if name not in header]
    if absent and not required:
        return []
    if absent:
        raise DataError(_too_little(path, absent, [dict(zip(header, line, strict=False)) for line in lines[1:]]))
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise DataError(f"line {number} of {path} has {len(line)} cells; expected {len(header)}")
        rows.append(_row(dict(zip(header, line, strict=True)), number, path))
    return rows


def _too_little(path: Path, absent: Sequence[str], lines: Sequence[Mapping[str, str]]) -> str:
    """Error text: what the table lacks, and the command that makes it."""
    known = sorted({line["command"] for line in lines if line.get("command")})
    modules = sorted(Path("benchmarks").glob("*.py"), reverse=True)  # of two beginnings the longer one
    benchmark = next((module.stem for module in modules if path.stem.startswith(module.stem)), "NAME")
    beside = [other.name for other in sorted(path.parent.glob("*.csv")) if other != path and _is_results(other)]
    if known:
        hint = f"Its command, {known[0]}, can be run by hand"
    elif beside and benchmark == "NAME":
        hint = f"Tables of results beside it, whose commands can be rerun: {', '.join(beside)}"
    else:
        hint = f"Tables of benchmarks are made by: python -m benchmarks.{benchmark}"
    return (
        f"{path} lacks the columns {', '.join(absent)} of a table of results, so its numbers cannot be compared. {hint}"
    )


def _is_results(path: Path) -> bool:
    try:
        lines = read_csv(path)
    except DataError:
        return False
    return bool(lines) and set(COLUMNS) <= set(lines[0])


def _row(cells: Mapping[str, str], line: int, path: Path) -> PublishedNumber:
    def number(name: str) -> float | None:
        try:
            return float(cells[name]) if cells[name] else None
        except ValueError:
            raise DataError(f"line {line} of {path}: {name} is '{cells[name]}'; expected a number") from None

    def count(name: str) -> int:
        value = number(name)
        if value is None or not value.is_integer():
            raise DataError(f"line {line} of {path}: {name} is '{cells[name]}'; expected a whole number")
        return int(value)

    result = ResultRow(
        cells["method"], cells["split"], count("n_images"), cells["threshold_kind"], number("threshold"),
        cells["metric"], number("value"), count("seed"), cells["command"],
    )  # fmt: skip
    more = {name: cell for name, cell in cells.items() if name not in (*COLUMNS, _TOLERANCE)}
    return PublishedNumber(line, result, more, number(_TOLERANCE) if _TOLERANCE in cells else None)


def of_metrics(rows: Iterable[MetricRow], command: str) -> list[PublishedNumber]:
    """The numbers of a run as rows of a table."""
    return [PublishedNumber(number, row.result(command), {}) for number, row in enumerate(rows, start=1)]


def choose(rows: Sequence[PublishedNumber], filters: Sequence[str], path: Path) -> list[PublishedNumber]:
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


def _text(row: PublishedNumber, column: str) -> str:
    if column == "line":
        return str(row.line)
    value = row.more[column] if column in row.more else getattr(row.result, column)
    return "" if value is None else str(value)
