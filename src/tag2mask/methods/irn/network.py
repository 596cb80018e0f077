"""The boundary network: one logit a cell, from every level of a frozen backbone (IRN's class-boundary branch)."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.backbones.levels import level_channels, level_features
from tag2mask.backbones.network import TagNet, build_network
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.core.resize import bilinear
from tag2mask.inference.multiscale import add_mirror, pair_features
from tag2mask.methods.irn.settings import STRIDE

_WIDTH, _GROUPS = 32, 4
_MULTIPLE = 16


class BoundaryNet(nn.Module):
    """How likely a boundary between classes runs through each cell of the stride-4 grid.

    Each level: 1 x 1 convolution to 32 channels, group norm, bilinear to stride 4, ReLU; all together: 1 x 1
    convolution to one logit. The backbone is in evaluation mode always, and has no gradients.

    Args:
        net: gives the backbone; its head is not used.

    Attributes:
        settings: of the backbone.
        mean: channel means; an image in [0, 1] goes in as ``(image - mean) / std``.
        std: channel standard deviations.
        multiple: input sides are padded to a multiple of it, so that every level has whole cells.
    """

    def __init__(self, net: TagNet) -> None:
        super().__init__()
        self.settings, self.mean, self.std = net.settings, net.mean, net.std
        self.multiple = max(_MULTIPLE, net.stride)
        channels = level_channels(net)
        self.body = net.body.requires_grad_(False)
        self.reduce = nn.ModuleList(nn.Conv2d(depth, _WIDTH, 1, bias=False) for depth in channels)
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, _WIDTH) for _ in channels)
        self.join = nn.Conv2d(_WIDTH * len(channels), 1, 1)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the branch; the backbone stays in evaluation mode."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Boundary logits.

        Args:
            images: (N, 3, H, W), normalised, of any size. What is missing to a multiple is filled with 0, the mean
                colour, on the right and below; nothing is ever cut.

        Returns:
            (N, 1, ceil(H / 4), ceil(W / 4)).
        """
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        with torch.no_grad():
            levels = level_features(self.body, padded)
        size = padded.shape[-2] // STRIDE, padded.shape[-1] // STRIDE
        parts = [
            bilinear(norm(reduce(level)), *size).relu()
            for level, reduce, norm in zip(levels, self.reduce, self.norms, strict=True)
        ]
        logits: Tensor = self.join(torch.cat(parts, dim=1))
        return logits[..., : -(-height // STRIDE), : -(-width // STRIDE)]

    def branch_parameters(self) -> list[nn.Parameter]:
        """What is trained: all but the backbone."""
        return [*self.reduce.parameters(), *self.norms.parameters(), *self.join.parameters()]


def build_boundary(settings: BackboneSettings, n_classes: int = 1) -> BoundaryNet:
    """Build a boundary network on a backbone with its initial weights, laid out channels-last.

    The branch is drawn from torch's global generator.

    Args:
        settings: of the backbone.
        n_classes: of the data; matters only where the backbone's weights are a classifier's.

    Raises:
        ConfigError: the network cannot be had, or has no levels to take apart.
        WeightsError: the weights do not belong to the network.
    """
    return BoundaryNet(build_network(settings, n_classes)).to(memory_format=torch.channels_last)


def boundary_map(net: BoundaryNet, image: Tensor, mirror: bool = True) -> Tensor:
    """The probability of a boundary in each cell, from the image as it is and its mirror image.

    Args:
        net: in evaluation mode.
        image: (3, H, W), normalised, on the network's device.
        mirror: average the logits with those of the mirror image, flipped back.

    Returns:
        (ceil(H / 4), ceil(W / 4)) float32 in [0, 1].
    """
    logits = next(pair_features(net, [image], mirror=mirror)).float()
    return torch.sigmoid(add_mirror(logits)[0] / len(logits))
