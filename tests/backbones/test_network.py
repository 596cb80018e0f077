"""The shared network: features, head, frozen statistics."""

from __future__ import annotations

import copy

import torch
from torch import nn

from tag2mask.backbones.tagnet import freeze_statistics
from tag2mask.core.errors import ConfigError
from tests.backbones.make import images, network
from tests.helpers.refused import refused


def statistics(net: nn.Module) -> list[torch.Tensor]:
    return [b.clone() for name, b in net.named_buffers() if "running" in name or "tracked" in name]


def test_logits_are_the_head_on_averaged_features() -> None:
    net = network(n_classes=4).eval()
    features = net.features(images())
    expected = torch.einsum("ndhw,cd->nchw", features, net.class_weights()).mean((2, 3))
    assert net(images()).shape == (2, 4)
    torch.testing.assert_close(net(images()), expected, rtol=1e-4, atol=1e-6)


def test_class_weights_are_the_heads() -> None:
    net = network(n_classes=4)
    assert net.class_weights().shape == (4, 256)
    assert torch.equal(net.class_weights(), net.head.weight[:, :, 0, 0])
    assert net.head.bias is None


def test_parameters_are_body_and_head() -> None:
    net = network()
    both = [*net.backbone_parameters(), *net.head_parameters()]
    assert {id(p) for p in both} == {id(p) for p in net.parameters()}
    assert len(net.head_parameters()) == 1


def test_statistics_are_frozen_and_affine_parameters_train() -> None:
    net = network().train()
    before = statistics(net)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    scales = [m.weight.detach().clone() for m in norms]
    rule = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        net.train()
        for norm in norms:
            norm.train()  # even one by one
        net(images()).square().sum().backward()
        rule.step()
    assert all(torch.equal(a, b) for a, b in zip(before, statistics(net), strict=True))
    assert all(not torch.equal(m.weight, s) for m, s in zip(norms, scales, strict=True))


def test_training_mode_gives_the_features_of_evaluation_mode() -> None:
    net = network()
    with torch.no_grad():
        assert torch.equal(net.train().features(images()), net.eval().features(images()))


def test_other_modules_keep_their_mode() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5))
    freeze_statistics(net)
    net.train()
    assert net[1].training
    assert not torch.equal(net(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 8, 8))
    net.eval()
    torch.testing.assert_close(net(torch.ones(1, 3, 8, 8)), torch.full((1, 3, 8, 8), 1 / (1 + 1e-5) ** 0.5))


def test_freezing_twice_or_copying_changes_nothing() -> None:
    net = network()
    freeze_statistics(net)
    twin = copy.deepcopy(net).train()
    twin.features(images())
    assert all(torch.equal(a, b) for a, b in zip(statistics(net), statistics(twin), strict=True))
    norm = next(m for m in twin.modules() if isinstance(m, nn.BatchNorm2d))
    assert len(norm._forward_pre_hooks) == 1


def test_weights_are_laid_out_channels_last() -> None:
    weight = next(p for p in network().body.parameters() if p.ndim == 4 and p.shape[1] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_a_network_needs_a_class() -> None:
    with refused(ConfigError, "got 0", "at least one class"):
        network(n_classes=0)
