"""Transformers give tokens, for images of any size: patches that make up a map, and those of no patch beside it."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.timm_body import TokenBody, Tokens, token_body
from tag2mask.core.errors import ConfigError
from tests.backbones.make import images


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
