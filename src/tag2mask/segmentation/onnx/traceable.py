"""Computations of torch in a form whose recording as ONNX is right for every image size.

A recording follows what is computed with sizes, as long as it is computed by operators. Adaptive pooling to a grid has
no operator in ONNX but for one cell, and a roll becomes two slices, which are wrong where it is longer than the side.
The stand-ins give the same numbers by computing with positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@contextmanager
def recordable() -> Iterator[None]:
    """Within it, `pooled` and `rolled` stand in for torch's functions, in every network and for all threads."""
    places: tuple[tuple[Any, str, Any], ...] = ((F, "adaptive_avg_pool2d", pooled), (torch, "roll", rolled))
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    try:
        for owner, name, stand_in in places:
            setattr(owner, name, stand_in)
        yield
    finally:
        for owner, name, own in before:
            setattr(owner, name, own)


def pooled(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """Adaptive average pooling to a grid, as two products with matrices of weights.

    Cell i of n takes the pixels from floor(i L / n) up to, without, ceil((i + 1) L / n) of L, and each weighs the same.

    Args:
        input: (N, C, H, W).
        output_size: rows and columns of the grid, None for as many as there are pixels; one number for both.

    Returns:
        (N, C, rows, columns), as `F.adaptive_avg_pool2d` gives.
    """
    height, width = input.shape[-2:]
    rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
    down = _weights(height, height if rows is None else rows, input)
    across = _weights(width, width if columns is None else columns, input)
    return torch.matmul(torch.matmul(down, input), across.T)


def rolled(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int]) -> Tensor:
    """Values moved along some axes; those that pass the end come in at the begin.

    Args:
        input: of any shape.
        shifts: by how many places, for each of ``dims``.
        dims: the axes.

    Returns:
        The same shape, as `torch.roll` gives.
    """
    places, axes = ((value,) if isinstance(value, int) else value for value in (shifts, dims))
    for shift, axis in zip(places, axes, strict=True):
        length = input.shape[axis]
        input = input.index_select(axis, (torch.arange(length, device=input.device) - shift) % length)
    return input


def _weights(length: int, cells: int, like: Tensor) -> Tensor:
    """(cells, length), each row the mean over the pixels of its cell."""
    cell = torch.arange(cells, device=like.device)[:, None]
    pixel = torch.arange(length, device=like.device)[None]
    # Nothing negative is divided: a recording rounds towards 0, not down.
    begin, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = ((pixel >= begin) & (pixel < end)).to(like.dtype)
    return inside / (end - begin).to(like.dtype)
