"""Layers that compute the same for every image size in one graph, in place of libraries' layers that do not.

A graph that is recorded at one size holds that size wherever a layer computes with it in a way that the recorder cannot
follow. Three layers of the networks here do so; their stand-ins give the same numbers at any size.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AdaptivePool(nn.Module):
    """Adaptive average pooling to a fixed grid, as two products with matrices of weights.

    Cell i of n takes the pixels from floor(i L / n) up to, without, ceil((i + 1) L / n) of L, and each weighs the same.

    Args:
        rows: of the result.
        columns: of the result.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, rows, columns), as `F.adaptive_avg_pool2d` does."""
        height, width = images.shape[-2:]
        down, across = _weights(height, self.rows, images), _weights(width, self.columns, images)
        return torch.matmul(torch.matmul(down, images), across.T)


class EvenSame(nn.Module):
    """A convolution of timm's whose padding follows TensorFlow's ``SAME``, on sides that its stride divides.

    The padding of such sides does not depend on them: dilation (k - 1) + 1 - stride in all, the odd pixel behind.

    Args:
        conv: of timm's class ``Conv2dSame``.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        places = zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
        missing = [max(0, dilation * (kernel - 1) + 1 - stride) for kernel, stride, dilation in places]
        self.padding = [part for total in reversed(missing) for part in (total // 2, total - total // 2)]

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W), sides multiples of the stride, to (N, D, H / stride, W / stride)."""
        conv = self.conv
        padded = F.pad(images, self.padding)
        return F.conv2d(padded, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)


class AnySwinBlock(nn.Module):
    """A block of timm's Swin, its windows counted before the padding, so that they divide the padded sides evidently.

    Args:
        block: of timm's class ``SwinTransformerBlock``.
    """

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, H, W, C) to the same shape."""
        tokens = tokens + self._attention(self.block.norm1(tokens))
        mixed: Tensor = tokens + self.block.mlp(self.block.norm2(tokens))
        return mixed

    def _attention(self, tokens: Tensor) -> Tensor:
        images, height, width, channels = tokens.shape
        (high, wide), (down, right) = self.block.window_size, self.block.shift_size
        rows, columns = -(-height // high), -(-width // wide)
        shifted = torch.roll(tokens, (-down, -right), (1, 2))
        shifted = F.pad(shifted, (0, 0, 0, columns * wide - width, 0, rows * high - height))
        windows = shifted.reshape(images, rows, high, columns, wide, channels).permute(0, 1, 3, 2, 4, 5)
        windows = windows.reshape(images * rows * columns, high * wide, channels)
        mask = self._mask(rows, columns, tokens) if down or right else None
        found = self.block.attn(windows, mask=mask).reshape(images, rows, columns, high, wide, channels)
        found = found.permute(0, 1, 3, 2, 4, 5).reshape(images, rows * high, columns * wide, channels)
        return torch.roll(found[:, :height, :width], (down, right), (1, 2))

    def _mask(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """(rows * columns, n, n), -100 between tokens of a window that were not neighbours before the shift."""
        (high, wide), (down, right) = self.block.window_size, self.block.shift_size
        part = 3 * _part(rows * high, high, down)[:, None] + _part(columns * wide, wide, right)[None]
        windows = part.reshape(rows, high, columns, wide).permute(0, 2, 1, 3).reshape(rows * columns, high * wide)
        return -100.0 * (windows[:, None] != windows[:, :, None]).to(like.dtype)


def exportable(net: nn.Module, even: bool) -> nn.Module:
    """A copy of a network, in evaluation mode on the CPU, with such layers replaced.

    Args:
        net: the network.
        even: whether the sides of what goes in are multiples of the network's stride, so that `EvenSame` is right.
    """
    net = copy.deepcopy(net).cpu().eval()
    for module in list(net.modules()):
        for name, child in module.named_children():
            stand_in = _stand_in(child, even)
            if stand_in is not None:
                setattr(module, name, stand_in)
    return net


def _stand_in(module: nn.Module, even: bool) -> nn.Module | None:
    from timm.layers.conv2d_same import Conv2dSame
    from timm.models.swin_transformer import SwinTransformerBlock

    if isinstance(module, SwinTransformerBlock):
        return AnySwinBlock(module)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        size: Any = module.output_size  # a number or a pair; None in it keeps the side
        rows, columns = (size, size) if isinstance(size, int) else size
        return None if rows is None or columns is None else AdaptivePool(rows, columns)
    if even and isinstance(module, Conv2dSame):
        return EvenSame(module)
    return None


def _part(length: int, window: int, shift: int) -> Tensor:
    """For each place 0 before the last window, 1 in it, 2 where the shift has brought in the other end."""
    place = torch.arange(length)
    return (place >= length - window).long() + (place >= length - shift).long()


def _weights(length: int, cells: int, like: Tensor) -> Tensor:
    """(cells, length), each row the mean over the pixels of its cell."""
    cell, pixel = torch.arange(cells)[:, None], torch.arange(length)[None]
    begin, end = cell * length // cells, -(-(cell + 1) * length // cells)
    inside = ((pixel >= begin) & (pixel < end)).to(like.dtype)
    return inside / (end - begin).to(like.dtype)
