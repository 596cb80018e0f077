"""Batch norms of fixed statistics computed inside the convolutions before them while both are trained.

Such a norm is a factor and a shift of each channel, ``f (w * x) + s = (f w) * x + s``: the convolution with its weights
times ``f`` gives the same features, and autograd the same gradients of the convolution's weights and of the norm's,
up to rounding, without a pass over the features forward and two backward. Parameters and their names stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from timm.layers.conv2d_same import Conv2dSame, conv2d_same
from torch import Tensor, nn

from tag2mask.backbones.folded import norms_after
from tag2mask.backbones.tagnet import keeps_statistics
from tag2mask.core.progress import LOG

_AGREE = 1e-4
"""Largest difference of the loss, as a share of it; rounding stays far below."""
_FORWARD = "forward"
_KNOWN = (nn.Conv2d.forward, Conv2dSame.forward)
"""What convolutions do that can be done with other weights."""
_AS_IT_IS = nn.Identity()


class MergedNorms:
    """The norms of a network that run inside convolutions, until `close`."""

    def __init__(self) -> None:
        self.changed: list[nn.Module] = []

    def merge(self, net: nn.Module, loss: Callable[[], Tensor]) -> None:
        """Merge each batch norm of fixed statistics into the convolution that it follows, where the loss stays.

        Args:
            net: may be left in evaluation mode; its modules' ``forward`` are others until `close`.
            loss: of the network on some images, the same each time in evaluation mode; run twice.
        """
        if not any(keeps_statistics(module) for module in net.modules()):
            return
        net.eval()
        with torch.no_grad():
            before: list[Tensor] = []
            pairs = norms_after(net, lambda: before.append(loss()))
            for conv, norm in pairs:
                if keeps_statistics(norm) and type(conv).forward in _KNOWN:
                    self._merge(conv, norm)
            if not self.changed:
                return
            after = loss()
        difference = float((after - before[0]).abs() / before[0].abs().clamp_min(_AGREE))
        if not difference <= _AGREE:  # NaN too
            LOG.debug("batch norms run by themselves: in the convolutions they change the loss by %.2g", difference)
            self.close()

    def close(self) -> None:
        """Let every module run by itself again."""
        for module in self.changed:
            delattr(module, _FORWARD)
        self.changed.clear()

    def _merge(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        setattr(conv, _FORWARD, partial(_both, conv, norm))
        setattr(norm, _FORWARD, partial(_rest, norm))
        self.changed += [conv, norm]


def _rest(norm: nn.Module, features: Tensor) -> Tensor:
    """What a norm of timm does beside the norm."""
    for name in ("drop", "act"):
        features = getattr(norm, name, _AS_IT_IS)(features)
    return features


def _both(conv: nn.Conv2d, norm: nn.BatchNorm2d, images: Tensor) -> Tensor:
    """What the norm makes of what the convolution makes; torch's own fusion lets no gradient through."""
    factor, shift = factors(norm)
    bias = shift if conv.bias is None else shift + conv.bias * factor
    weight = conv.weight * factor[:, None, None, None]
    if isinstance(conv, Conv2dSame):
        stride, dilation = _pair(conv.stride), _pair(conv.dilation)
        features: Tensor = conv2d_same(images, weight, bias, stride, dilation=dilation, groups=conv.groups)
    else:
        features = conv._conv_forward(images, weight, bias)
    return features


def _pair(sides: tuple[int, ...]) -> tuple[int, int]:
    height, width = sides
    return height, width


def factors(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor and shift of each channel, (C,) each: ``weight / sqrt(var + eps)`` and ``bias - mean * factor``."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight
    shift = -norm.running_mean * factor
    return factor, shift if norm.bias is None else shift + norm.bias
