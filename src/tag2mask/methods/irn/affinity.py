"""Pairs of cells: how alike a boundary map says they are, and what labels say about it (IRN, class boundaries).

The affinity of two cells is ``a = 1 - max e`` over the cells of the straight path between them, e the boundary
probability. Refined seeds label a pair ``background`` or ``foreground`` (both ends of the same class) or ``different``;
a pair with an ignored end counts for nothing. Only those cells begin a pair whose whole neighbourhood lies in the grid.

On a grid of 128 x 128 a radius of 10 gives 152 offsets of 119 x 110 pairs. So the largest cell of a path is taken from
planes that hold the largest of 1, 2, ... cells in a row (or a column), about 3.5 of them a path instead of 14 cells;
and the gradient is worked out in the same pass, so that no plane of pairs outlives its offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from tag2mask.core.errors import ConfigError
from tag2mask.core.types import IGNORE
from tag2mask.refine.transition import Path, paths
from tag2mask.training.losses import global_ratio

EPSILON = 1e-5
"""Keeps logarithms and ratios finite, as published."""
_SHARES = (0.25, 0.25, 0.5)
"""Of background, foreground and different pairs: half of ``(bg + fg) / 2 + different``, the other half of IRN's loss
being that of its displacement branch. Without the half the published learning rate would mean another one."""
_SHARES_OF_CLASSES = (0.0, 0.5, 0.5)
"""Where every pixel is of a class there are no background pairs: what is alike still weighs what is different does."""


@dataclass(frozen=True, slots=True)
class _Way:
    """A path as straight pieces.

    Attributes:
        dy: rows to the other end.
        dx: columns to the other end.
        across: whether the pieces lie in rows (else in columns).
        pieces: (y, x, number of cells) of each, from its upper or left end.
    """

    dy: int
    dx: int
    across: bool
    pieces: tuple[tuple[int, int, int], ...]


@lru_cache(maxsize=4)
def _ways(radius: int) -> tuple[_Way, ...]:
    return tuple(_way(path) for path in paths(radius))


def _way(path: Path) -> _Way:
    """Cut a path into its rows or its columns, whichever are fewer."""
    across = path.dy <= abs(path.dx)
    lines: dict[int, list[tuple[int, int]]] = {}
    for cell in path.cells:
        lines.setdefault(cell[not across], []).append(cell)
    return _Way(path.dy, path.dx, across, tuple((*min(cells), len(cells)) for cells in lines.values()))


@dataclass(frozen=True, slots=True)
class _Sources:
    """The cells that begin pairs: ``height`` x ``width``, from row 0 and column ``margin`` on."""

    height: int
    width: int
    margin: int

    def moved(self, plane: Tensor, y: int, x: int) -> Tensor:
        """What ``plane`` (N, h, w) holds ``y`` rows below and ``x`` columns right of each source: a view."""
        left = self.margin + x
        return plane[:, y : y + self.height, left : left + self.width]


def _sources(grid: Tensor, radius: int) -> _Sources:
    height, width = grid.shape[-2] - radius + 1, grid.shape[-1] - 2 * (radius - 1)
    if min(height, width) < 1:
        raise ConfigError(
            f"a grid of {grid.shape[-2]} x {grid.shape[-1]} cells has no room for pairs of radius {radius}: it needs "
            f"{radius} x {2 * radius - 1}. Enlarge the crop or lower the radius"
        )
    return _Sources(height, width, radius - 1)


def pair_counts(labels: Tensor, radius: int) -> Tensor:
    """How many pairs labels give.

    Args:
        labels: (N, h, w) uint8: 0 background, 1 and more classes, 255 ignored.
        radius: pairs nearer than this many cells.

    Returns:
        (3,) int64: background, foreground, different.
    """
    cells = _sources(labels, radius)
    labelled, background = labels != IGNORE, labels == 0
    own, own_labelled, own_background = (cells.moved(p, 0, 0).contiguous() for p in (labels, labelled, background))
    counts = []
    for way in _ways(radius):
        both = own_labelled & cells.moved(labelled, way.dy, way.dx)
        same = (own == cells.moved(labels, way.dy, way.dx)) & both
        nothing = own_background & cells.moved(background, way.dy, way.dx)
        counts.append(torch.stack([p.count_nonzero() for p in (nothing, same, both)]))
    nothing, same, both = torch.stack(counts).sum(0)
    return torch.stack([nothing, same - nothing, both - same])


def pair_sum(edge: Tensor, labels: Tensor, weights: Tensor, radius: int) -> Tensor:
    """The sum over pairs of weighted terms: ``-log(a + 1e-5)`` of pairs alike, ``-log(1 + 1e-5 - a)`` of the others.

    Args:
        edge: (N, h, w) in [0, 1], boundary probability.
        labels: (N, h, w) uint8, as in `pair_counts`.
        weights: (3,) of a background, a foreground and a different pair.
        radius: pairs nearer than this many cells.

    Returns:
        A scalar with a gradient in ``edge``. Where several pieces of a path hold its maximum, each gets its gradient.
    """
    result: Tensor = _PairSum.apply(edge, labels, weights, radius)
    return result


class _PairSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, edge: Tensor, labels: Tensor, weights: Tensor, radius: int) -> Tensor:
        total, gradient = _sum_and_gradient(edge, labels, weights, radius)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return outer[0] * gradient, None, None, None


def _sum_and_gradient(edge: Tensor, labels: Tensor, weights: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    cells = _sources(edge, radius)
    planes = {across: _run_maxima(edge, radius, across) for across in (True, False)}
    slopes = {across: [torch.zeros_like(plane) for plane in planes[across]] for across in planes}
    own, labelled = cells.moved(labels, 0, 0).contiguous(), (labels != IGNORE).to(edge.dtype)
    own_labelled = cells.moved(labelled, 0, 0)
    alike, different = own_labelled * torch.where(own == 0, weights[0], weights[1]), own_labelled * -weights[2]
    total = edge.new_zeros(())
    for way in _ways(radius):
        maxima = [cells.moved(planes[way.across][n - 1], y, x) for y, x, n in way.pieces]
        largest = maxima[0]
        for piece in maxima[1:]:
            largest = torch.maximum(largest, piece)
        same = own == cells.moved(labels, way.dy, way.dx)
        weight = torch.where(same, alike, different) * cells.moved(labelled, way.dy, way.dx)  # negative: different
        value = (same.to(edge.dtype) - largest).abs_().add_(EPSILON)  # a + 1e-5, or 1 - a + 1e-5
        slope = weight / value
        total -= weight.abs_().mul_(value.log_()).sum()
        for (y, x, n), piece in zip(way.pieces, maxima, strict=True):
            target = cells.moved(slopes[way.across][n - 1], y, x)
            target += slope if len(maxima) == 1 else slope * (piece == largest)
    gradient = torch.zeros_like(edge)
    for across, maxima in planes.items():
        _add_slopes(gradient, edge, maxima, slopes[across], across)
    return total, gradient


def _run_maxima(edge: Tensor, length: int, across: bool) -> list[Tensor]:
    """Entry ``n - 1``: the largest of each ``n`` cells that follow one another in a row, or in a column."""
    axis = 2 if across else 1
    planes = [edge]
    for n in range(1, length):
        size = edge.shape[axis] - n
        planes.append(torch.maximum(planes[-1].narrow(axis, 0, size), edge.narrow(axis, n, size)))
    return planes


def _add_slopes(gradient: Tensor, edge: Tensor, planes: list[Tensor], slopes: list[Tensor], across: bool) -> None:
    """Add to the cells' gradient what comes through the planes of `_run_maxima`; their slopes are used up."""
    axis = 2 if across else 1
    for n in range(len(planes) - 1, 0, -1):
        size = edge.shape[axis] - n
        first = planes[n - 1].narrow(axis, 0, size) >= edge.narrow(axis, n, size)
        begin = slopes[n] * first
        slopes[n - 1].narrow(axis, 0, size).add_(begin)
        gradient.narrow(axis, n, size).add_(slopes[n] - begin)
    gradient.add_(slopes[0])


def boundary_loss(
    edge: Tensor, labels: Tensor, radius: int = 10, counts: Tensor | None = None, background: bool = True
) -> Tensor:
    """``bg / 4 + fg / 4 + different / 2``, each the sum of its pairs' terms over their number + 1e-5.

    Without ``background`` it is ``fg / 2 + different / 2``.

    Pairs are counted over all processes. Where a batch is computed in parts, they are counted over the whole batch, so
    the parts' losses add up to that of the batch; they are not to be averaged.

    Args:
        edge: (N, h, w) in [0, 1], boundary probability of this part.
        labels: (N, h, w) uint8: 0 background, 1 and more classes, 255 ignored.
        radius: pairs nearer than this many cells.
        counts: (3,) int64, `pair_counts` of all parts of this process's batch; None where this part is all of it.
        background: whether some pixels are of no class.

    Returns:
        A scalar in float32: this process's share, whose mean over the processes is the loss. 0 without pairs.
    """
    if counts is None:
        counts = pair_counts(labels, radius)
    shares = torch.tensor(_SHARES if background else _SHARES_OF_CLASSES, device=edge.device)
    return pair_sum(edge.float(), labels, global_ratio(shares, counts, EPSILON), radius)
