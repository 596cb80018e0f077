"""Settings, small networks and weight files for the tests of backbones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tag2mask.backbones.build import build_network
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.settings import validate

TINY = "test_efficientnet"
"""A network of timm's with 0.1 million parameters and batch norm."""


def settings(**values: Any) -> BackboneSettings:
    """A tiny network with random weights, unless said otherwise."""
    return validate(BackboneSettings, {"name": TINY, "weights": "none", **values}, "backbone")


def inner(net: TagNet) -> Any:
    """The timm network inside, which has no common static type."""
    return net.body.net


def network(n_classes: int = 3, seed: int = 0, **values: Any) -> TagNet:
    """A network whose random weights come from a seed."""
    torch.manual_seed(seed)
    return build_network(settings(**values), n_classes)


def images(n: int = 2, height: int = 65, width: int = 97) -> Tensor:
    """Normalised noise."""
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(1))
