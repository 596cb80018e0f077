"""Transition matrices of a walk over the cells of an image, from any affinity.

An affinity says how strongly two cells belong together, 0 or more, the same from either end. There are three ways to
one: a boundary map (IRN: `transition`), a number for each pair of neighbours, such as their features' distance (PSA:
`transition_of_pairs`), and a number for any two cells, such as attention (MCTformer: `transition_of_matrix`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import torch
from torch import Tensor

from tag2mask.core.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Path:
    """The way from a cell (y, x) to the cell (y + dy, x + dx)."""

    dy: int  # rows to the other end, 0 or more
    dx: int  # columns to the other end, of either sign where dy is above 0, else above 0
    # (y, x) of each cell on the way relative to the first, row by row, both ends included: those of the pair's bounding
    # box whose perpendicular distance to the line is below 1.
    cells: tuple[tuple[int, int], ...]


@lru_cache(maxsize=8)
def paths(radius: int) -> tuple[Path, ...]:
    """One path for each neighbour, dx² + dy² < radius², in the half-plane below: 34 for radius 5, 152 for 10.

    The other half are the same pairs seen from their other end. First come the neighbours in the row of the cell, then
    those one row below from left to right, and so on.
    """
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 2:
        raise ConfigError(f"radius is {radius!r}, expected a whole number of cells, 2 or more; IRN's are 5 and 10")
    span = range(1 - radius, radius)
    half = [(0, dx) for dx in range(1, radius)] + [(dy, dx) for dy in range(1, radius) for dx in span]
    return tuple(Path(dy, dx, _cells(dy, dx)) for dy, dx in half if dy * dy + dx * dx < radius * radius)


def _cells(dy: int, dx: int) -> tuple[tuple[int, int], ...]:
    """Cells nearer than 1 to the line: |dy x - dx y| / |(dy, dx)| < 1, in whole numbers."""
    columns = range(min(dx, 0), max(dx, 0) + 1)
    squared = dy * dy + dx * dx
    return tuple((y, x) for y in range(dy + 1) for x in columns if (dy * x - dx * y) ** 2 < squared)


STRIP = 8192
"""Cells whose weights are made together: few enough for the processor's cache, enough to outweigh the calls."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A grid of cells laid out as one line of ``margin + height * stride + margin`` cells."""

    height: int
    width: int
    stride: int  # cells of the line for each row, those of the padding included
    margin: int  # cells before the first row, and after the last

    @classmethod
    def of(cls, height: int, width: int, radius: int) -> Frame:
        """The frame in which every neighbour within ``radius`` has a place of its own."""
        reach = radius - 1
        stride = max(width, radius) + reach  # at least 2 reach + 1: no two neighbours of a cell share a place
        return cls(height, width, stride, reach * stride + reach)

    @property
    def count(self) -> int:
        """Cells of all rows, those of the padding to their right included."""
        return self.height * self.stride

    def lines(self, lanes: int, like: Tensor) -> Tensor:
        """(length, lanes) zeros with the dtype and device of ``like``."""
        return like.new_zeros(self.count + 2 * self.margin, lanes)

    def rows(self, lines: Tensor) -> Tensor:
        """View of lines (length, lanes) without the margins: (height * stride, lanes)."""
        return lines[self.margin : self.margin + self.count]

    def image(self, rows: Tensor) -> Tensor:
        """View of rows (height * stride, lanes) without the padding: (height, width, lanes)."""
        return rows.view(self.height, self.stride, -1)[:, : self.width]


@dataclass(frozen=True, slots=True)
class Transition:
    """Transition matrix T of one image: its affinity, 1 from a cell to itself, divided by the sums of its columns."""

    frame: Frame
    # (count, count + 2 margin), sparse CSR or dense. Row p holds column p of T: the weights, of sum 1, in whose mean of
    # old values lies the new one of cell p. A cell of the padding keeps its own value.
    matrix: Tensor


Between = Callable[[int, int, int], Tensor]
"""From the number of a path, a place of the line and a length: affinities (length,) of the pairs whose first cells
begin there; 0 where an end lies outside the image."""


def transition(edge: Tensor, radius: int, beta: float) -> Transition:
    """Transition matrix from a boundary map (h, w) in [0, 1]: IRN's (1 - the highest edge between two cells)^beta."""
    frame = Frame.of(edge.shape[0], edge.shape[1], radius)
    line = frame.lines(1, edge)
    frame.image(frame.rows(line))[..., 0] = (1 - edge) ** beta
    line = line[:, 0]
    steps = [[y * frame.stride + x for y, x in path.cells] for path in paths(radius)]
    return _banded(frame, radius, edge, lambda path, start, length: _least(line, steps[path], start, length))


def transition_of_pairs(pairs: Tensor, radius: int) -> Transition:
    """Transition matrix from the affinities of neighbours.

    ``pairs`` (P, h, w), floating, 0 or more, has at (p, y, x) that of the cells (y, x) and (y + dy, x + dx), p the
    place of (dy, dx) in `paths`. What belongs to a pair that leaves the image is not looked at.
    """
    ways = paths(radius)
    if pairs.dim() != 3 or len(pairs) != len(ways):
        raise DataError(f"pairs has shape {tuple(pairs.shape)}, expected ({len(ways)}, h, w) for radius {radius}")
    height, width = pairs.shape[1:]
    frame = Frame.of(height, width, radius)
    lines = frame.lines(len(ways), pairs)
    image = frame.image(frame.rows(lines))
    for number, way in enumerate(ways):
        rows, columns = slice(0, max(0, height - way.dy)), slice(max(0, -way.dx), max(0, width - max(0, way.dx)))
        image[rows, columns, number] = pairs[number, rows, columns]
    _check_affinity(image, "pairs")
    return _banded(frame, radius, pairs, lambda path, start, length: lines[start : start + length, path])


def transition_of_matrix(affinity: Tensor, height: int, width: int) -> Transition:
    """Transition matrix from the affinity of any two cells of a grid, in raster order.

    ``affinity`` (h w, h w) is floating and dense, 0 or more, symmetric; what stands on its diagonal counts as 1.
    """
    count = height * width
    if affinity.shape != (count, count):
        raise DataError(f"affinity has shape {tuple(affinity.shape)}, expected ({count}, {count}): {height} x {width}")
    _check_affinity(affinity, "affinity")
    if not torch.allclose(affinity, affinity.T, rtol=1e-5, atol=1e-8):
        raise DataError("affinity differs from its transpose, expected a symmetric one: take the mean of both")
    rows = affinity.clone().fill_diagonal_(1)
    return Transition(Frame(height, width, width, 0), rows.div_(rows.sum(1, keepdim=True)))


def _check_affinity(values: Tensor, name: str) -> None:
    bad = int((~values.isfinite() | (values < 0)).sum())
    if bad:
        raise DataError(f"{name} is NaN, infinite or negative at {bad} places, expected affinities of 0 or more")


def _banded(frame: Frame, radius: int, like: Tensor, between: Between) -> Transition:
    """The transition matrix of the neighbours within ``radius``; ``like`` gives device and dtype."""
    ends = [path.dy * frame.stride + path.dx for path in paths(radius)]
    values = _weights(between, ends, frame, like)
    places = [-end for end in reversed(ends)] + [0, *ends]
    shifts = torch.tensor(places, dtype=torch.int32, device=like.device) + frame.margin
    columns = torch.arange(frame.count, dtype=torch.int32, device=like.device)[:, None] + shifts
    starts = torch.arange(0, values.numel() + 1, len(places), dtype=torch.int32, device=like.device)
    size = (frame.count, frame.count + 2 * frame.margin)
    entries = (starts, columns.view(-1), values.view(-1))
    _expect_beta_warning()
    return Transition(frame, torch.sparse_csr_tensor(*entries, size, check_invariants=False))


def _weights(between: Between, ends: list[int], frame: Frame, like: Tensor) -> Tensor:
    """(count, 2 len(ends) + 1) weights of each cell's neighbours, in the order of their places, with sum 1.

    ``ends`` are the places of the paths' other ends relative to their first cells, ascending and above 0.
    """
    middle = len(ends)
    values = like.new_empty(frame.count, 2 * middle + 1)
    for first in range(0, frame.count, STRIP):
        size = min(STRIP, frame.count - first)
        planes = like.new_empty(2 * middle + 1, size)
        planes[middle] = 1
        for path, end in enumerate(ends):
            # Paths that begin from `end` cells before the strip on: those that end in the strip are among them.
            found = between(path, frame.margin + first - end, size + end)
            planes[middle + 1 + path] = found[end:]
            planes[middle - 1 - path] = found[:size]
        values[first : first + size] = planes.div_(planes.sum(0)).T
    return values


def _least(line: Tensor, cells: list[int], start: int, length: int) -> Tensor:
    """(length,) smallest value on each of the paths that begin at ``start``, ``start`` + 1, and so on."""
    low, *rest = (line[start + cell : start + cell + length] for cell in cells)
    least = torch.minimum(low, rest[0])
    for other in rest[1:]:
        torch.minimum(least, other, out=least)
    return least


@cache
def _expect_beta_warning() -> None:
    """Let torch say, once and unheard, that its sparse CSR tensors are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.eye(1).to_sparse_csr()
