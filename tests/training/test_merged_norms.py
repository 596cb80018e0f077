"""Batch norms of fixed statistics within the convolutions before them: the same features, gradients and weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from tag2mask.backbones.tagnet import freeze_statistics
from tag2mask.training.fit import fit
from tag2mask.training.loop import Loop
from tag2mask.training.merged_norms import MergedNorms, factors
from tag2mask.training.settings import TrainSettings
from tag2mask.training.task import Task, parameter_groups
from tests.training.toy import engine


def network(*, frozen: bool = True) -> nn.Sequential:
    """Each form: a plain pair, one with an activation, padding on one side, groups, a bias; statistics at random."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(),
        Conv2dSame(8, 8, 3, stride=2, groups=8, bias=False), BatchNormAct2d(8),
        nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6, affine=False),
        nn.Conv2d(6, 4, 1),
    )  # fmt: skip
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias)
    if frozen:
        freeze_statistics(net)
    return net


IMAGES = torch.rand(4, 3, 17, 22, generator=torch.Generator().manual_seed(0))


def loss_of(net: nn.Module) -> Callable[[], Tensor]:
    return lambda: net(IMAGES).square().mean()


def gradients(net: nn.Module) -> dict[str, Tensor]:
    net.zero_grad()
    loss_of(net)().backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_features_and_gradients_are_the_same_and_all_is_undone() -> None:
    net, norms = network(), MergedNorms()
    expected, names = gradients(net), list(net.state_dict())
    norms.merge(net, loss_of(net))
    assert len(norms.changed) == 6, "three pairs"
    features = torch.rand(1, 8, 2, 2)
    assert net[1](features) is features, "the norm itself has nothing left to do"
    torch.testing.assert_close(net(IMAGES), network()(IMAGES), rtol=1e-5, atol=1e-6)
    found = gradients(net)
    assert found.keys() == expected.keys()
    for name, each in expected.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=1e-6, msg=name)
    assert list(net.state_dict()) == names
    norms.close()
    assert not any("forward" in vars(module) for module in net.modules())
    assert torch.equal(net(IMAGES), network()(IMAGES))


def test_factor_and_shift_by_hand() -> None:
    norm = nn.BatchNorm2d(2, eps=0.0)
    norm.running_mean, norm.running_var = torch.tensor([1.0, -2.0]), torch.tensor([4.0, 0.25])
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([3.0, 1.0]))
        norm.bias.copy_(torch.tensor([0.5, 0.0]))
    factor, shift = factors(norm)
    assert factor.tolist() == [1.5, 2.0]
    assert shift.tolist() == [0.5 - 1.5, 4.0]


def test_norms_that_learn_their_statistics_stay_by_themselves() -> None:
    net, norms = network(frozen=False), MergedNorms()
    before = copy.deepcopy(net.state_dict())
    norms.merge(net, loss_of(net))
    assert not norms.changed
    assert all(torch.equal(before[name], each) for name, each in net.state_dict().items())


class Forked(nn.Module):
    """A convolution whose features go past the norm, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = network()[:2]

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images)
        both: Tensor = self.norm(features) + features
        return both


def test_features_that_go_elsewhere_too_stay_as_they_are() -> None:
    net, norms = Forked(), MergedNorms()
    expected = net.eval()(IMAGES)
    norms.merge(net, loss_of(net))
    assert not norms.changed
    assert torch.equal(net(IMAGES), expected)


SETTINGS = TrainSettings(epochs=3, batch_size=2, accumulate=1, lr=0.05, crop=32, long_side=(32, 32))


class Images(torch.utils.data.Dataset[tuple[Tensor]]):
    """Four images."""

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor]:
        return (IMAGES[key[1]],)


def task() -> Task:
    net = network()
    groups = parameter_groups(list(net[:7].parameters()), list(net[7].parameters()), SETTINGS)
    return Task(net, SETTINGS, groups, lambda part, _counts: (net(part[0]) - 1).square().mean())


def trained(out: Path) -> dict[str, Tensor]:
    out.mkdir()
    one = task()
    fit(one, Images(), out=out, seed=0, engine=engine())
    assert not any("forward" in vars(module) for module in one.net.modules()), "left as it was"
    return one.net.state_dict()


def test_a_training_ends_with_the_weights_that_it_has_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trained(tmp_path / "merged")
    monkeypatch.setattr(Loop, "_merge", lambda *_: None)
    expected = trained(tmp_path / "plain")
    first = task().net.state_dict()
    for name, each in expected.items():
        torch.testing.assert_close(found[name], each, rtol=1e-3, atol=1e-5, msg=name)
    assert not torch.equal(first["0.weight"], found["0.weight"])
    assert not torch.equal(first["1.weight"], found["1.weight"])
    assert torch.equal(first["1.running_mean"], found["1.running_mean"])
