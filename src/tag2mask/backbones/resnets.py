"""Networks of no library: IRN's ResNet-50, which LPCAM and AMN share, and DeepLabV2's ResNet-101 as Caffe had it."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from tag2mask.backbones.settings import RESNET50_IRN, BackboneSettings
from tag2mask.backbones.tagnet import RGB, Body, freeze_statistics
from tag2mask.core.errors import ConfigError

IRN_STRIDE = 16
IRN_CHANNELS = 2048
IRN_MEAN: RGB = (0.485, 0.456, 0.406)
IRN_STD: RGB = (0.229, 0.224, 0.225)
PUBLISHED_DETACH = 2
CAFFE_STRIDE = 8
CAFFE_CHANNELS = 2048
CAFFE_MEAN: RGB = (122.675 / 255, 116.669 / 255, 104.008 / 255)
"""Of R, G, B in [0, 1]; the published list is blue first."""
CAFFE_STD: RGB = (1 / 255, 1 / 255, 1 / 255)
"""Makes the normalised input 0..255 minus the mean: its files were trained without a division."""
_EPSILON = 1e-5
_LAYERS = ((3, 256, 1, 1), (4, 512, 2, 1), (23, 1024, 1, 2), (3, 2048, 1, 4))
"""Blocks, output channels, stride and dilation of layer2 to layer5."""


class ResNet50Irn(nn.Module):
    """torchvision's ResNet-50 whose last stage keeps the resolution, its kernels not dilated.

    Parameters have torchvision's names. The first convolution and its batch norm are never trained.

    Args:
        detach_after: stage (1 to 4) whose output is detached, so that nothing up to it is trained; 0 for none.
    """

    def __init__(self, detach_after: int = PUBLISHED_DETACH) -> None:
        super().__init__()
        net = resnet50(weights=None)
        self.detach_after = detach_after
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        first = self.layer4[0]
        first.conv2.stride = first.downsample[0].stride = (1, 1)
        # Without a gradient to come, an optimiser or a reducer of several processes must not wait for one.
        for module in (self.conv1, self.bn1, *self.stages()[:detach_after]):
            module.requires_grad_(False)

    def stages(self) -> tuple[nn.Module, ...]:
        """The four stages of residual blocks."""
        return self.layer1, self.layer2, self.layer3, self.layer4

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to non-negative features (N, 2048, ceil(H/16), ceil(W/16))."""
        x: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for number, stage in enumerate(self.stages(), start=1):
            x = stage(x)
            if number == self.detach_after:
                x = x.detach()
        return x


def irn_body(settings: BackboneSettings) -> Body:
    """Build the published ResNet-50, with random weights."""
    if settings.stride not in (None, IRN_STRIDE):
        raise ConfigError(
            f"backbone.stride = {settings.stride}: {RESNET50_IRN} has stride {IRN_STRIDE} only; leave stride out"
        )
    detach = PUBLISHED_DETACH if settings.detach_after is None else settings.detach_after
    return Body(ResNet50Irn(detach), IRN_CHANNELS, IRN_STRIDE, IRN_MEAN, IRN_STD)


class _Unit(nn.Sequential):
    """Convolution without bias and batch norm, and a ReLU where wanted."""

    def __init__(
        self, inside: int, outside: int, kernel: int, stride: int = 1, dilation: int = 1, *, relu: bool = True
    ) -> None:
        padding = dilation * (kernel // 2)
        parts: list[tuple[str, nn.Module]] = [
            ("conv", nn.Conv2d(inside, outside, kernel, stride, padding, dilation, bias=False)),
            ("bn", nn.BatchNorm2d(outside, eps=_EPSILON)),
        ]
        super().__init__(OrderedDict([*parts, ("relu", nn.ReLU())] if relu else parts))


class _Block(nn.Module):
    """A residual block whose stride is in its first convolution."""

    def __init__(self, inside: int, outside: int, stride: int, dilation: int, first: bool) -> None:
        super().__init__()
        middle = outside // 4
        self.reduce = _Unit(inside, middle, 1, stride)
        self.conv3x3 = _Unit(middle, middle, 3, dilation=dilation)
        self.increase = _Unit(middle, outside, 1, relu=False)
        self.shortcut = _Unit(inside, outside, 1, stride, relu=False) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, D, h, w) to non-negative (N, D', h', w')."""
        return torch.relu(self.increase(self.conv3x3(self.reduce(x))) + self.shortcut(x))


class ResNet101Caffe(nn.Module):
    """The network of deeplab-pytorch's weight files, with their names of parameters.

    Batch norms keep their stored statistics always, and their scales and shifts are never trained.
    """

    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.layer1 = nn.Sequential(OrderedDict([("conv1", _Unit(3, 64, 7, 2)), ("pool", pool)]))
        inside = 64
        for number, (blocks, outside, stride, dilation) in enumerate(_LAYERS, start=2):
            layer: OrderedDict[str, nn.Module] = OrderedDict(
                (f"block{b + 1}", _Block(outside if b else inside, outside, 1 if b else stride, dilation, not b))
                for b in range(blocks)
            )
            self.add_module(f"layer{number}", nn.Sequential(layer))
            inside = outside
        freeze_norms(self)

    def forward(self, images: Tensor) -> Tensor:
        """RGB images (N, 3, H, W), 0..255 minus the mean, to non-negative features (N, 2048, h, w), h about H / 8."""
        x = images.flip(1)  # the files are of networks that take blue first
        for layer in self.children():
            x = layer(x)
        return x


def freeze_norms(net: nn.Module) -> None:
    """Keep statistics, scales and shifts of every batch norm as they are, in training too."""
    freeze_statistics(net)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.requires_grad_(False)


def caffe_body() -> Body:
    """Build the network with random weights."""
    return Body(ResNet101Caffe(), CAFFE_CHANNELS, CAFFE_STRIDE, CAFFE_MEAN, CAFFE_STD)
