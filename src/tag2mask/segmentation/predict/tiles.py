"""Photos too large for one pass: overlapping tiles, blended, in memory that does not grow with the photo's height.

Along each axis tile i begins at a_i and ends at b_i, and takes over from the one before by a ramp in the middle of what
the two share: with m = (a_i + b_{i-1}) / 2 and overlap v, R_i rises from 0 at m - v / 4 to 1 at m + v / 4, and R_0 = 1.
Tile i has the weight w_i = R_i - R_{i+1} >= 0. These sum to 1 at every pixel, and the outer quarter of each overlap,
where a tile lacks context, has weight 0. So the result is that of the whole photo where the network looks no further
than v / 4 to each side and its stride divides `ALIGN`. In the plane weights are products of those along the axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tag2mask.segmentation.predict.logits import most_probable
from tag2mask.segmentation.predict.options import ALIGN, Tiling


class Picture(Protocol):
    """A photo that is read in parts."""

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels, upright."""

    def window(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """The part from (top, left) up to, without, (bottom, right), as (h, w, 3) RGB."""


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one axis, in pixels of the photo."""

    start: int
    stop: int
    first: int  # where its weight begins; everything before is finished by earlier tiles
    done: int  # pixels before this one are finished by this tile
    last: int  # where its weight ends
    weights: Tensor  # (last - first,) float32


@dataclass(frozen=True, slots=True)
class Block:
    """Finished probabilities (C + 1, h, w) of a part of the photo, whose first pixel is (top, left)."""

    top: int
    left: int
    probabilities: Tensor


def spans(length: int, tiling: Tiling) -> list[Span]:
    """The tiles along an axis of ``length`` pixels, at least 1."""
    step = (tiling.tile - tiling.overlap) // ALIGN * ALIGN
    final = max(0, math.ceil((length - tiling.tile) / ALIGN) * ALIGN)
    ends = [(start, min(start + tiling.tile, length)) for start in [*range(0, final, step), final]]
    half = tiling.overlap / 4
    ramps = [(0.0, 0.0), *(((a + b) / 2 - half, (a + b) / 2 + half) for (_, b), (a, _) in pairwise(ends))]
    limits = [(math.floor(low), math.ceil(high)) for low, high in ramps] + [(length, length)]
    found = []
    for i, (start, stop) in enumerate(ends):
        first, (done, last) = limits[i][0], limits[i + 1]
        pixels = torch.arange(first, last, dtype=torch.float64) + 0.5
        after = _ramp(pixels, *ramps[i + 1]) if i + 1 < len(ends) else torch.zeros_like(pixels)
        found.append(Span(start, stop, first, done, last, (_ramp(pixels, *ramps[i]) - after).float()))
    return found


def _ramp(pixels: Tensor, low: float, high: float) -> Tensor:
    return ((pixels - low) / (high - low)).clamp(0, 1) if high > low else (pixels > low).double()


def blended(
    picture: Picture, probabilities: Callable[[Sequence[NDArray[np.uint8]]], Tensor], tiling: Tiling, batch: int = 1
) -> Iterator[Block]:
    """Probabilities of a photo, block by block; every pixel is in exactly one block.

    At any time one batch of tiles and a strip of the photo's width and half the overlap's height are held.
    ``probabilities`` takes (h, w, 3) tiles of one size to (N, C + 1, h, w).
    """
    height, width = picture.size
    rows, columns = spans(height, tiling), spans(width, tiling)
    strip: Tensor | None = None  # what the tiles above have left for each column
    for row in rows:
        aside: Tensor | None = None  # what the tile to the left has left for this one
        for column, tile in _tiles(picture, probabilities, row, columns, batch):
            if strip is None:
                strip = tile.new_zeros(len(tile), max(r.last - r.done for r in rows), width)
            above = strip[:, :, column.first : column.done]
            part = tile[:, row.first - row.start : row.last - row.start, column.first - column.start :]
            part = part[..., : column.last - column.first] * (row.weights.to(tile)[:, None] * column.weights.to(tile))
            if aside is not None:
                part[..., : aside.shape[2]] += aside
            aside = part[..., column.done - column.first :].clone()
            part = part[..., : column.done - column.first]
            shared = min(part.shape[1], above.shape[1])  # below what was left there are zeros
            part[:, :shared] += above[:, :shared]
            left = part[:, row.done - row.first :]
            above[:, : left.shape[1]], above[:, left.shape[1] :] = left, 0
            yield Block(row.first, column.first, part[:, : row.done - row.first])


def n_tiles(size: tuple[int, int], tiling: Tiling) -> int:
    """Tiles of a photo of ``size`` = (H, W)."""
    return len(spans(size[0], tiling)) * len(spans(size[1], tiling))


def tiled_labels(
    picture: Picture,
    probabilities: Callable[[Sequence[NDArray[np.uint8]]], Tensor],
    tiling: Tiling,
    batch: int = 1,
    advance: Callable[[], None] | None = None,
) -> NDArray[np.uint8]:
    """(H, W) uint8, the most probable label of each pixel of `blended`; ``advance`` is called after each tile."""
    labels = np.zeros(picture.size, dtype=np.uint8)
    for block in blended(picture, probabilities, tiling, batch):
        found = most_probable(block.probabilities)
        height, width = found.shape
        labels[block.top : block.top + height, block.left : block.left + width] = found
        if advance is not None:
            advance()
    return labels


def _tiles(
    picture: Picture,
    probabilities: Callable[[Sequence[NDArray[np.uint8]]], Tensor],
    row: Span,
    columns: Sequence[Span],
    batch: int,
) -> Iterator[tuple[Span, Tensor]]:
    """The tiles of a row from left to right with their probabilities; the last one may be narrower than the others."""
    for _, same in groupby(columns, key=lambda column: column.stop - column.start):
        chosen = list(same)
        for first in range(0, len(chosen), batch):
            part = chosen[first : first + batch]
            windows = [picture.window(row.start, column.start, row.stop, column.stop) for column in part]
            yield from zip(part, probabilities(windows), strict=True)
