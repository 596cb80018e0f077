"""UPerNet on Swin and on a small encoder."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError
from tag2mask.segmentation.networks import upernet
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.networks.factory import build_segmenter
from tag2mask.segmentation.networks.smp import library_network
from tests.segmentation.segment_drawn import build, network

SWIN = "swin_{}_patch4_window7_224"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    """UPerNet on a small encoder, with few channels."""
    monkeypatch.setattr(upernet, "_CHANNELS", 16)
    monkeypatch.setattr(upernet, "_AUXILIARY_CHANNELS", 8)
    return build("upernet")


@pytest.mark.parametrize(
    ("size", "labels", "parameters"), [("tiny", 150, 59_941_862), ("small", 21, 81_160_436), ("base", 21, 121_180_386)]
)
def test_it_has_as_many_parameters_as_published(size: str, labels: int, parameters: int) -> None:
    """60, 81 and 121 million in Swin's table for 150 labels, in which the labels are a few thousand."""
    with torch.device("meta"):
        net = build_segmenter(network("upernet", encoder=SWIN.format(size)), labels - 1)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_swin_has_a_layer_norm_on_each_level_and_the_published_widths() -> None:
    with torch.device("meta"):
        net = build_segmenter(network("upernet", encoder=SWIN.format("tiny"), drop_path=0.3), 20)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert [shapes[f"decoder.feature_norms.{i}.weight"] for i in range(4)] == [(96,), (192,), (384,), (768,)]
    assert shapes["auxiliary.0.weight"] == (256, 384, 3, 3)
    assert shapes["auxiliary.4.weight"] == (21, 256, 1, 1)
    assert shapes["head.1.weight"] == (21, 512, 1, 1)
    rates: list[Any] = [m.drop_prob for m in net.modules() if type(m).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3)


@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
def test_swin_of_any_size_is_the_one_built_for_that_size(size: tuple[int, int]) -> None:
    """Windows are shifted in every second block, also where an image is no larger than a window."""
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "features_only": True,
        "embed_dim": 16,
        "num_heads": (1, 1, 1, 1),
        "depths": (2, 2, 2, 2),
    }
    free = library_network(network("upernet", encoder=SWIN.format("tiny")), SWIN.format("tiny"), 4).encoder.model
    assert all(block.dynamic_mask and block.always_partition for block in blocks(free))
    built = timm.create_model(SWIN.format("tiny"), img_size=size, always_partition=True, **options)
    loose = timm.create_model(SWIN.format("tiny"), strict_img_size=False, always_partition=True, **options)
    loose.load_state_dict(built.state_dict())
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        for found, expected in zip(loose.eval()(images), built.eval()(images), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert [block.shift_size for block in blocks(loose)] == [(0, 0), (3, 3)] * 4


def blocks(net: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in net.modules() if type(m).__name__ == "SwinTransformerBlock"]


@pytest.mark.parametrize("size", [(1, 1), (33, 70)])
def test_outputs_are_the_logits_and_the_auxiliary_heads(small: Segmenter, size: tuple[int, int]) -> None:
    net, images = small.eval(), torch.randn(2, 3, *size)
    with torch.no_grad():
        (one, logits), (weight, second) = net.train_outputs(images)
        assert (one, weight) == (1.0, 0.4)
        assert torch.equal(logits, net(images))
        assert second.shape == logits.shape == (2, 4, *size)
        padded = F.pad(images, (0, -size[1] % 32, 0, -size[0] % 32))
        level = net.encoder(padded)[-2]
        assert level.shape[-1] == padded.shape[-1] // 16
        normed = net.decoder.feature_norms[2](level)  # type: ignore[operator,union-attr,index]  # untyped modules
        expected = F.interpolate(net.auxiliary(normed), padded.shape[-2:], mode="bilinear")  # type: ignore[operator]
        torch.testing.assert_close(second, expected[..., : size[0], : size[1]])
    assert net.grids(*size) == [size, size]


def test_one_image_trains_and_every_parameter_has_a_gradient(small: Segmenter) -> None:
    outputs = small.train().train_outputs(torch.randn(1, 3, 40, 64))
    sum((weight * logits.square().mean() for weight, logits in outputs), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in small.parameters())


def test_an_encoder_without_four_levels_is_refused() -> None:
    with pytest.raises(ConfigError, match="network.kind = 'upernet' cannot stand on network.encoder = 'vit_tiny"):
        build("upernet", encoder="vit_tiny_patch16_224")
