"""Computations of torch and timm in a form whose recording as ONNX is right for every image size.

A recording follows what is computed with sizes, as long as it is computed by operators. Adaptive pooling to a grid has
no operator in ONNX but for one cell; a roll becomes slices, which are wrong where it is longer than the side; timm's
mask for Swin's shifted windows writes into slices. The stand-ins give the same numbers by computing with positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor
from torch.nn import functional as F

_APART = -100.0
"""Added to the attention between tokens that are no neighbours, as timm has it."""


@contextmanager
def recordable() -> Iterator[None]:
    """Within it, `pooled`, `rolled` and `window_mask` stand in for what they equal, wherever a network calls that."""
    places: tuple[tuple[Any, str, Any], ...] = (
        (F, "adaptive_avg_pool2d", pooled),
        (torch, "roll", rolled),
        (SwinTransformerBlock, "get_attn_mask", window_mask),
    )
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    try:
        for owner, name, stand_in in places:
            setattr(owner, name, stand_in)
        yield
    finally:
        for owner, name, own in before:
            setattr(owner, name, own)


def pooled(images: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """Adaptive average pooling to a grid, as two products with matrices of weights.

    Cell i of n takes the pixels from floor(i L / n) up to, without, ceil((i + 1) L / n) of L, and each weighs the same.

    Args:
        images: (N, C, H, W).
        output_size: rows and columns of the grid, None for as many as there are pixels; one number for both.

    Returns:
        (N, C, rows, columns), as `F.adaptive_avg_pool2d` gives.
    """
    height, width = images.shape[-2:]
    rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
    down = _weights(height, height if rows is None else rows, images)
    across = _weights(width, width if columns is None else columns, images)
    return torch.matmul(torch.matmul(down, images), across.T)


def rolled(values: Tensor, shifts: Sequence[int], dims: Sequence[int]) -> Tensor:
    """Values moved along some axes, those beyond the end at the begin again.

    Args:
        values: of any shape.
        shifts: by how many places, for each of ``dims``.
        dims: the axes.

    Returns:
        The same shape, as `torch.roll` gives.
    """
    for shift, dim in zip(shifts, dims, strict=True):
        length = values.shape[dim]
        values = values.index_select(dim, (torch.arange(length, device=values.device) - shift) % length)
    return values


def window_mask(block: Any, tokens: Tensor) -> Tensor | None:
    """What a block of Swin adds to its attention, so that tokens see only those that were neighbours before the shift.

    Args:
        block: of timm's class ``SwinTransformerBlock``.
        tokens: (N, H, W, C), shifted, its sides multiples of the window's.

    Returns:
        (windows, n, n) for windows of n tokens, 0 or -100; None for a block that does not shift.
    """
    (high, wide), (down, right) = block.window_size, block.shift_size
    if not (down or right):
        return None
    height, width = tokens.shape[1:3]
    part = 3 * _part(height, high, down, tokens)[:, None] + _part(width, wide, right, tokens)[None]
    windows = part.reshape(height // high, high, width // wide, wide).permute(0, 2, 1, 3).reshape(-1, high * wide)
    return _APART * (windows[:, None] != windows[:, :, None]).to(tokens.dtype)


def _part(length: int, window: int, shift: int, like: Tensor) -> Tensor:
    """For each place 0 before the last window, 1 in it, 2 where the shift has brought in the other end."""
    place = torch.arange(length, device=like.device)
    return (place >= length - window).long() + (place >= length - shift).long()


def _weights(length: int, cells: int, like: Tensor) -> Tensor:
    """(cells, length), each row the mean over the pixels of its cell."""
    cell = torch.arange(cells, device=like.device)[:, None]
    pixel = torch.arange(length, device=like.device)[None]
    # Nothing negative is divided: a recording rounds towards 0, not down.
    begin, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = ((pixel >= begin) & (pixel < end)).to(like.dtype)
    return inside / (end - begin).to(like.dtype)
