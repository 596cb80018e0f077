"""The permutohedral lattice of a dense CRF: simplices of feature vectors, lattice points, neighbours, the filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.errors import DataError


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
"""Entries that 32-bit indices can distinguish."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """The geometry of one set of feature vectors; serves any number of channels of values."""

    size: int  # M, lattice points touched; tables of values have one more row, of zeros
    corners: Tensor  # (N, d + 1) int32, the lattice points around each pixel
    weights: Tensor  # (N, d + 1) float32, their barycentric weights, each row summing to 1, until `scale` changes them
    pixels: Tensor  # ((d + 1) N,) int32, those of each lattice point in turn, ascending in each
    pixel_weights: Tensor  # ((d + 1) N,) float32, their weights
    starts: Tensor  # (M + 2,) int32, where the pixels of each point begin in pixels; the last two are its length
    neighbours: Tensor  # (d + 1, M + 1, 2) int32, the two neighbours of each point along each axis, M where absent

    @property
    def alpha(self) -> float:
        """1 / (1 + 2^-d), which brings the peak of the blur back to 1."""
        return 1 / (1 + 2.0 ** (1 - len(self.neighbours)))

    def filter(self, values: Tensor) -> Tensor:
        """K values, (N, C) float32, K the lattice's own approximation of exp(-|f_i - f_j|^2 / 2), not normalised."""
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
    """Embed feature vectors, (d, N) float32 in units of the kernel's standard deviation, into the lattice.

    The order of the d matters: the lattice is not symmetric under a permutation of them. ``image_of`` is the number of
    each pixel's image, (N,) int64, where there are several: they share no lattice point.
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


_BITS = 62
"""Bits of an integer key that may be used: those of an int64 without its sign, and one to spare."""


def first_keys(base: Tensor, image_of: Tensor | None) -> tuple[Tensor, list[int], int]:
    """One integer for each pixel's corner of remainder 0, equal for equal corners.

    With u = (coordinate - r) / (d + 1), a whole number, a corner of remainder r is known by its first d values of u;
    the key writes them as digits. From one remainder to the next a single u falls by one.

    Returns:
        Keys (N,) int64; the digits' place values, and 0 for the last coordinate; a number above every key of every
        remainder and of every neighbour.
    """
    d = len(base)
    bounds = [(int(row.min()) - 2, int(row.max()) + 2) for row in base]  # a corner and its neighbours reach so far
    strides, span = [0] * (d + 1), 1
    for j in reversed(range(d)):
        strides[j] = span
        span *= bounds[j][1] - bounds[j][0] + 1
    n_images = 1 if image_of is None else int(image_of.max()) + 1
    if (span * n_images * (d + 1)).bit_length() > _BITS:
        raise DataError(
            f"the image's features span {span:.1e} lattice cells, more than a 64-bit key can distinguish: the standard "
            f"deviations of the kernel are far too small for an image of this size"
        )
    keys = torch.zeros_like(base[0], dtype=torch.int64) if image_of is None else image_of * span
    for j in range(d):
        keys.add_((base[j] - bounds[j][0]).long(), alpha=strides[j])
    return keys, strides, span * n_images


def sort_keys(keys: Tensor, span: int) -> tuple[Tensor, Tensor]:
    """Keys in ascending order, equal ones by pixel, and the pixel of each: both (N,) int64."""
    bits = max(1, (len(keys) - 1).bit_length())
    if keys.device.type != "cpu" or span.bit_length() + bits > _BITS:
        found = torch.sort(keys, stable=True)
        return found.values, found.indices
    packed = (keys << bits).add_(torch.arange(len(keys)))
    packed.numpy().sort()  # numpy sorts plain int64 in vector registers, ten times as fast as torch
    return packed >> bits, packed & ((1 << bits) - 1)


def find_neighbours(full: Tensor, last: int, strides: list[int], span: int) -> Tensor:
    """Neighbours of each point along each axis.

    Along axis j every coordinate grows by 1 but the j-th, which falls by d: the remainder grows by 1, and u_j falls by
    1; from remainder d the next is 0, and every u but u_j grows by 1. The other neighbour is the same step back.
    ``full`` (M,) is ascending, remainder * span + key; ``last`` points are below remainder d. What is returned is
    (d + 1, M + 1, 2), M where there is none.
    """
    size, d = len(full), len(strides) - 1
    found = torch.full((d + 1, size + 1, 2), size, dtype=torch.int32, device=full.device)
    for j in range(d + 1):  # the last remainder in front: its next points come first, so that all are ascending
        wanted = torch.cat([full[last:] + (sum(strides) - strides[j] - d * span), full[:last] + (span - strides[j])])
        place = _place(full, wanted).clamp_(max=size - 1)
        hits = (full[place] == wanted).nonzero()[:, 0]
        source, target = (hits + last) % size, place[hits]
        found[j, source, 0] = target.int()
        found[j, target, 1] = source.int()
    return found


def _place(ascending: Tensor, wanted: Tensor) -> Tensor:
    """The index of the first entry not below each wanted number."""
    if ascending.device.type != "cpu":
        return torch.searchsorted(ascending, wanted)
    return torch.from_numpy(np.searchsorted(ascending.numpy(), wanted.numpy()))  # faster for wanted in runs
