"""Folded batch norms give the same features, and what cannot be folded is left as it is."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from tag2mask.backbones.build import build_network
from tag2mask.backbones.folded import folded, for_inference
from tag2mask.backbones.settings import BackboneSettings


def settle(net: nn.Module) -> nn.Module:
    """Draw statistics, scales and shifts far from 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            assert module.running_var is not None
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=generator) / 5)
            module.running_var.copy_(torch.rand(shape, generator=generator) + 0.5)
            if module.affine:
                module.weight.data.copy_(torch.rand(shape, generator=generator) + 0.5)
                module.bias.data.copy_(torch.randn(shape, generator=generator) / 5)
    return net.eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@pytest.mark.parametrize(
    ("name", "stride"), [("efficientnet_lite0", 16), ("resnet50_irn", 16), ("resnet18", 8), ("test_efficientnet", 8)]
)
@torch.no_grad()
def test_features_stay_the_same_and_no_batch_norm_is_left(name: str, stride: int) -> None:
    net = build_network(BackboneSettings(name=name, weights="none", stride=stride), 3)
    settle(net)
    state = {k: v.clone() for k, v in net.body.state_dict().items()}
    images = torch.randn(2, 3, 75, 96, generator=torch.Generator().manual_seed(2))
    expected = net.features(images)
    ours = folded(net.body)
    assert norms(net.body) > 0
    assert norms(ours) == 0
    assert torch.allclose(ours(images), expected, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(v, state[k]) for k, v in net.body.state_dict().items())  # the body itself is untouched
    ready = for_inference(net, torch.device("cpu"))
    assert ready is net
    assert norms(net) == 0
    assert torch.allclose(net.features(images), expected, atol=1e-4 * float(expected.abs().max()))


class Twice(nn.Module):
    """A convolution whose output goes to a batch norm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images)
        normed: Tensor = self.norm(features)
        return normed + features


class Shared(Twice):
    """A convolution that runs twice, once before a batch norm."""

    def forward(self, images: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(images))
        again: Tensor = self.conv(images.flip(-1))
        return normed * again


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised as it runs."""

    def forward(self, images: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return nn.functional.conv2d(images, weight, self.bias)


@pytest.mark.parametrize(
    "body", [Twice(), Shared(), nn.Sequential(Standardised(3, 4, 3), nn.BatchNorm2d(4))], ids=["twice", "shared", "std"]
)
@torch.no_grad()
def test_where_folding_would_change_the_features_the_body_is_used_as_it_is(
    body: nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    settle(body)
    images = torch.randn(1, 3, 8, 8)
    expected = body(images)
    with caplog.at_level(logging.INFO, "tag2mask"):
        ours = folded(body)
    assert torch.equal(ours(images), expected)
    if not isinstance(body, Shared):  # whose pair is not even tried
        assert ours is body
        assert "batch norms stay as they are: folded, they change the features by" in caplog.text


@torch.no_grad()
def test_statistics_of_the_batch_and_norms_without_a_convolution_stay() -> None:
    body = settle(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False), nn.BatchNorm2d(4)))
    ours = folded(body)
    assert norms(ours) == 2
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(ours(images), body(images))
    plain = nn.Sequential(nn.Conv2d(3, 4, 1))
    assert folded(plain) is plain


@torch.no_grad()
def test_norms_without_scale_and_shift_fold_too() -> None:
    body = settle(nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False), nn.ReLU()))
    ours = folded(body)
    images = torch.randn(2, 3, 9, 9)
    assert norms(ours) == 0
    assert torch.allclose(ours(images), body(images), atol=1e-5)
