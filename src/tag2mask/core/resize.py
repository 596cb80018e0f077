"""Bilinear resizing as every published system does it: corners not aligned, no antialiasing."""

from __future__ import annotations

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
