"""Builds a network with its initial weights from its settings."""

from __future__ import annotations

from typing import Any

import torch

from tag2mask.backbones.levels import JoinedBody, drop_unused, freeze_up_to, joined_body
from tag2mask.backbones.official_checkpoints import is_official_classifier, official_classifier
from tag2mask.backbones.resnets import irn_body
from tag2mask.backbones.settings import (
    BUNDLED,
    GAP,
    RESNET50_IRN,
    BackboneSettings,
    Pooling,
    bundled_file,
    local_file,
)
from tag2mask.backbones.state_dict import in_order, load_strict, read_state, without
from tag2mask.backbones.tagnet import TagNet, freeze_statistics
from tag2mask.backbones.timm_body import TimmBody, timm_body, timm_name, timm_state
from tag2mask.core.errors import ConfigError, WeightsError

_IRN_BY_TIMM = "resnet50.tv_in1k"
"""timm's copy of torchvision's first ImageNet weights, from which the papers start."""


def build_network(settings: BackboneSettings, n_classes: int, pooling: Pooling = GAP) -> TagNet:
    """Build a network, load its initial weights, freeze its batch-norm statistics, and lay it out channels-last.

    The head, and all else under ``weights: none``, is drawn from torch's global generator.

    Args:
        settings: network, stride and weights.
        n_classes: C, at least 1.
        pooling: of the cells' logits to the image's.
    """
    if n_classes < 1:
        raise ConfigError(f"a network needs at least one class, got {n_classes}")
    body = irn_body(settings) if settings.name == RESNET50_IRN else timm_body(settings)
    if settings.levels is not None:
        body = joined_body(body, settings)
    net = TagNet(body, settings, n_classes, pooling)
    _load_initial(net, settings)
    if settings.freeze is not None:
        freeze_up_to(net.body, settings.freeze, settings.name)
    if isinstance(net.body, JoinedBody):
        drop_unused(net.body)
    freeze_statistics(net)
    return net.to(memory_format=torch.channels_last)


def check_network(settings: BackboneSettings, n_classes: int) -> None:
    """Check that a network with its first weights is available; torch's random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        build_network(settings, n_classes)


def _load_initial(net: TagNet, settings: BackboneSettings) -> None:
    if settings.weights == "none":
        return
    if settings.weights == "bundled":
        _load_bundled(net, settings.name)
    elif settings.weights == "timm":
        name = _IRN_BY_TIMM if settings.name == RESNET50_IRN else timm_name(settings.name)
        load_strict(_target(net), timm_state(name), f"timm's {name}", f"'{settings.name}'")
    else:
        _load_file(net, settings)


def _target(net: TagNet) -> Any:
    """The module whose parameters have the names of plain weight files."""
    body: Any = net.body.trunk if isinstance(net.body, JoinedBody) else net.body
    return body.net if isinstance(body, TimmBody) else body


def _load_bundled(net: TagNet, name: str) -> None:
    if name != BUNDLED:
        raise WeightsError(
            f"backbone.weights = 'bundled': there are bundled weights for {BUNDLED} only, not for '{name}'. Give a "
            f"local file (backbone.weights=FILE.pth), weights=timm (downloads), or weights=none (random)"
        )
    target, path = _target(net), bundled_file()
    state = in_order(read_state(path), list(target.state_dict()), str(path))
    load_strict(target, state, str(path), f"'{name}'")


def _load_file(net: TagNet, settings: BackboneSettings) -> None:
    path = local_file(settings.weights)
    state, target, expected = read_state(path), _target(net), f"'{settings.name}'"
    if settings.name == RESNET50_IRN and is_official_classifier(state):
        if settings.levels is not None:
            raise WeightsError(
                f"backbone.weights = '{settings.weights}' are those of a classifier without joined levels, but "
                f"backbone.levels = {list(settings.levels)}: set levels=null, or take weights of a plain ResNet-50"
            )
        official = official_classifier(state, str(path))
        check_classes(official.get("head.weight"), net, str(path))
        load_strict(net, official, str(path), f"the classifier of {expected}")
        return
    head = "fc" if settings.name == RESNET50_IRN else target.pretrained_cfg.get("classifier") or ()
    names = (head,) if isinstance(head, str) else tuple(head)
    load_strict(target, without(state, [f"{n}." for n in names]), str(path), expected)


def check_classes(head: torch.Tensor | None, net: TagNet, source: str) -> None:
    """Refuse a checkpoint of another number of classes.

    Args:
        head: the checkpoint's head, (C', D, 1, 1), or None where it has none (which the strict load reports).
        net: the network with C classes that should load it.
        source: the file, for the error text.
    """
    own = net.head.out_channels
    if head is not None and head.shape[0] != own:
        raise WeightsError(
            f"{source} has {head.shape[0]} classes, the data has {own}. Use a checkpoint trained on these classes, or "
            f"set data.classes to the checkpoint's"
        )
