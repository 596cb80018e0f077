"""A part of a split: ``SPLIT@FILE``, the images of a split that a text file lists."""

from __future__ import annotations

import copy
from pathlib import Path

from tag2mask.core.errors import DataError, nearest
from tag2mask.core.names import is_utf8, shown
from tag2mask.data.base import Dataset
from tag2mask.data.image_names import JOINT, without_suffix
from tag2mask.data.layout import read_lines

MARK = "@"


def part_of(dataset: Dataset, path: Path) -> Dataset:
    """The samples that a file lists, in the data set's order; everything else stays as it is.

    Args:
        dataset: a split.
        path: text file with ids or file names, one a line; a repeated one counts once.

    Raises:
        DataError: the file cannot be read, is empty, or lists an image that the split does not have.
    """
    if not is_utf8(path):
        raise DataError(f"the name of the list {shown(path)} is not UTF-8, and results carry it: rename it")
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path} lists no image: expected ids of split '{dataset.split}', one a line")
    known = {sample.id for sample in dataset.samples}
    lines = [(number, name if name in known else _as_id(name)) for number, name in lines]
    for number, name in lines:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean '{near}'?" if near else ""
            raise DataError(f"{path}, line {number}: split '{dataset.split}' has no image '{name}'{hint}")
    names = {name for _, name in lines}
    part = copy.copy(dataset)
    part.samples = tuple(sample for sample in dataset.samples if sample.id in names)
    part.split = f"{dataset.split}{MARK}{path}"
    return part


def _as_id(name: str) -> str:
    """The id of the image that a line names by its file, in a sub-folder perhaps."""
    return without_suffix(name).replace("/", JOINT)
