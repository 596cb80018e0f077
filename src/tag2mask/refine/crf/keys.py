"""Lattice points as integers: their keys, the keys in order, and each point's neighbours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tag2mask.core.errors import DataError

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
            f"the image's features span {span:.1e} lattice cells, more than a 64-bit key can tell apart: the standard "
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

    Args:
        full: (M,) int64, ascending: remainder * span + key.
        last: points below remainder d.
        strides: place value of each u.
        span: above every key.

    Returns:
        (d + 1, M + 1, 2) int32, M where there is none.
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
