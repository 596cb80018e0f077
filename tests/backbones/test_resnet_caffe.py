"""The Caffe-style ResNet-101 of DeepLabV2, and the strict loading of its files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet101

from tag2mask.backbones.official_checkpoints import official_deeplab
from tag2mask.backbones.resnets import CAFFE_MEAN, CAFFE_STD, ResNet101Caffe, caffe_body
from tag2mask.backbones.state_dict import load_strict
from tag2mask.core.errors import WeightsError

NAMES = {
    "layer1.conv1.conv.weight": (64, 3, 7, 7),
    "layer1.conv1.bn.running_var": (64,),
    "layer2.block1.shortcut.conv.weight": (256, 64, 1, 1),
    "layer3.block1.reduce.conv.weight": (128, 256, 1, 1),
    "layer4.block23.conv3x3.bn.bias": (256,),
    "layer5.block3.increase.bn.weight": (2048,),
}
"""Some names and shapes in deeplab-pytorch's files."""


@pytest.fixture(scope="module")
def net() -> ResNet101Caffe:
    """Random weights, drawn cheaply."""
    with torch.device("meta"):
        made = ResNet101Caffe()
    made.to_empty(device="cpu").eval()
    torch.manual_seed(0)
    for name, value in made.state_dict().items():
        if value.dim() == 4:
            value.uniform_(-1, 1).mul_((3 / value[0].numel()) ** 0.5)
        elif "var" in name or name.endswith("weight"):
            value.uniform_(0.3, 0.7)
        elif not name.endswith("tracked"):
            value.uniform_(-0.1, 0.1)
    return made


def other_resnet() -> Any:
    """Torchvision's ResNet-101 with strides, dilations and pooling moved to where Caffe has them."""
    with torch.device("meta"):
        other: Any = resnet101(weights=None)
    other.maxpool.ceil_mode = True
    for layer, stride, dilation in ((other.layer2, 2, 1), (other.layer3, 1, 2), (other.layer4, 1, 4)):
        for number, block in enumerate(layer):
            own = stride if number == 0 else 1
            block.conv1.stride, block.conv2.stride = (own, own), (1, 1)
            block.conv2.dilation = block.conv2.padding = (dilation, dilation)
        layer[0].downsample[0].stride = (stride, stride)
    other.avgpool, other.fc = nn.Identity(), nn.Identity()
    return other.eval()


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under torchvision's names."""
    parts = {"reduce": "1", "conv3x3": "2", "increase": "3"}
    found = {}
    for name, value in state.items():
        words = name.split(".")
        if words[0] == "layer1":
            found[f"{'conv1' if words[2] == 'conv' else 'bn1'}.{words[3]}"] = value
            continue
        place = f"layer{int(words[0][5:]) - 1}.{int(words[1][5:]) - 1}"
        if words[2] == "shortcut":
            found[f"{place}.downsample.{0 if words[3] == 'conv' else 1}.{words[4]}"] = value
        else:
            found[f"{place}.{words[3]}{parts[words[2]]}.{words[4]}"] = value
    return found


@torch.no_grad()
def test_it_is_torchvisions_network_with_caffes_strides_on_blue_green_red(net: ResNet101Caffe) -> None:
    other = other_resnet()
    other.load_state_dict(renamed(net.state_dict()), strict=True, assign=True)
    images = torch.randn(1, 3, 64, 46)
    found = net(images)
    assert found.shape == (1, 2048, 9, 6), "64 / 8 + 1, as pooling rounds up"
    assert found.std() > 0.01
    torch.testing.assert_close(found.flatten(), other(images.flip(1)).flatten(), rtol=1e-4, atol=1e-4)


def test_names_are_those_of_the_files(net: ResNet101Caffe) -> None:
    state = net.state_dict()
    assert {name: tuple(state[name].shape) for name in NAMES} == NAMES
    assert sum(p.numel() for p in net.parameters()) == 42_500_160


def test_batch_norms_never_change_and_convolutions_do(net: ResNet101Caffe) -> None:
    trained = {name for name, p in net.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in net.named_parameters() if name.endswith("conv.weight")}
    assert len(trained) == 104
    before = {name: value.clone() for name, value in net.named_buffers()}
    net.train()
    net(torch.randn(1, 3, 24, 24))
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())


def test_the_normalised_input_is_0_to_255_minus_the_mean() -> None:
    with torch.device("meta"):
        body = caffe_body()
    assert (body.mean, body.std) == (CAFFE_MEAN, CAFFE_STD)
    value = torch.tensor([200.0, 100.0, 50.0])  # R, G, B
    found = (value / 255 - torch.tensor(CAFFE_MEAN)) / torch.tensor(CAFFE_STD)
    torch.testing.assert_close(found, torch.tensor([200 - 122.675, 100 - 116.669, 50 - 104.008]), rtol=0, atol=1e-4)


def file_of(rows: int | None) -> dict[str, Tensor]:
    """A file of few entries with a classifier."""
    head = {} if rows is None else {"fc.weight": torch.zeros(rows, 4), "fc.bias": torch.zeros(rows)}
    return {"layer1.conv1.conv.weight": torch.ones(1), **head}


@pytest.mark.parametrize(("rows", "pretrained"), [(1000, "imagenet"), (91, "coco"), (None, "imagenet"), (None, "coco")])
def test_the_classifier_is_left_out(rows: int | None, pretrained: str) -> None:
    assert list(official_deeplab(file_of(rows), pretrained, "f.pth")) == ["layer1.conv1.conv.weight"]


@pytest.mark.parametrize(("rows", "pretrained", "actual"), [(91, "imagenet", "coco"), (1000, "coco", "imagenet")])
def test_a_classifier_that_contradicts_the_settings_is_refused(rows: int, pretrained: str, actual: str) -> None:
    expected = f"f.pth has a classifier of {rows} labels, so it was trained on {actual}, not on {pretrained}"
    with pytest.raises(WeightsError, match=expected) as caught:
        official_deeplab(file_of(rows), pretrained, "f.pth")
    assert f"set network.pretrained={actual}" in str(caught.value)


def test_a_file_of_a_whole_deeplab_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"f.pth holds a whole DeepLabV2 \('base.aspp.c0.weight'\)"):
        official_deeplab({"base.aspp.c0.weight": torch.ones(1)}, "imagenet", "f.pth")


def test_every_entry_must_be_there_and_none_beside(net: ResNet101Caffe) -> None:
    state = net.state_dict()
    whole = official_deeplab({**state, "fc.weight": torch.zeros(1000, 2)}, "imagenet", "f.pth")
    load_strict(net, whole, "f.pth", "'resnet101_caffe'")
    for wrong, text in (
        ({k: v for k, v in state.items() if k != "layer4.block7.reduce.bn.weight"}, "1 missing, first 'layer4.block7"),
        ({**state, "layer6.x": torch.ones(1)}, "1 unexpected, first 'layer6.x'"),
        (renamed(state), "missing, first 'layer1.conv1.conv.weight'"),
    ):
        with pytest.raises(WeightsError, match=f"f.pth does not belong to 'resnet101_caffe'.*{text}"):
            load_strict(net, official_deeplab(wrong, "imagenet", "f.pth"), "f.pth", "'resnet101_caffe'")
