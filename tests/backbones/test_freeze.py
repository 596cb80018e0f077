"""The first stages of a network keep their first weights where the settings say so; all others are trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tag2mask.backbones.levels import level_features
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.settings import key_values
from tag2mask.core.errors import ConfigError
from tests.backbones.make import images, network, settings
from tests.helpers.refused import refused

LEVELS: dict[str, Any] = {"levels": [4, 8, 16], "join_channels": 8, "join_stride": 8}


def trunk(net: TagNet) -> nn.Module:
    found: nn.Module = getattr(net.body, "trunk", net.body)
    return found


@torch.no_grad()
def level(net: TagNet, stride: int) -> Tensor:
    """The deepest level of a stride."""
    whole = images(1, 128, 128)
    return [f for f in level_features(trunk(net).eval(), whole) if round(128 / f.shape[-1]) == stride][-1]


@torch.no_grad()
def moves(net: TagNet, parameter: nn.Parameter, stride: int) -> bool:
    """Whether a level depends on a parameter."""
    before, kept = level(net, stride), parameter.clone()
    parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    after = level(net, stride)
    parameter.copy_(kept)
    return not torch.equal(before, after)


@pytest.mark.parametrize("more", [{}, LEVELS], ids=["plain", "joined"])
@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet"])
def test_what_a_level_is_made_of_is_frozen_and_nothing_else(name: str, stride: int, more: dict[str, Any]) -> None:
    net = network(name=name, freeze=stride, **more)
    for norm in (module for module in net.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.ones_(norm.weight)  # some begin at 0, where nothing before them would show
    found = {n: (p.requires_grad, moves(net, p, stride)) for n, p in trunk(net).named_parameters()}
    assert {trained is not behind for trained, behind in found.values()} == {True}
    assert {trained for trained, _ in found.values()} == {True, False}
    own = [p.requires_grad for n, p in net.named_parameters() if not n.startswith(("body.trunk.", "body.net."))]
    assert all(own), "joins and head are trained"
    assert all(p.grad is None for p in net.parameters())
    assert net.training


def test_values_and_those_of_a_step_are_those_of_the_network_itself() -> None:
    free, frozen = network(**LEVELS), network(freeze=4, **LEVELS)
    assert torch.equal(free(images()), frozen(images()))
    for net in (free, frozen):
        net(images()).square().sum().backward()
    named = dict(free.named_parameters())
    for name, parameter in frozen.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, named[name].grad)
        else:
            assert parameter.grad is None


def test_a_level_that_the_network_lacks_is_refused_with_those_it_has() -> None:
    with refused(ConfigError, "backbone.freeze = 3", "no level of that stride", "2, 4, 8, 16, 32"):
        network(freeze=3)


def test_by_default_all_is_trained_and_the_key_is_as_before() -> None:
    assert all(p.requires_grad for p in network().parameters())
    assert "freeze" not in key_values(BackboneSettings(weights="none"))
    assert key_values(settings(freeze=4))["freeze"] == 4
