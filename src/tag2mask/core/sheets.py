"""CSV that spreadsheets open: a name never becomes a formula there, and is read back here as it was."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tag2mask.core.errors import DataError, StageError

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet computes, or that `_cell` has made harmless."""


def csv_text(lines: Iterable[Iterable[Any]]) -> str:
    """Lines of cells as CSV.

    Args:
        lines: the header first. A text that a spreadsheet would compute gets an apostrophe before it, as OWASP has it;
            numbers stay numbers, as text too.
    """
    return "".join(_line([_cell(cell) for cell in line]) for line in lines)


def read_csv(path: Path) -> list[list[str]]:
    """The cells of a CSV as they were given to `csv_text`.

    Raises:
        DataError: it cannot be read as CSV in UTF-8.
    """
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise DataError(f"cannot read {path}: it is not a file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return [[_own(cell) for cell in line] for line in csv.reader(io.StringIO(text, newline=""))]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def read_columns(path: Path, names: Sequence[str], numbers: Sequence[str]) -> list[tuple[Any, ...]]:
    """Some columns of a CSV of a finished stage, a tuple for each line.

    Args:
        path: the CSV.
        names: columns wanted, in the order of the tuples.
        numbers: those that are read as float.

    Raises:
        StageError: the file is damaged.
    """
    try:
        header, *lines = read_csv(path)
        places = [header.index(name) for name in names]
        made = [float if name in numbers else str for name in names]
        return [tuple(make(line[i]) for make, i in zip(made, places, strict=True)) for line in lines]
    except (DataError, ValueError, IndexError) as error:
        raise StageError(f"{path} is damaged ({error}). Remove it and run again") from error


def _line(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(
        cells
    )  # quotes what holds one of the two, as Python 3.13 always does
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
