"""Any timm network with a spatial map can serve; the others are refused with a reason."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch

from tag2mask.backbones.timm_body import timm_state
from tag2mask.core.errors import ConfigError, WeightsError
from tests.backbones.make import images, inner, network


@pytest.mark.parametrize(
    ("name", "channels"),
    [("test_efficientnet", 256), ("test_resnet", 96), ("test_mambaout", 64), ("test_convnext", 64)],
)
def test_features_are_a_spatial_map(name: str, channels: int) -> None:
    net = network(name=name)
    assert net.stride == 32
    assert net.features(images(1, 64, 96)).shape == (1, channels, 2, 3)
    assert net(images()).shape == (2, 3)


def test_channels_last_features_are_turned() -> None:
    net = network(name="test_mambaout").eval()
    plain = inner(net).forward_features(images())
    assert plain.shape[-1] == 64
    assert torch.equal(net.features(images()), plain.permute(0, 3, 1, 2))


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_stride_is_as_asked(stride: int) -> None:
    net = network(stride=stride)
    height, width = net.features(images()).shape[2:]
    assert net.stride == stride
    assert (height, width) == (math.ceil(65 / stride), math.ceil(97 / stride))


def test_a_stride_keeps_the_weights() -> None:
    """A smaller stride is the same network on a finer grid, so the same weights load."""
    native, fine = network(seed=3), network(seed=3, stride=16)
    assert [p.shape for p in native.parameters()] == [p.shape for p in fine.parameters()]


def test_mean_and_std_are_the_networks() -> None:
    lite, resnet = network(name="efficientnet_lite0"), network(name="resnet10t")
    assert (lite.mean, lite.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config: Any = timm.create_model("resnet10t").pretrained_cfg
    assert (resnet.mean, resnet.std) == (tuple(config["mean"]), tuple(config["std"]))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"name": "resnet5"}, "backbone.name = 'resnet5': unknown network; did you mean 'resnet50'?"),
        ({"name": "eficientnet_lite0"}, "did you mean 'efficientnet_lite0'?"),
        ({"name": "resnet10t.nothing"}, "network 'resnet10t.nothing': Invalid pretrained tag"),
        ({"name": "test_vit"}, "backbone.name = 'test_vit': it does not take images of any size"),
        ({"name": "test_maxvit"}, "Choose a convolutional network, such as efficientnet_lite0 or resnet50"),
        ({"name": "resnet10t", "stride": 12}, "backbone.stride = 12: 'resnet10t' cannot have it; possible: 8, 16, 32"),
        ({"name": "test_convnext", "stride": 4}, "backbone.stride = 4: .* possible: 8, 16, 32"),
        ({"name": "test_mambaout", "stride": 16}, r"possible: 32 \(its own: stride=null\)"),
        ({"detach_after": 2}, "backbone.detach_after = 2: only resnet50_irn has it; leave it out"),
    ],
)
def test_what_cannot_be_had_is_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        network(**values)  # type: ignore[arg-type]


def test_tokens_are_no_spatial_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm.models.EfficientNet, "forward_features", lambda self, x: torch.zeros(1, 50, 256))
    with pytest.raises(ConfigError, match=r"its features have shape \(1, 50, 256\), no spatial map \(N, D, h, w\)"):
        network()


def test_a_download_that_fails_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError) as caught:
        timm_state("resnet10t")
    assert "weights 'timm' for 'resnet10t' cannot be had: no network" in str(caught.value)
    assert "a local file in the same setting, weights=FILE.safetensors (network.weights wants" in str(caught.value)


def test_timm_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    donor: Any = timm.create_model("test_efficientnet", num_classes=0)
    create = timm.create_model

    def given(name: str, pretrained: bool = False, **options: Any) -> object:
        return donor if pretrained else create(name, **options)

    monkeypatch.setattr(timm, "create_model", given)
    net = network(weights="timm")
    assert torch.equal(inner(net).conv_stem.weight, donor.conv_stem.weight)
