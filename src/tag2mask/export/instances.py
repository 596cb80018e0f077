"""The instances of a label image: connected components of each class, found by runs of equal pixels.

Pixels that touch at a side or a corner belong together (8 neighbours): a slanting line of one pixel's width is one
instance, not one for each pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.types import IGNORE
from tag2mask.data.base import Labels

Mask = NDArray[np.bool_]
_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Instance:
    """One connected component of one class.

    Attributes:
        column: class column; the label is ``column + 1``.
        top: row of the box's first pixel.
        left: column of the box's first pixel.
        mask: (h, w), the pixels of the instance within its box.
        area: number of its pixels.
    """

    column: int
    top: int
    left: int
    mask: Mask
    area: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels; right and bottom are the first outside."""
        height, width = self.mask.shape
        return self.left, self.top, self.left + width, self.top + height


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of equal foreground pixels in rows, in reading order: row, first pixel, first pixel after, label."""

    row: _Ints
    begin: _Ints
    end: _Ints
    label: NDArray[np.uint8]


def find_instances(labels: Labels) -> list[Instance]:
    """The instances of a label image, in the reading order of their first pixels; 0 and 255 are of none.

    Args:
        labels: (H, W) uint8.
    """
    starts, lengths = _equal(labels)
    values = labels.reshape(-1)[starts]
    inside = (values != 0) & (values != IGNORE)
    width = labels.shape[1]
    begin = starts[inside] % max(width, 1)
    runs = _Runs(starts[inside] // max(width, 1), begin, begin + lengths[inside], values[inside])
    if not len(runs.row):
        return []
    number = np.unique(_joined(len(runs.row), *_touching(runs, width)), return_inverse=True)[1]
    numbers = np.full(len(starts), -1, dtype=np.int64)
    numbers[inside] = number
    return _cut_out(runs, number, np.repeat(numbers, lengths).reshape(labels.shape))


def count_holes(mask: Mask) -> int:
    """Number of holes of a mask that is one instance, from its Euler number.

    With 8 neighbours the Euler number, 1 less the holes, is a quarter of Q1 - Q3 - 2 Qd: windows of 2 x 2 pixels with
    one pixel of the mask, with three, and with two that touch at the corner only.

    Args:
        mask: (h, w), one connected component.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    total = a + b + c + d
    corners = int(((total == 2) & (a == d)).sum())
    return 1 - (int((total == 1).sum()) - int((total == 3).sum()) - 2 * corners) // 4


def _equal(labels: Labels) -> tuple[_Ints, _Ints]:
    """First flat index and length of each run of equal pixels; a run ends with its row."""
    first = np.ones(labels.shape, dtype=np.bool_)
    first[:, 1:] = labels[:, 1:] != labels[:, :-1]
    starts = np.flatnonzero(first)
    return starts, np.diff(starts, append=labels.size)


def _touching(runs: _Runs, width: int) -> tuple[_Ints, _Ints]:
    """Pairs of runs of one label in neighbouring rows that touch, at a corner at least."""
    step = width + 2  # more than a row, so that no search reaches into another one
    first = np.searchsorted(runs.row * step + runs.end, (runs.row - 1) * step + runs.begin, "left")
    last = np.searchsorted(runs.row * step + runs.begin, (runs.row - 1) * step + runs.end, "right")
    counts = last - first
    below = np.repeat(np.arange(len(runs.row)), counts)
    within = np.arange(len(below)) - np.repeat(np.cumsum(counts) - counts, counts)
    above = np.repeat(first, counts) + within
    same = runs.label[below] == runs.label[above]
    return below[same], above[same]


def _joined(count: int, one: _Ints, other: _Ints) -> _Ints:
    """For each of ``count`` elements the lowest that it is linked with, over any number of links.

    Every root that has a lower neighbour is hung under the lowest; then chains are shortened; until nothing is left.
    """
    root = np.arange(count)
    while True:
        a, b = root[one], root[other]
        apart = a != b
        if not apart.any():
            return root
        one, other, a, b = one[apart], other[apart], a[apart], b[apart]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(up := root[root], root):
            root = up


def _cut_out(runs: _Runs, number: _Ints, numbers: NDArray[np.int64]) -> list[Instance]:
    """Each component with its box; ``numbers`` is the (H, W) image of component numbers, -1 outside."""
    order = np.argsort(number, kind="stable")
    first = np.flatnonzero(np.diff(number[order], prepend=-1))
    rows, label = runs.row[order], runs.label[order][first].tolist()
    top = np.minimum.reduceat(rows, first).tolist()
    bottom = (np.maximum.reduceat(rows, first) + 1).tolist()
    left = np.minimum.reduceat(runs.begin[order], first).tolist()
    right = np.maximum.reduceat(runs.end[order], first).tolist()
    areas = np.add.reduceat((runs.end - runs.begin)[order], first).tolist()
    return [
        Instance(label[k] - 1, top[k], left[k], numbers[top[k] : bottom[k], left[k] : right[k]] == k, areas[k])
        for k in range(len(first))
    ]
