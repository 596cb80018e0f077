"""Computations of torch in a form whose recording as ONNX is right for every image size.

A recording follows what is computed with sizes, as long as it is computed by operators. Adaptive pooling to a grid has
no operator in ONNX but for one cell, and a roll becomes two slices, which are wrong where it is longer than the side.
The stand-ins give the same numbers by computing with positions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_RECORDING = threading.RLock()


@contextmanager
def recordable() -> Iterator[None]:
    """Within it, this thread has `pooled` and `rolled` in the place of torch's functions; one recording at a time.

    What a failed recording logs, the whole graph on the standard output, is left out.
    """
    places: tuple[tuple[Any, str, Any], ...] = (
        (F, "adaptive_avg_pool2d", pooled), (torch, "roll", rolled), (torch._C, "_jit_onnx_log", lambda *_: None),
    )  # fmt: skip
    with _RECORDING:
        before = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
        try:
            for (owner, name, stand_in), (*_, own) in zip(places, before, strict=True):
                setattr(owner, name, _in_this_thread(stand_in, own))
            yield
        finally:
            for owner, name, own in before:
                setattr(owner, name, own)


def _in_this_thread(stand_in: Any, own: Any) -> Any:
    """A function that is ``stand_in`` in this thread and ``own`` in all others."""
    thread = threading.get_ident()

    def chosen(*arguments: Any, **words: Any) -> Any:
        return (stand_in if threading.get_ident() == thread else own)(*arguments, **words)

    return chosen


def pooled(input: Tensor, output_size: int | Sequence[int | None]) -> Tensor:
    """Adaptive average pooling of (N, C, H, W) to a grid, as `F.adaptive_avg_pool2d` does, by two matrix products.

    Cell i of n takes the pixels from floor(i L / n) up to, without, ceil((i + 1) L / n) of L, and each weighs the same.
    """
    height, width = input.shape[-2:]
    rows, columns = (output_size, output_size) if isinstance(output_size, int) else output_size
    down = _weights(height, height if rows is None else rows, input)
    across = _weights(width, width if columns is None else columns, input)
    return torch.matmul(torch.matmul(down, input), across.T)


def rolled(input: Tensor, shifts: int | Sequence[int], dims: int | Sequence[int]) -> Tensor:
    """Values moved along some axes, as `torch.roll` does; those that pass the end come in at the begin."""
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
