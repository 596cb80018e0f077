"""Where a feature vector lies in the permutohedral lattice: its simplex, and its weights for the simplex's corners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.errors import DataError
from tag2mask.refine.crf.keys import find_neighbours, first_keys, sort_keys


def elevate(features: Tensor) -> Tensor:
    """Features (d, N) to d + 1 coordinates that sum to 0: (d + 1, N)."""
    d = len(features)
    elevated = features.new_empty(d + 1, features.shape[1])
    total = torch.zeros_like(features[0])
    deviation = float(np.float32(np.sqrt(2 / 3) * (d + 1)))  # rounded here too, or other lattice points are touched
    for k in range(d, 0, -1):
        scaled = features[k - 1] * float(np.float32(deviation / np.sqrt(k * (k + 1))))
        torch.sub(total, scaled * k, out=elevated[k])
        total += scaled
    elevated[0] = total
    return elevated


def simplex(elevated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point.

    Returns:
        The first d coordinates of its corner of remainder 0 divided by d + 1, (d, N) float32, whole numbers; the
        coordinates by residual, largest first, (d + 1, N) int8; the weights of the corners by remainder, (N, d + 1).
    """
    n_corners, n = elevated.shape
    d = n_corners - 1
    base = (elevated * float(np.float32(1) / np.float32(n_corners))).round_()  # half to even
    residual = torch.addcmul(elevated, base, torch.tensor(-float(n_corners), device=base.device))
    rank = base.sum(0).to(torch.int8).expand(n_corners, -1).clone()
    for i in range(n_corners):
        for j in range(i + 1, n_corners):
            smaller = residual[i] < residual[j]
            rank[i] += smaller
            rank[j] += ~smaller
    wrap = (rank < 0).to(torch.int8).sub_((rank > d).to(torch.int8))
    base += wrap
    rank += wrap.mul_(n_corners)
    order, y = torch.empty_like(rank), torch.empty_like(residual)
    for j in range(n_corners):
        place = rank[j].long()[None]
        order.scatter_(0, place, j)
        y.scatter_(0, place, (elevated[j] - base[j] * n_corners).div_(n_corners)[None])
    weights = elevated.new_empty(n, n_corners)
    torch.sub(y[d], y[0] - 1, out=weights[:, 0])
    for p in range(1, n_corners):
        torch.sub(y[d - p], y[d - p + 1], out=weights[:, p])
    return base[:d], order, weights


_BLOCK = 1 << 16
"""Pixels taken at a time where all at once would only cost memory."""
_MOST = 2**31
"""Entries that 32-bit indices can tell apart."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """The geometry of one set of feature vectors; serves any number of channels of values.

    Attributes:
        size: M, lattice points touched; tables of values have one more row, of zeros.
        corners: (N, d + 1) int32, the lattice points around each pixel.
        weights: (N, d + 1) float32, their barycentric weights, each row summing to 1, until `scale` changes them.
        pixels: ((d + 1) N,) int32, the pixels of the first lattice point, of the second, and so on, ascending in each.
        pixel_weights: ((d + 1) N,) float32, their weights.
        starts: (M + 2,) int32, where the pixels of each point begin in ``pixels``; the last two are its length.
        neighbours: (d + 1, M + 1, 2) int32, the two neighbours of each point along each axis, M where absent.
    """

    size: int
    corners: Tensor
    weights: Tensor
    pixels: Tensor
    pixel_weights: Tensor
    starts: Tensor
    neighbours: Tensor

    @property
    def alpha(self) -> float:
        """1 / (1 + 2^-d), which brings the peak of the blur back to 1."""
        return 1 / (1 + 2.0 ** (1 - len(self.neighbours)))

    def filter(self, values: Tensor) -> Tensor:
        """K values, K the lattice's own approximation of the kernel exp(-|f_i - f_j|^2 / 2), the pixel itself included.

        Args:
            values: (N, C) float32.

        Returns:
            (N, C) float32, not normalised.
        """
        total = torch.zeros_like(values)
        self.collect(self.spread(values), total)
        return total.mul_(self.alpha)

    def spread(self, values: Tensor) -> Tensor:
        """Splat and blur: (N, C) float32 of the pixels to (M + 1, C) of the lattice points."""
        table = _bags(self.pixels, values, self.pixel_weights, self.starts)
        for axis in self.neighbours:
            table = F.embedding_bag(axis, table, mode="mean").add_(table)  # each point and half of each neighbour
        return table

    def collect(self, table: Tensor, total: Tensor) -> None:
        """Slice, without alpha: adds to ``total``, (N, C), what each pixel takes from a table, (M + 1, C)."""
        blocks = (torch.split(t, _BLOCK) for t in (self.corners, self.weights, total))
        for corners, weights, part in zip(*blocks, strict=True):
            part += _bags(corners, table, weights)

    def scale(self, splat: Tensor, slice_: Tensor) -> None:
        """Give each pixel a factor on what it spreads and one on what it takes back, both (N,) float32, in place."""
        self.weights.mul_(slice_[:, None])
        blocks = (torch.split(t, _BLOCK) for t in (self.pixels, self.pixel_weights))
        for pixels, weights in zip(*blocks, strict=True):
            weights *= splat[pixels]


def build_lattice(features: Tensor, image_of: Tensor | None = None) -> Lattice:
    """Embed feature vectors into the lattice.

    Args:
        features: (d, N) float32, finite, in units of the kernel's standard deviation. Their order matters: the
            lattice is not symmetric under a permutation of them.
        image_of: (N,) int64, the number of the image that a pixel is of, where there are several; they share no
            lattice point. None for one image.

    Raises:
        DataError: the features span more than integer keys can tell apart, or there are too many pixels.
    """
    base, order, weights = _embed(features)
    del features
    keys, strides, span = first_keys(base, image_of)
    del base
    places = torch.tensor(strides, device=keys.device)
    n, n_corners = weights.shape
    corners = torch.empty(n, n_corners, dtype=torch.int32, device=keys.device)
    pixels = torch.empty(n_corners, n, dtype=torch.int32, device=keys.device)
    pixel_weights = torch.empty(n_corners, n, device=keys.device)
    points: list[Tensor] = []
    starts: list[Tensor] = []
    for r in range(n_corners):
        if r:  # one coordinate falls by d + 1, that of the lowest residual first
            keys -= places[order[n_corners - r].long()]
        ascending, pixel = sort_keys(keys, span)
        fresh = torch.ones_like(ascending, dtype=torch.bool)
        torch.ne(ascending[1:], ascending[:-1], out=fresh[1:])
        firsts = fresh.nonzero()[:, 0]
        known = sum(map(len, points))
        corners[:, r].scatter_(0, pixel, fresh.cumsum(0, dtype=torch.int32).add_(known - 1))
        pixels[r] = pixel
        torch.take(weights[:, r], pixel, out=pixel_weights[r])
        points.append(ascending[firsts] + r * span)
        starts.append(firsts.int().add_(r * n))
    bounds = F.pad(torch.cat(starts), (0, 2), value=n_corners * n)
    known = sum(map(len, points))
    neighbours = find_neighbours(torch.cat(points), known - len(points[-1]), strides, span)
    return Lattice(known, corners, weights, pixels.view(-1), pixel_weights.view(-1), bounds, neighbours)


def _embed(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What `simplex` gives for all pixels, the coordinates as int32."""
    n_corners, n = len(features) + 1, features.shape[1]
    if n * n_corners >= _MOST:
        raise DataError(
            f"{n} pixels are too many for one dense CRF: expected fewer than {_MOST // n_corners}; cut the image into "
            f"tiles, or reduce it"
        )
    base = torch.empty(n_corners - 1, n, dtype=torch.int32, device=features.device)
    order = torch.empty(n_corners, n, dtype=torch.int8, device=features.device)
    weights = torch.empty(n, n_corners, device=features.device)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        base[:, part], order[:, part], weights[part] = simplex(elevate(features[:, part]))
    return base, order, weights


def _bags(indices: Tensor, table: Tensor, weights: Tensor, starts: Tensor | None = None) -> Tensor:
    """Weighted sums of table rows: one for each row of ``indices``, or for each stretch between ``starts``."""
    return F.embedding_bag(
        indices, table, starts, mode="sum", per_sample_weights=weights, include_last_offset=starts is not None
    )
