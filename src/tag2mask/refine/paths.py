"""The pairs of cells that IRN calls neighbours, and the cells on the straight way between the two."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from tag2mask.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Path:
    """The way from a cell (y, x) to the cell (y + dy, x + dx).

    Attributes:
        dy: rows to the other end, 0 or more.
        dx: columns to the other end, of either sign where ``dy`` is above 0, else above 0.
        cells: (y, x) of each cell on the way relative to the first, row by row: those cells of the pair's bounding box
            whose perpendicular distance to the line is below 1; both ends are among them.
    """

    dy: int
    dx: int
    cells: tuple[tuple[int, int], ...]


@lru_cache(maxsize=8)
def paths(radius: int) -> tuple[Path, ...]:
    """One path for each neighbour nearer than ``radius`` in the half-plane below: 34 for radius 5, 152 for 10.

    The other half are the same pairs seen from their other end. First the neighbours in the row of the cell, then
    those one row below from left to right, and so on.

    Args:
        radius: cells; a neighbour has dx² + dy² < radius².

    Raises:
        ConfigError: ``radius`` is no whole number of 2 or more: with 1 no cell has a neighbour.
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
