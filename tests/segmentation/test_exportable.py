"""Stand-ins for layers that cannot be recorded for all sizes give what the layers give."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models.swin_transformer import SwinTransformerBlock
from torch import nn
from torch.nn import functional as F

from tag2mask.segmentation.exportable import AdaptivePool, AnySwinBlock, EvenSame, exportable


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (7, 13), (24, 31), (3, 64)])
@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 3), (6, 6), (2, 5)])
def test_adaptive_pooling_is_torchs(size: tuple[int, int], grid: tuple[int, int]) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = F.adaptive_avg_pool2d(images, grid)
    assert torch.allclose(AdaptivePool(*grid)(images), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (5, 3)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (4, 1)])
def test_same_padding_of_even_sides_is_timms(kernel: tuple[int, int], stride: int, dilation: int) -> None:
    torch.manual_seed(0)
    conv = Conv2dSame(4, 6, kernel, stride=stride, dilation=dilation, groups=2)
    for size in ((8, 12), (16, 4)):
        images = torch.randn(2, 4, *size)
        assert torch.equal(EvenSame(conv)(images), conv(images))


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("size", [(7, 7), (14, 21), (8, 4), (1, 1), (20, 9)])
def test_a_block_of_swin_is_timms_at_any_size(shift: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block: Any = SwinTransformerBlock(
        8, (14, 14), num_heads=2, window_size=7, shift_size=shift, always_partition=True, dynamic_mask=True
    )
    nn.init.normal_(block.attn.relative_position_bias_table)
    block.eval()
    tokens = torch.randn(2, *size, 8)
    assert torch.allclose(AnySwinBlock(block)(tokens), block(tokens), atol=1e-6)


def test_an_exportable_network_is_a_copy_with_the_same_output() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(Conv2dSame(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(3), nn.Dropout(0.5))
    images = torch.rand(2, 3, 16, 24)
    net(images)  # moves the batch norm's statistics
    own = exportable(net, even=True)
    assert [type(m).__name__ for m in own.children()] == ["EvenSame", "BatchNorm2d", "AdaptivePool", "Dropout"]
    assert [type(m).__name__ for m in net.children()] == ["Conv2dSame", "BatchNorm2d", "AdaptiveAvgPool2d", "Dropout"]
    assert net.training
    assert torch.allclose(own(images), net.eval()(images), atol=1e-6)
    assert isinstance(next(exportable(net, even=False).children()), Conv2dSame)


def test_global_pooling_keeps_a_side_that_is_not_named() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d((None, 2)))
    assert isinstance(next(exportable(net, even=True).children()), nn.AdaptiveAvgPool2d)


def test_every_block_of_a_swin_is_replaced_and_its_features_stay() -> None:
    torch.manual_seed(0)
    net: Any = timm.create_model(
        "swin_tiny_patch4_window7_224", features_only=True, strict_img_size=False, always_partition=True,
        embed_dim=8, depths=(1, 2, 1, 1), num_heads=(1, 1, 1, 1),
    )  # fmt: skip
    own = exportable(net, even=True)
    assert sum(isinstance(m, AnySwinBlock) for m in own.modules()) == 5
    images = torch.rand(1, 3, 64, 96)
    for found, expected in zip(own(images), net.eval()(images), strict=True):
        assert torch.allclose(found, expected, atol=1e-6)
