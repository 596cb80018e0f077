"""The permutohedral lattice: a Gaussian filter over feature vectors, in a time linear in their number.

Adams, Baek and Davis 2010, as dense CRF uses it (Krähenbühl and Koltun 2011): each pixel's value is spread over the
d + 1 corners of the simplex that its features lie in (splat), the corners are blurred along d + 1 axes in a fixed
order, and the pixel takes its value back from the corners (slice). Every number is float32, as in the reference.

No hash table is needed. A corner has a remainder r from 0 to d, and each pixel has one corner of each, so the corners
of all pixels are d + 1 rows of integer keys: a row is sorted, equal corners lie side by side, and a neighbour is found
by adding a constant to the key. The three steps of the filter are sums of weighted table rows over bags of indices,
one fused operation each on every device, whose order of summation is fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.errors import DataError

_BITS = 62
"""Bits of an integer key that may be used: those of an int64 without its sign, and one to spare."""


@dataclass(frozen=True, slots=True)
class Lattice:
    """The geometry of one set of feature vectors; serves any number of channels of values.

    Attributes:
        size: M, lattice points touched; tables of values have one more row, of zeros.
        corners: (N, d + 1) int32, the lattice points around each pixel.
        weights: (N, d + 1) float32, their barycentric weights; each row sums to 1.
        pixels: ((d + 1) N,) int32, the pixels of the first lattice point, of the second, and so on, ascending in each.
        pixel_weights: ((d + 1) N,) float32, their weights.
        starts: (M + 2,) int32, where the pixels of each point begin in ``pixels``; the last two are its length.
        neighbours: (d + 1, M + 1, 3) int32, each point and its two neighbours along each axis, M where absent.
        blur_weights: (M + 1, 3) float32, the blur's 1, 1/2, 1/2.
    """

    size: int
    corners: Tensor
    weights: Tensor
    pixels: Tensor
    pixel_weights: Tensor
    starts: Tensor
    neighbours: Tensor
    blur_weights: Tensor

    @property
    def scale(self) -> float:
        """Alpha = 1 / (1 + 2^-d), which brings the peak of the blur back to 1."""
        return 1 / (1 + 2.0 ** (1 - len(self.neighbours)))

    def filter(self, values: Tensor, splat: Tensor | None = None, slice_: Tensor | None = None) -> Tensor:
        """K values, K the lattice's own approximation of the kernel exp(-|f_i - f_j|^2 / 2), the pixel itself included.

        Args:
            values: (N, C) float32.
            splat: in place of ``pixel_weights``, to carry a factor of each pixel; same shape.
            slice_: in place of alpha ``weights``, likewise; same shape.

        Returns:
            (N, C) float32, not normalised.
        """
        table = _bags(self.pixels, values, self.pixel_weights if splat is None else splat, self.starts)
        for axis in self.neighbours:
            table = _bags(axis, table, self.blur_weights)
        return _bags(self.corners, table, self.weights * self.scale if slice_ is None else slice_)


def build_lattice(features: Tensor, image_of: Tensor | None = None) -> Lattice:
    """Embed feature vectors into the lattice.

    Args:
        features: (d, N) float32, finite, in units of the kernel's standard deviation. Their order matters: the
            lattice is not symmetric under a permutation of them.
        image_of: (N,) int64, the number of the image that a pixel is of, where there are several; they share no
            lattice point. None for one image.

    Raises:
        DataError: the features span more than integer keys can tell apart.
    """
    base, rank, weights = _simplex(_elevate(features))
    keys, strides, span = _keys(base, rank, image_of)
    del base, rank
    keys, pixels = _sorted(keys, span)
    fresh = torch.ones_like(keys, dtype=torch.bool)
    torch.ne(keys[:, 1:], keys[:, :-1], out=fresh[:, 1:])
    flat = fresh.view(-1)
    firsts = flat.nonzero()[:, 0]
    points = flat.cumsum(0, dtype=torch.int32).sub_(1).view_as(keys)
    corners = torch.empty_like(points).scatter_(1, pixels, points)
    size, n = len(firsts), keys.shape[1]
    remainder = firsts // n
    neighbours = _neighbours(keys.view(-1)[firsts] + remainder * span, remainder, strides, span)
    return Lattice(
        size=size,
        corners=corners.t().contiguous(),
        weights=weights.t().contiguous(),
        pixels=pixels.view(-1).int(),
        pixel_weights=weights.gather(1, pixels).view(-1),
        starts=F.pad(firsts, (0, 2), value=keys.numel()).int(),
        neighbours=neighbours,
        blur_weights=torch.tensor([1.0, 0.5, 0.5], device=features.device).repeat(size + 1, 1),
    )


def _bags(indices: Tensor, table: Tensor, weights: Tensor, starts: Tensor | None = None) -> Tensor:
    """Weighted sums of table rows: one for each row of ``indices``, or for each stretch between ``starts``."""
    return F.embedding_bag(
        indices, table, starts, mode="sum", per_sample_weights=weights, include_last_offset=starts is not None
    )


def _elevate(features: Tensor) -> Tensor:
    """Features (d, N) to d + 1 coordinates that sum to 0: (d + 1, N)."""
    d = len(features)
    elevated = features.new_empty(d + 1, features.shape[1])
    total = torch.zeros_like(features[0])
    for k in range(d, 0, -1):
        scaled = features[k - 1] * float(np.float32(np.sqrt(2 / 3) * (d + 1) / np.sqrt(k * (k + 1))))
        torch.sub(total, scaled * k, out=elevated[k])
        total += scaled
    elevated[0] = total
    return elevated


def _simplex(elevated: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point.

    Returns:
        Coordinates of its corner of remainder 0 divided by d + 1, (d + 1, N) int32; the rank of each coordinate's
        residual, largest first, (d + 1, N) int64; the barycentric weights of the corners by remainder, (d + 1, N).
    """
    n_corners = len(elevated)
    d = n_corners - 1
    base = (elevated * float(np.float32(1) / np.float32(n_corners))).round_()  # half to even
    residual = elevated - base * n_corners
    rank = base.sum(0).to(torch.int8 if n_corners < 64 else torch.int32).expand(n_corners, -1).clone()
    for i in range(n_corners):
        for j in range(i + 1, n_corners):
            smaller = residual[i] < residual[j]
            rank[i] += smaller
            rank[j] += ~smaller
    wrap = (rank < 0).to(rank.dtype) - (rank > d).to(rank.dtype)
    base += wrap
    rank += n_corners * wrap
    order = rank.long()
    y = (elevated - base * n_corners).div_(n_corners)
    y = torch.empty_like(y).scatter_(0, order, y)  # by rank
    weights = torch.empty_like(y)
    torch.sub(y[d], y[0] - 1, out=weights[0])
    torch.sub(y.flip(0)[1:], y.flip(0)[:-1], out=weights[1:])
    return base.int(), order, weights


def _keys(base: Tensor, rank: Tensor, image_of: Tensor | None) -> tuple[Tensor, list[int], int]:
    """One integer for each corner, equal for equal corners of one remainder.

    With u = (coordinate - r) / (d + 1), a whole number, a corner of remainder r is known by its first d values of u;
    the key writes them as digits. From one remainder to the next a single u falls by one.

    Returns:
        Keys (d + 1, N) int64, one row for each remainder; the digits' place values, and 0 for the last coordinate; a
        number above every key and every neighbour's key.
    """
    d = len(base) - 1
    bounds = [(int(row.min()) - 2, int(row.max()) + 2) for row in base[:d]]  # a corner and its neighbours reach so far
    strides, span = [0] * (d + 1), 1
    for j in reversed(range(d)):
        strides[j] = span
        span *= bounds[j][1] - bounds[j][0] + 1
    n_images = 1 if image_of is None else int(image_of.max()) + 1
    if (span * n_images * (d + 1)).bit_length() > _BITS:
        raise DataError(
            f"the image's features span {span:.1e} lattice cells, more than a 64-bit key can tell apart: the standard "
            f"deviations of the kernel are far too small for an image of this size"
        )
    places = torch.tensor(strides, device=base.device)
    keys = torch.empty_like(rank).scatter_(0, rank, places[:, None].expand_as(rank)).flip(0).neg_()
    first = torch.zeros_like(keys[0]) if image_of is None else image_of * span
    for j in range(d):
        first += (base[j] - bounds[j][0]) * places[j]
    keys = torch.cat([first[None], keys[:-1]]).cumsum(0)
    return keys, strides, span * n_images


def _sorted(keys: Tensor, span: int) -> tuple[Tensor, Tensor]:
    """Each row ascending, equal keys by pixel, and the pixel of each: both (d + 1, N) int64."""
    n = keys.shape[1]
    bits = max(1, (n - 1).bit_length())
    if keys.device.type != "cpu" or span.bit_length() + bits > _BITS:
        found = torch.sort(keys, dim=1, stable=True)
        return found.values, found.indices
    packed = (keys << bits).add_(torch.arange(n))  # numpy sorts plain int64 in vector registers, ten times as fast
    packed.numpy().sort(axis=1)
    return packed >> bits, packed & ((1 << bits) - 1)


def _neighbours(full: Tensor, remainder: Tensor, strides: list[int], span: int) -> Tensor:
    """Neighbours of each point along each axis.

    Along axis j every coordinate grows by 1 but the j-th, which falls by d: the remainder grows by 1, and u_j falls by
    1; from remainder d the next is 0, and every u but u_j grows by 1. The other neighbour is the same step back.

    Args:
        full: (M,) int64, ascending: remainder * span + key.
        remainder: (M,) int64.
        strides: place value of each u.
        span: above every key.

    Returns:
        (d + 1, M + 1, 3) int32, M where there is none.
    """
    size, d = len(full), len(strides) - 1
    last = int(torch.searchsorted(remainder, d))  # points of the last remainder: their next ones come first
    found = torch.full((d + 1, size + 1, 3), size, dtype=torch.int32, device=full.device)
    found[:, :, 0] = torch.arange(size + 1, device=full.device)
    for j in range(d + 1):
        wanted = torch.cat([full[last:] + (sum(strides) - strides[j] - d * span), full[:last] + (span - strides[j])])
        place = torch.searchsorted(full, wanted).clamp_(max=size - 1)
        hits = (full[place] == wanted).nonzero()[:, 0]
        source, target = (hits + last) % size, place[hits]
        found[j, source, 1] = target.int()
        found[j, target, 2] = source.int()
    return found
