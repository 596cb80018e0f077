"""DeepLabV2 with its wrapper over scales, as published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from tag2mask.backbones.dilated import RATES
from tag2mask.backbones.resnets import ResNet101Caffe
from tag2mask.core.errors import WeightsError
from tag2mask.segmentation.networks.deeplabv2 import DeepLabV2
from tag2mask.segmentation.networks.factory import build_segmenter
from tests.helpers.refused import refused
from tests.segmentation.networks.test_networks import groups_of
from tests.segmentation.segment_drawn import build, network


def published() -> DeepLabV2:
    """DeepLabV2 on ResNet-101 for VOC, without weights."""
    with torch.device("meta"):
        net = build_segmenter(network(encoder="resnet101_caffe"), 20)
    assert isinstance(net, DeepLabV2)
    return net


def test_it_has_as_many_parameters_as_published() -> None:
    assert sum(p.numel() for p in published().parameters()) == 44_048_532


@pytest.mark.parametrize(("side", "expected"), [(321, [41, 21, 31, 41]), (513, [65, 33, 49, 65])])
def test_outputs_have_the_published_sizes(side: int, expected: list[int]) -> None:
    assert published().grids(side, side) == [(n, n) for n in expected]


def test_outputs_are_three_scales_and_their_maximum() -> None:
    """Against the definition, with the logits computed one convolution at a time."""
    net = build().eval()
    for conv in net.head:  # type: ignore[union-attr]  # the four convolutions
        torch.nn.init.normal_(conv.weight, std=0.2)
    images = torch.randn(2, 3, 65, 49)

    def single(size: tuple[int, int]) -> torch.Tensor:
        features = net.encoder(F.interpolate(images, size, mode="bilinear", align_corners=False))
        return torch.stack(
            [
                F.conv2d(features, conv.weight, conv.bias, padding=rate, dilation=rate)
                for rate, conv in zip(RATES, net.head, strict=True)  # type: ignore[arg-type]  # as above
            ]
        ).sum(0)

    with torch.no_grad():
        ones = [single(size) for size in ((65, 49), (32, 24), (48, 36))]
        shape = ones[0].shape[-2:]
        resized = [F.interpolate(o, shape, mode="bilinear", align_corners=False) for o in ones]
        expected = [*ones, torch.stack(resized).amax(0)]
        outputs = net.train_outputs(images)
        assert [weight for weight, _ in outputs] == [1.0] * 4
        for (_, found), one in zip(outputs, expected, strict=True):
            torch.testing.assert_close(found, one, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(net(images), expected[3], rtol=1e-4, atol=1e-4)
    assert net.grids(65, 49) == [tuple(one.shape[-2:]) for one in expected]
    winners = torch.stack(resized).argmax(0)
    assert all((winners == scale).any() for scale in range(3)), "every scale is the maximum somewhere"


@pytest.mark.parametrize("size", [(1, 1), (2, 7)])
def test_smallest_images(size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert build().eval()(torch.randn(1, 3, *size)).shape == (1, 4, 1, 1)


def test_head_begins_small_and_without_bias() -> None:
    net = build(n_classes=40)
    weights = torch.cat([p.flatten() for name, p in net.named_parameters() if name.startswith("head.")])
    biases = [p for name, p in net.named_parameters() if name.startswith("head.") and name.endswith("bias")]
    assert len(biases) == 4
    assert all((bias == 0).all() for bias in biases)
    assert weights[weights != 0].std().item() == pytest.approx(0.01, rel=0.05)


def test_rates_are_one_ten_and_twenty_and_batch_norms_are_in_no_group() -> None:
    groups = groups_of(published())
    assert [(rate, decay) for _, rate, decay in groups] == [(1, 0.5), (10, 0.5), (20, 0)]
    assert (len(groups[0][0]), groups[1][0], groups[2][0]) == (
        104,
        {f"head.{n}.weight" for n in range(4)},
        {f"head.{n}.bias" for n in range(4)},
    )
    assert all(name.endswith("conv.weight") for name in groups[0][0])


def test_on_a_network_of_timms_it_has_stride_8_and_frozen_batch_norms() -> None:
    net = build()
    assert net.grids(64, 64) == [(8, 8), (4, 4), (6, 6), (8, 8)]
    trained = {name for name, p in net.encoder.named_parameters() if p.requires_grad}
    assert trained
    assert not any("bn" in name for name in trained)


def test_a_file_of_deeplab_pytorchs_is_loaded_and_a_wrong_one_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        empty = ResNet101Caffe()
    state = {name: torch.full(value.shape, 0.5) for name, value in empty.state_dict().items()}
    path = tmp_path / "deeplabv1_resnet101-coco.safetensors"
    save_file({**state, "fc.weight": torch.zeros(91, 2)}, path)
    values: dict[str, Any] = {"encoder": "resnet101_caffe", "weights": str(path)}
    net = build(**values, pretrained="coco")
    assert all((p == 0.5).all() for p in net.encoder.parameters())
    assert net.initial == "coco"
    assert net.settings.supervision() == {"pixel-masks:init"}
    with refused(WeightsError, "trained on coco", "not on imagenet"):
        build(**values, pretrained="imagenet")
    del state["layer3.block2.conv3x3.conv.weight"]
    save_file(state, path)
    with refused(WeightsError, "'resnet101_caffe'", "1 missing, first 'layer3.bl"):
        build(**values, pretrained="imagenet")
