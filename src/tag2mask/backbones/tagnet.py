"""The network that every method shares: spatial features, and a linear head on their average."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tag2mask.backbones.settings import BackboneSettings

RGB = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Body:
    """A network without its head.

    Attributes:
        module: maps (N, 3, H, W) images to (N, channels, h, w) features.
        channels: D, the number of feature channels.
        stride: input pixels per feature cell.
        mean: mean of the input channels R, G, B in [0, 1].
        std: their standard deviation.
    """

    module: nn.Module
    channels: int
    stride: int
    mean: RGB
    std: RGB


class TagNet(nn.Module):
    """Spatial features, and one logit per class from their average: the network of CAM (LPCAM section 3.1).

    Args:
        body: the network below the head.
        settings: what the body was built from; travels with saved weights.
        n_classes: C, number of classes.

    Attributes:
        mean: channel means; an image in [0, 1] goes in as ``(image - mean) / std``.
        std: channel standard deviations.
        stride: input pixels per feature cell.
        trained: for each class, whether it had a training image; all true until a training says otherwise.
    """

    def __init__(self, body: Body, settings: BackboneSettings, n_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.mean, self.std, self.stride = body.mean, body.std, body.stride
        self.trained: tuple[bool, ...] = (True,) * n_classes
        self.body = body.module
        self.head = nn.Conv2d(body.channels, n_classes, 1, bias=False)

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to features (N, D, h, w), with h about H / stride."""
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to logits (N, C): the head on the global average of the features."""
        logits: Tensor = self.head(self.features(images).mean((2, 3), keepdim=True))
        return logits.flatten(1)

    def class_weights(self) -> Tensor:
        """The head's weights w_c, one row per class: (C, D)."""
        return self.head.weight.flatten(1)

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters of the body that are trained."""
        return [p for p in self.body.parameters() if p.requires_grad]

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the head."""
        return list(self.head.parameters())


def freeze_statistics(net: nn.Module) -> None:
    """Make every batch norm of ``net`` use its stored statistics always, in training too, and never change them.

    Scales and shifts stay trainable. It holds whatever calls ``.train()`` later: the mode is set just before each use.
    """
    for module in net.modules():
        if isinstance(module, _BatchNorm) and _use_stored not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(_use_stored)


def _use_stored(norm: nn.Module, _inputs: tuple[torch.Tensor, ...]) -> None:
    if norm.training:  # a write to the attribute would break torch.export, so only where it is needed
        norm.eval()
