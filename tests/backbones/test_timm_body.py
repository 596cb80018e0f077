"""Any timm network with a spatial map can serve; the others are refused with a reason."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.timm_body import TokenBody, Tokens, timm_state, token_body
from tag2mask.core.errors import ConfigError, WeightsError
from tests.backbones.make import images, inner, network
from tests.helpers.refused import lacking, refused


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
def test_stride_is_as_requested(stride: int) -> None:
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
        ({"name": "resnet5"}, "backbone.name = 'resnet5' … unknown network … did you mean 'resnet50'"),
        ({"name": "eficientnet_lite0"}, "did you mean 'efficientnet_lite0'"),
        ({"name": "resnet10t.nothing"}, "network 'resnet10t.nothing': Invalid pretrained tag"),
        ({"name": "test_vit"}, "backbone.name = 'test_vit' … images of any size"),
        ({"name": "test_maxvit"}, "such as efficientnet_lite0 or resnet50"),
        ({"name": "resnet10t", "stride": 12}, "backbone.stride = 12: 'resnet10t' cannot have it; possible: 8, 16, 32"),
        ({"name": "test_convnext", "stride": 4}, "backbone.stride = 4: … possible: 8, 16, 32"),
        ({"name": "test_mambaout", "stride": 16}, "possible: 32 (its own: stride=null)"),
        ({"detach_after": 2}, "backbone.detach_after = 2 … only resnet50_irn … leave it out"),
    ],
)
def test_what_cannot_be_had_is_refused(values: dict[str, object], text: str) -> None:
    with refused(ConfigError, text):
        network(**values)  # type: ignore[arg-type]


def test_tokens_are_no_spatial_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm.models.EfficientNet, "forward_features", lambda self, x: torch.zeros(1, 50, 256))
    with refused(ConfigError, "(1, 50, 256)", "(N, D, h, w)"):
        network()


def test_a_download_that_fails_says_what_else_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError) as caught:
        timm_state("resnet10t")
    assert not lacking(
        caught.value, "'timm' for 'resnet10t' … no network … a local file … weights=FILE.safetensors … network.weights"
    )


def test_timm_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    donor: Any = timm.create_model("test_efficientnet", num_classes=0)
    create = timm.create_model

    def given(name: str, pretrained: bool = False, **options: Any) -> object:
        return donor if pretrained else create(name, **options)

    monkeypatch.setattr(timm, "create_model", given)
    net = network(weights="timm")
    assert torch.equal(inner(net).conv_stem.weight, donor.conv_stem.weight)


def test_a_map_of_tokens_by_hand() -> None:
    patches = torch.arange(12.0).reshape(1, 6, 2)
    assert Tokens(patches, (2, 3), patches[:, :0]).as_map().tolist() == [
        [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9, 11]]]
    ]


@pytest.mark.parametrize("registers", [0, 3])
@pytest.mark.parametrize("size", [(32, 48), (24, 40)])
@torch.no_grad()
def test_the_map_is_timms_own_at_every_size(size: tuple[int, int], registers: int) -> None:
    torch.manual_seed(0)
    net = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0, reg_tokens=registers,
        dynamic_img_size=True,
    ).eval()  # fmt: skip
    given = torch.randn(2, 3, *size)
    features: Any = net.forward_intermediates(given, indices=1, norm=True, output_fmt="NCHW")
    last, (spatial,) = features
    body = TokenBody(net)
    found = body.tokens(given)
    assert found.grid == (size[0] // 8, size[1] // 8)
    torch.testing.assert_close(found.as_map(), spatial)
    torch.testing.assert_close(found.prefix, last[:, : 1 + registers])
    assert torch.equal(body(given), found.as_map())


@torch.no_grad()
def test_an_image_is_filled_up_to_whole_patches() -> None:
    body = token_body(BackboneSettings(name="test_vit"))
    module: Any = body.module.eval()
    given = images(1, 40, 65)
    found = module.tokens(given)
    assert (found.grid, body.stride, body.channels) == ((3, 5), 16, 64)
    filled = torch.zeros(1, 3, 48, 80)
    filled[..., :40, :65] = given
    assert torch.equal(found.patches, module.tokens(filled).patches)
    assert found.prefix.shape == (1, 1, 64)
    config: Any = timm.create_model("test_vit").pretrained_cfg
    assert body.mean == tuple(config["mean"])


@pytest.mark.parametrize("name", ["resnet10t", "test_convnext"])
def test_a_network_without_tokens_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"backbone.name = '{name}'.* Choose a vision transformer"):
        token_body(BackboneSettings(name=name))
