"""A table of tags: CSV with the columns ``image`` and ``tags``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.errors import DataError, nearest
from tag2mask.data.layout import normal, without_suffix

HEADER = ["image", "tags"]
_EXPECTED = "a first line 'image,tags' and rows such as 'photo1.jpg,cat;dog' (no tags: 'photo2.jpg,')"


@dataclass(frozen=True, slots=True)
class TagRow:
    """One row: its line in the file, the id it names, the tags in its cell."""

    line: int
    id: str
    tags: tuple[str, ...]


def split_tags(cell: str, separators: str = ";") -> tuple[str, ...]:
    """The tags in a cell, normalised; empty pieces are no tags."""
    for separator in separators[1:]:
        cell = cell.replace(separator, separators[0])
    return tuple(t for piece in cell.split(separators[0]) if (t := normal(piece)))


def read_table(path: Path, images: Mapping[str, Path]) -> dict[str, TagRow]:
    """Read a tag table; every image needs exactly one row, and an empty cell says that it shows no class.

    Args:
        path: the CSV file, UTF-8 with or without byte-order mark; columns may be parted by ``;`` instead of a comma,
            and a cell of several tags then needs quotes.
        images: image files by id.

    Raises:
        DataError: wrong encoding, header or row, an unknown image, an image twice or without a row.
    """
    rows: dict[str, TagRow] = {}
    for row in _rows(path):
        if row.id not in images:
            near = nearest(row.id, images)
            hint = f"; did you mean '{images[near].name}'?" if near else ""
            raise DataError(f"{path}, line {row.line}: there is no image '{row.id}'{hint}")
        first = rows.setdefault(row.id, row)
        if first is not row:
            raise DataError(
                f"{path}, line {row.line}: image '{row.id}' has a row in line {first.line} already: keep one"
            )
    _every_image(images, rows, path)
    return rows


def _every_image(images: Iterable[str], rows: Mapping[str, TagRow], path: Path) -> None:
    missing = [i for i in images if i not in rows]
    if missing:
        raise DataError(
            f"{path} has no row for {len(missing)} images, first '{missing[0]}'. Add the rows; "
            f"an empty tag cell ('{missing[0]},') says that none of the classes is there"
        )


def _rows(path: Path) -> list[TagRow]:
    text = _text(path)
    first = text.partition("\n")[0].strip()
    separator = ";" if "," not in first and ";" in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found = []
    try:
        header = [c.strip() for c in next(reader, [])]
        if header != HEADER:
            raise DataError(f"{path} starts with '{first}': expected {_EXPECTED}")
        found = [_row(cells, reader.line_num, separator, path) for cells in reader if any(c.strip() for c in cells)]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: no valid CSV ({error})") from error
    return found


def _row(cells: list[str], line: int, separator: str, path: Path) -> TagRow:
    if len(cells) != len(HEADER) or not cells[0].strip():
        hint = (
            "with ';' between the columns, several tags need quotes: photo1.jpg;\"cat;dog\""
            if separator == ";"
            else "tags are parted by ';': photo1.jpg,cat;dog"
        )
        raise DataError(
            f"{path}, line {line}: '{separator.join(cells)}' has {len(cells)} cells, expected image and tags; {hint}"
        )
    name = normal(cells[0])
    if "/" in name or "\\" in name:
        raise DataError(f"{path}, line {line}: image '{name}' names a folder; give the file name alone")
    return TagRow(line, without_suffix(name), split_tags(cells[1]))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read the tag table {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: save it as 'CSV UTF-8'") from error
