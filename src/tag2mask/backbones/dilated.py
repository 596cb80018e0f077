"""The head of DeepLabV2, which AMN has too: the sum of four dilated 3 x 3 convolutions of the same features."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RATES = (6, 12, 18, 24)
_SPREAD = 0.01


def dilated_convs(channels: int, n_labels: int) -> nn.ModuleList:
    """The four convolutions (n_labels, channels, 3, 3), smallest rate first, drawn from N(0, 0.01), biases 0."""
    convs = nn.ModuleList(nn.Conv2d(channels, n_labels, 3, padding=rate, dilation=rate) for rate in RATES)
    for conv in each(convs):
        nn.init.normal_(conv.weight, std=_SPREAD)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return convs


def each(convs: nn.ModuleList) -> list[nn.Conv2d]:
    """The convolutions of a list of them."""
    return [conv for conv in convs if isinstance(conv, nn.Conv2d)]


def dilated_sum(convs: Sequence[nn.Conv2d], features: Tensor) -> Tensor:
    """The sum of the convolutions' outputs.

    On the CPU their taps are one matrix product, each tap's output is then shifted to its place and added: with many
    channels and few labels a dilated convolution there is several times as slow, in bfloat16 tenfold (``python -m
    benchmarks.dilated``). A network on its way to ONNX keeps the convolutions, which fit every size.

    Args:
        convs: 3 x 3, of the same channels, with biases; padding and dilation are equal.
        features: (N, D, h, w).

    Returns:
        (N, L, h, w); float32 on the CPU, whatever autocast says of the products.
    """
    if features.device.type != "cpu" or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return _added([conv(features) for conv in convs])
    height, width = features.shape[-2:]
    taps = [tap for tap in _taps(convs) if abs(tap[0]) < height and abs(tap[1]) < width]
    outputs = F.conv2d(features, torch.cat([weight for _, _, weight in taps])[:, :, None, None])
    bias = _added([conv.bias for conv in convs if conv.bias is not None])[:, None, None]
    shifted = (
        F.pad(output, (-x, x, -y, y)) for (y, x, _), output in zip(taps, outputs.chunk(len(taps), 1), strict=True)
    )
    return _added([bias, *shifted])


def _added(terms: Sequence[Tensor]) -> Tensor:
    """The sum, one by one: gradients of terms that were stacked first would lie in one memory, each added to all."""
    return functools.reduce(operator.add, terms)


def _taps(convs: Sequence[nn.Conv2d]) -> Iterator[tuple[int, int, Tensor]]:
    """Each tap: how far below and right of a cell it looks, and its weights (L, D); the centres are one."""
    yield 0, 0, torch.stack([conv.weight[:, :, 1, 1] for conv in convs]).sum(0)
    for conv in convs:
        rate = int(conv.dilation[0])
        for row in (-1, 0, 1):
            for column in (-1, 0, 1):
                if row or column:
                    yield row * rate, column * rate, conv.weight[:, :, row + 1, column + 1]
