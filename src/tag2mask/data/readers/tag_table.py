"""A table of tags: CSV with the columns ``image`` and ``tags``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.errors import DataError
from tag2mask.core.files import need_regular
from tag2mask.data.image_names import ImageNames
from tag2mask.data.layout import normal

HEADER = ["image", "tags"]
_EXPECTED = "a first line 'image,tags' and rows such as 'photo1.jpg,cat;dog' (no tags: 'photo2.jpg,')"

SEPARATOR = ";"
"""Parts the tags of a cell by default."""


@dataclass(frozen=True, slots=True)
class TagRow:
    """The tags that a table gives an image, and the lines that name it: several where each tag has a row."""

    lines: tuple[int, ...]
    id: str
    tags: tuple[str, ...]


def split_tags(cell: str, separators: Sequence[str] = SEPARATOR) -> tuple[str, ...]:
    """The tags in a cell, normalised; empty pieces are not tags."""
    for separator in separators[1:]:
        cell = cell.replace(separator, separators[0])
    return tuple(t for piece in cell.split(separators[0]) if (t := normal(piece)))


def read_table(path: Path, images: Mapping[str, Path], separators: Sequence[str] | None = None) -> dict[str, TagRow]:
    """Read a tag table; every image needs a row, and an empty cell says that it shows no class.

    Several rows of one image, as tables with one tag a row have them, are joined.

    Args:
        path: the CSV file, UTF-8 with or without byte-order mark; columns may be parted by ``;`` instead of a comma,
            and a cell of several tags then needs quotes.
        images: image files by id.
        separators: what parts the tags of a cell; None: `SEPARATOR`. With that of the columns among them, every cell
            behind the first holds tags.
    """
    names = ImageNames(images)
    rows: dict[str, TagRow] = {}
    for line, called, cell in _rows(path, separators or ()):
        name = names.find(called, f"{path}, line {line}")
        row = TagRow((line,), name, split_tags(cell, separators or SEPARATOR))
        first = rows.setdefault(name, row)
        if first is not row:
            rows[name] = _joined(first, row, path)
    _every_image(images, rows, path)
    return rows


def _joined(first: TagRow, second: TagRow, path: Path) -> TagRow:
    if bool(first.tags) != bool(second.tags):
        raise DataError(
            f"{path}, line {second.lines[0]}: image '{second.id}' has a row in line {first.lines[0]} already, and one "
            f"of the two has an empty tag cell. Rows of one image are joined: take the empty one out if the image "
            f"shows {', '.join(map(repr, first.tags or second.tags))}, else the other"
        )
    return TagRow(first.lines + second.lines, first.id, tuple(dict.fromkeys(first.tags + second.tags)))


def _every_image(images: Iterable[str], rows: Mapping[str, TagRow], path: Path) -> None:
    missing = [i for i in images if i not in rows]
    if missing:
        raise DataError(
            f"{path} has no row for {len(missing)} images, first '{missing[0]}'. Add the rows; "
            f"an empty tag cell ('{missing[0]},') says that none of the classes is there"
        )


def _rows(path: Path, separators: Sequence[str]) -> list[tuple[int, str, str]]:
    """Line, image and tag cell of each row."""
    text = _text(path)
    first = text.partition("\n")[0].strip()
    column = ";" if "," not in first and ";" in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=column, strict=True)
    found = []
    try:
        header = [c.strip() for c in next(reader, [])]
        if header != HEADER:
            raise DataError(f"{path} starts with '{first}': expected {_EXPECTED}")
        for cells in reader:
            if column in separators and len(cells) > len(HEADER):
                cells = [cells[0], column.join(cells[1:])]
            if any(c.strip() for c in cells):
                found.append(_row(cells, reader.line_num, column, path))
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not valid CSV ({error})") from error
    return found


def _row(cells: list[str], line: int, column: str, path: Path) -> tuple[int, str, str]:
    if len(cells) != len(HEADER) or not cells[0].strip():
        hint = (
            "with ';' between the columns, several tags need quotes: photo1.jpg;\"cat;dog\""
            if column == ";"
            else "tags are parted by ';': photo1.jpg,cat;dog"
        )
        hint += f". If each cell behind the image is a tag, set \"data.separator='{column}'\""
        raise DataError(
            f"{path}, line {line}: '{column.join(cells)}' has {len(cells)} cells, expected image and tags; {hint}"
        )
    return line, cells[0], cells[1]


def _text(path: Path) -> str:
    try:
        return need_regular(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read the tag table {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: save it as 'CSV UTF-8'") from error
