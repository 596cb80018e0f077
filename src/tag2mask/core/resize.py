"""Bilinear resizing as every published system does it: corners not aligned, no antialiasing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def bilinear(maps: Tensor, height: int, width: int) -> Tensor:
    """Resize ``(..., h, w)`` to ``(..., height, width)``; an empty leading axis stays empty."""
    if maps.shape[-2:] == (height, width):
        return maps
    if maps.numel() == 0:
        return maps.new_zeros(*maps.shape[:-2], height, width)
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    return F.interpolate(flat, (height, width), mode="bilinear", align_corners=False).reshape(
        *maps.shape[:-2], height, width
    )


def bilinear_part(maps: Tensor, height: int, width: int, part: tuple[float, float]) -> Tensor:
    """Resize the upper left part of ``(..., h, w)`` to ``(..., height, width)``, without a seam where it is cut.

    As if the whole were resized to (height / part, width / part) and the rest cut off, for any ratio of sizes. ``part``
    is the shares of h and w; above 1, what lies beyond repeats the last row and column.
    """
    if part == (1.0, 1.0):
        return bilinear(maps, height, width)
    return _along(_along(maps, -2, height, part[0]), -1, width, part[1])


def _along(maps: Tensor, axis: int, size: int, share: float) -> Tensor:
    """Linear interpolation along one axis at the middles of ``size`` cells, which fill ``share`` of it."""
    cells = maps.shape[axis]
    middles = (torch.arange(size, dtype=torch.float64, device="cpu") + 0.5) * (cells * share / size) - 0.5
    at = middles.clamp(0, cells - 1)
    low = at.floor().long()
    weight = (at - low).to(maps.dtype).to(maps.device)
    low, high = low.to(maps.device), (low + 1).clamp(max=cells - 1).to(maps.device)
    if axis == -2:
        weight = weight[:, None]
    return maps.index_select(axis, low) * (1 - weight) + maps.index_select(axis, high) * weight
