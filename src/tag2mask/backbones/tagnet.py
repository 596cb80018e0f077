"""The network that every method shares: spatial features, and a linear head on them, whose cells are pooled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tag2mask.backbones.settings import GAP, BackboneSettings, Pooling
from tag2mask.core.errors import ConfigError

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


class Joins(nn.ModuleList):
    """Convolutions of a body that begin at random, whatever weights the rest has: they learn at the head's rate."""


def trained_parameters(body: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trained parameters of a body: those with first weights, and those of its `Joins`."""
    fresh = [p for m in body.modules() if isinstance(m, Joins) for p in m.parameters()]
    known = {id(p) for p in fresh}
    return [p for p in body.parameters() if p.requires_grad and id(p) not in known], fresh


class TagNet(nn.Module):
    """Spatial features, and one logit per class and cell, pooled: the network of CAM (LPCAM section 3.1).

    As published the cells are averaged and the head has no bias. It has one where levels are joined or other cells
    than all count: there the logit of a single cell has a meaning.

    Args:
        body: the network below the head.
        settings: what the body was built from; travels with saved weights.
        n_classes: C, number of classes.
        pooling: of the cells' logits to the image's; travels with saved weights.

    Attributes:
        mean: channel means; an image in [0, 1] goes in as ``(image - mean) / std``.
        std: channel standard deviations.
        stride: input pixels per feature cell.
        trained: for each class, whether it had a training image; all true until a training says otherwise.
    """

    def __init__(self, body: Body, settings: BackboneSettings, n_classes: int, pooling: Pooling = GAP) -> None:
        super().__init__()
        self.settings, self.pooling = settings, pooling
        self.mean, self.std, self.stride = body.mean, body.std, body.stride
        self.trained: tuple[bool, ...] = (True,) * n_classes
        self.body = body.module
        biased = settings.levels is not None or pooling.kind != GAP.kind
        self.head = nn.Conv2d(body.channels, n_classes, 1, bias=biased)
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)

    def features(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to features (N, D, h, w), with h about H / stride."""
        features: Tensor = self.body(images)
        return features

    def levels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The levels of a network that joins some, side by side, and the class map of the same cells.

        Args:
            images: (N, 3, H, W), normalised.

        Returns:
            (N, D', h, w) of unit length, and (N, C, h, w) logits.

        Raises:
            ConfigError: the network joins none.
        """
        joined, found = self._of_levels("apart")(images)
        return found, self.head(joined)

    def levels_alone(self, images: Tensor) -> Tensor:
        """The first of what `levels` gives, for less; the error is the same."""
        found: Tensor = self._of_levels("beside")(images)
        return found

    def _of_levels(self, method: str) -> Callable[[Tensor], Any]:
        found: Callable[[Tensor], Any] | None = getattr(self.body, method, None)
        if found is None:
            raise ConfigError(
                f"features = levels: the network '{self.settings.name}' joins no levels; set backbone.levels of the "
                "stage that trains it, such as classifier.backbone.levels=[4,8,16,32], or features=last"
            )
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to logits (N, C): the class map ``w f + bias``, pooled over its cells."""
        features = self.features(images)
        if self.pooling.kind == GAP.kind:  # the head is linear, so that the mean of features comes to the same
            logits: Tensor = self.head(features.mean((2, 3), keepdim=True))
            return logits.flatten(1)
        return pooled(self.head(features), self.pooling)

    def class_weights(self) -> Tensor:
        """The head's weights w_c, one row per class: (C, D)."""
        return self.head.weight.flatten(1)

    def class_bias(self) -> Tensor:
        """What the head adds to a cell's ``w f`` for each class, (C,); zeros where it has no bias."""
        bias = self.head.bias
        return self.head.weight.new_zeros(self.head.out_channels) if bias is None else bias

    def backbone_parameters(self) -> list[nn.Parameter]:
        """Parameters of the body that are trained, but for those that begin at random."""
        return trained_parameters(self.body)[0]

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the head, and what of the body begins at random."""
        return [*trained_parameters(self.body)[1], *self.head.parameters()]


def pooled(logits: Tensor, pooling: Pooling) -> Tensor:
    """Class maps (N, C, h, w) to one value each, (N, C) float32; see `Pooling`."""
    cells = logits.flatten(2).float()
    if pooling.kind == "top-k":
        return cells.topk(max(1, round(pooling.share * cells.shape[2])), dim=2).values.mean(2)
    if pooling.kind == "lse":
        return (torch.logsumexp(pooling.sharpness * cells, 2) - math.log(cells.shape[2])) / pooling.sharpness
    return cells.mean(2)


def freeze_statistics(net: nn.Module) -> None:
    """Make every batch norm of ``net`` use its stored statistics always, in training too, and never change them.

    Scales and shifts stay trainable. It holds whatever calls ``.train()`` later: the mode is set just before each use.
    """
    for module in net.modules():
        if isinstance(module, _BatchNorm) and not keeps_statistics(module):
            module.register_forward_pre_hook(_use_stored)


def keeps_statistics(norm: nn.Module) -> bool:
    """Whether `freeze_statistics` has been there."""
    return _use_stored in norm._forward_pre_hooks.values()


def _use_stored(norm: nn.Module, _inputs: tuple[torch.Tensor, ...]) -> None:
    if norm.training:  # a write to the attribute would break torch.export, so only where it is needed
        norm.eval()
