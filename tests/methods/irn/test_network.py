"""The boundary network: its levels, its sizes, its gradients, its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.backbones.files import save_network
from tag2mask.backbones.levels import level_features, levels_of
from tag2mask.backbones.official_checkpoints import official_boundary
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.methods.irn.network import (
    BoundaryNet,
    boundary_map,
    build_boundary,
    load_boundary,
    load_official,
    save_boundary,
)
from tests.backbones.make import images, inner, network, settings
from tests.helpers.refused import refused

State = dict[str, Tensor]
IRN = "resnet50_irn"


def boundary(seed: int = 0, **values: Any) -> BoundaryNet:
    """A boundary network in evaluation mode whose random weights come from a seed."""
    torch.manual_seed(seed)
    return build_boundary(settings(**values)).eval()


@pytest.fixture(scope="module")
def irn() -> BoundaryNet:
    """The published network with random weights, batch-norm statistics and group norms."""
    net = boundary(name=IRN)
    for name, tensor in net.state_dict().items():
        if "running" in name:
            tensor.uniform_(0.5, 1.5)
        elif name.startswith("norms."):
            tensor.uniform_(-1, 2)
    return net


@pytest.fixture(scope="module")
def official(irn: BoundaryNet) -> State:
    """A checkpoint as IRN writes it: each tensor under two or three names, a displacement branch, buffers."""
    own = irn.state_dict()
    body = {k.removeprefix("body."): v for k, v in own.items() if k.startswith("body.")}
    branch = {f"fc_edge{n + 1}.0.weight": own[f"reduce.{n}.weight"] for n in range(5)}
    branch |= {f"fc_edge{n + 1}.1.{k}": own[f"norms.{n}.{k}"] for n in range(5) for k in ("weight", "bias")}
    branch |= {f"fc_edge6.{k}": own[f"join.{k}"] for k in ("weight", "bias")}
    moved = {"fc_dp1.0.weight": torch.randn(64, 64, 1, 1), "fc_dp7.3.weight": torch.randn(2, 256, 1, 1)}
    moved["fc_dp7.4.running_mean"] = torch.randn(2)
    state = {f"resnet50.{k}": v for k, v in body.items()}
    stages = {"conv1": "0.0", "bn1": "0.1", "layer1": "1.0", "layer2": "2.0", "layer3": "3.0", "layer4": "4.0"}
    places = {k: f"{stages[k.partition('.')[0]]}.{k.partition('.')[2]}" for k in body}
    state |= {f"stage{int(place[0]) + 1}{place[1:]}": body[k] for k, place in places.items()}
    state |= branch | moved
    state |= {f"backbone.{place}": body[k] for k, place in places.items()}
    state |= {f"edge_layers.{int(k[7]) - 1}{k[8:]}": v for k, v in branch.items()}
    state |= {f"dp_layers.{int(k[5]) - 1}{k[6:]}": v for k, v in moved.items()}
    buffers = {"path_indices0": torch.zeros(4, 2, dtype=torch.int64), "disp_target": torch.zeros(1, 2, 152, 1)}
    return state | buffers | {"mean_shift.running_mean": torch.zeros(2)}


def published(net: BoundaryNet, image: Tensor) -> Tensor:
    """IRN's branch in plain steps: upsampling by factors, then cropping to the size of the second level."""
    levels = level_features(net.body, image)
    parts = []
    for level, factor, reduce, norm in zip(levels, (1, 1, 2, 4, 4), net.reduce, net.norms, strict=True):
        assert isinstance(reduce, nn.Conv2d)
        assert isinstance(norm, nn.GroupNorm)
        x = F.group_norm(F.conv2d(level, reduce.weight), 4, norm.weight, norm.bias)
        x = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False).clamp(min=0)
        parts.append(x[..., : levels[1].shape[2], : levels[1].shape[3]])
    return F.conv2d(torch.cat(parts, 1), net.join.weight, net.join.bias)


def test_levels_of_the_published_network_have_the_published_sizes(irn: BoundaryNet) -> None:
    for (height, width), expected in {
        (321, 281): [(81, 71), (81, 71), (41, 36), (21, 18), (21, 18)],
        (97, 65): [(25, 17), (25, 17), (13, 9), (7, 5), (7, 5)],
    }.items():
        levels = level_features(irn.body, images(1, height, width))
        assert [tuple(level.shape[2:]) for level in levels] == expected
        assert [level.shape[1] for level in levels] == [64, 256, 512, 1024, 2048]
    assert sum(p.numel() for p in irn.branch_parameters()) == 32 * (64 + 256 + 512 + 1024 + 2048) + 5 * 64 + 161


@pytest.mark.parametrize("stride", [None, 8])
def test_levels_are_timms_own(stride: int | None) -> None:
    net = network(stride=stride).eval()
    options: dict[str, Any] = {} if stride is None else {"output_stride": stride}
    theirs: Any = timm.create_model("test_efficientnet", features_only=True, **options).eval()
    theirs.load_state_dict(inner(net).state_dict(), strict=False)
    with torch.no_grad():
        expected, found = theirs(images()), level_features(net.body, images())
    forms = levels_of(net.body, net.settings.name)
    assert tuple(form.channels for form in forms) == tuple(theirs.feature_info.channels()) == (16, 24, 32, 48, 64)
    assert tuple(form.stride for form in forms) == tuple(theirs.feature_info.reduction())
    assert len(found) == len(expected)
    for ours, other in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, other)


def test_logits_are_the_published_branchs(irn: BoundaryNet) -> None:
    image = images(2, 64, 96)
    torch.testing.assert_close(irn(image), published(irn, image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(97, 65), (64, 64), (1, 50), (50, 1), (5, 3), (700, 36)], ids=str)
def test_any_size_gives_the_stride_4_grid(size: tuple[int, int]) -> None:
    logits = boundary()(images(1, *size))
    assert logits.shape == (1, 1, -(-size[0] // 4), -(-size[1] // 4))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(("values", "multiple"), [({"name": IRN}, 16), ({}, 32), ({"stride": 8}, 16)], ids=str)
def test_sides_are_filled_with_the_mean_colour_to_whole_cells(values: dict[str, Any], multiple: int) -> None:
    net, image = boundary(**values), images(1, 40, 71)
    assert net.multiple == multiple
    height, width = (-(-side // multiple) * multiple for side in (40, 71))
    filled = torch.zeros(1, 3, height, width)
    filled[..., :40, :71] = image
    torch.testing.assert_close(net(image), net(filled)[..., :10, :18])


PADDED = [(97, 65), (40, 71), (33, 50), (5, 3), (1, 50), (64, 96)]


@pytest.mark.parametrize("size", PADDED, ids=str)
def test_without_padding_the_logits_are_the_published_of_the_bare_image(
    irn: BoundaryNet, size: tuple[int, int]
) -> None:
    """As LPCAM and AMN's branch for COCO do: enlarged by factors, then cut, whatever the size."""
    image = images(1, *size)
    with torch.no_grad():
        torch.testing.assert_close(irn(image, "none"), published(irn, image), rtol=1e-4, atol=1e-5)


def test_padding_to_512_fills_both_sides_and_changes_every_cell() -> None:
    net, image = boundary(), images(1, 97, 65)
    filled = torch.zeros(1, 3, 512, 512)
    filled[..., :97, :65] = image
    with torch.no_grad():
        found, expected = net(image, 512), net(filled, "none")[..., :25, :17]
        others = [net(image, "cells"), net(image, "none")]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert all((found - other).abs().mean() > 1e-3 for other in others), "group norm averages over the padding"


@pytest.mark.parametrize("values", [{}, {"stride": 8}], ids=str)
def test_no_padding_keeps_cells_of_any_network_in_place(values: dict[str, Any]) -> None:
    """A looped reference, levels finer than the grid included: the middle of each cell, read from each level."""
    net, image = boundary(**values), images(1, 41, 71)
    with torch.no_grad():
        found, parts = net(image, "none")[0, 0], []
        for level, stride, reduce, norm in zip(
            level_features(net.body, image), net.strides, net.reduce, net.norms, strict=True
        ):
            plane, part = norm(reduce(level))[0], torch.zeros(32, 11, 18)
            for i in range(11):
                for j in range(18):
                    y, x = ((n + 0.5) * 4 / stride - 0.5 for n in (i, j))
                    y, x = min(max(y, 0.0), plane.shape[1] - 1), min(max(x, 0.0), plane.shape[2] - 1)
                    top, left = int(y), int(x)
                    below, right = min(top + 1, plane.shape[1] - 1), min(left + 1, plane.shape[2] - 1)
                    rows = plane[:, [top, below]] * torch.tensor([1 - (y - top), y - top])[:, None]
                    part[:, i, j] = rows.sum(1)[:, left] * (1 - (x - left)) + rows.sum(1)[:, right] * (x - left)
            parts.append(part.relu())
        expected = net.join(torch.cat(parts)[None])[0, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(513, 40), (40, 600), (512, 512), (700, 36)], ids=str)
def test_nothing_is_cut_and_larger_images_are_padded_to_cells(size: tuple[int, int]) -> None:
    net, image = boundary(), images(1, *size)
    with torch.no_grad():
        found = net(image, 512)
        assert found.shape == (1, 1, -(-size[0] // 4), -(-size[1] // 4))
        torch.testing.assert_close(found, net(image, "cells"))
        assert net(image, "none").shape == found.shape


def test_gradients_reach_the_branch_alone() -> None:
    net = boundary().train()
    net(images()).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.branch_parameters())
    assert all(p.grad is None and not p.requires_grad for p in net.body.parameters())
    trained = {id(p) for p in net.branch_parameters()}
    assert trained == {id(p) for p in net.parameters() if p.requires_grad}


def test_the_backbone_stays_in_evaluation_mode() -> None:
    net = boundary()
    assert net.train() is net
    assert net.norms.training
    assert not any(m.training for m in net.body.modules())
    before = {k: v.clone() for k, v in net.body.state_dict().items()}
    with torch.no_grad():
        assert torch.equal(net(images()), net.eval()(images()))
    assert all(torch.equal(v, before[k]) for k, v in net.body.state_dict().items())


@pytest.mark.parametrize("width", [64, 71, 50])
def test_mirrored_image_gives_the_mirrored_boundary_map(width: int) -> None:
    net, (image,) = boundary(), images(1, 45, width)
    with torch.no_grad():
        there, back = boundary_map(net, image), boundary_map(net, image.flip(-1))
        alone = boundary_map(net, image, mirror=False)
        logits = [net(view[None])[0, 0] for view in (image, image.flip(-1))]
    assert there.shape == (12, -(-width // 4))
    torch.testing.assert_close(back, there.flip(-1))
    torch.testing.assert_close(there, torch.sigmoid((logits[0] + logits[1].flip(-1)) / 2))
    torch.testing.assert_close(alone, torch.sigmoid(logits[0]))
    assert (alone - there).abs().max() > 1e-4
    assert 0 <= there.min() <= there.max() <= 1


def test_official_checkpoint_loads(tmp_path: Path, irn: BoundaryNet, official: State) -> None:
    torch.save(official, tmp_path / "res50_irn.pth")
    net = load_official(tmp_path / "res50_irn.pth", settings(name=IRN, weights="no/such/file.pth"))
    assert not net.training
    own, expected = net.state_dict(), irn.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[k], v) for k, v in expected.items())


def test_aliases_may_be_absent(official: State) -> None:
    plain = {k: v for k, v in official.items() if k.startswith(("resnet50.", "fc_"))}
    both, one = official_boundary(official, "F"), official_boundary(plain, "F")
    assert both.keys() == one.keys()
    assert all(both[k] is one[k] for k in one)
    assert len(plain) < len(official) / 2


@pytest.mark.parametrize(
    ("alias", "first"),
    [
        ("stage1.1.weight", "resnet50.bn1.weight"),
        ("stage3.0.0.conv1.weight", "resnet50.layer2.0.conv1.weight"),
        ("backbone.0.0.weight", "resnet50.conv1.weight"),
        ("backbone.4.0.2.bn3.running_mean", "resnet50.layer4.2.bn3.running_mean"),
        ("edge_layers.2.1.bias", "fc_edge3.1.bias"),
        ("edge_layers.5.bias", "fc_edge6.bias"),
        ("dp_layers.6.3.weight", "fc_dp7.3.weight"),
    ],
)
def test_alias_that_differs_is_refused(official: State, alias: str, first: str) -> None:
    state = {**official, alias: official[alias] + 1}
    with refused(WeightsError, "F contradicts itself", f"'{alias}' and '{first}'"):
        official_boundary(state, "F")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"classifier.weight": torch.zeros(20, 2048, 1, 1)}, "1 unexpected, first 'classifier.weight'"),
        ({"fc_edge7.0.weight": torch.zeros(1)}, "1 unexpected, first 'fc_edge7.0.weight'"),
        ({"edge_layers.x.weight": torch.zeros(1)}, "1 unexpected, first 'edge_layers.x.weight'"),
        ({"fc_edge3.0.weight": None, "edge_layers.2.0.weight": None}, "1 missing, first 'reduce.2.weight'"),
        (
            {"fc_edge6.bias": torch.zeros(2), "edge_layers.5.bias": torch.zeros(2)},
            "'join.bias' is (2,), expected (1,)",
        ),
    ],
)
def test_other_checkpoints_are_refused(
    tmp_path: Path, official: State, change: dict[str, Tensor | None], text: str
) -> None:
    state = {k: v for k, v in {**official, **change}.items() if v is not None}
    torch.save(state, tmp_path / "other.pth")
    with refused(WeightsError, "other.pth", "does not belong", f"'{IRN}'", text):
        load_official(tmp_path / "other.pth", settings(name=IRN))


def test_checkpoint_that_is_not_there_says_what_was_expected(tmp_path: Path) -> None:
    with refused(WeightsError, "'checkpoint' =", "no.pth: there is no such file", "IRN's res50_irn.pth", "Leave check"):
        load_official(tmp_path / "no.pth", settings(name=IRN))


@pytest.mark.parametrize("values", [{}, {"stride": 8}, {"name": "test_convnext"}], ids=str)
def test_saved_and_loaded_gives_the_same_logits_and_bytes(tmp_path: Path, values: dict[str, Any]) -> None:
    net = boundary(3, **values)
    save_boundary(net, tmp_path / "a.safetensors")
    before = torch.get_rng_state()
    found = load_boundary(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert not found.training
    assert torch.equal(found(images()), net(images()))
    save_boundary(found, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert load_file(tmp_path / "a.safetensors").keys() == net.state_dict().keys()


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    save_network(network(), tmp_path / "classifier.safetensors", ["a", "b", "c"])
    with refused(WeightsError, "classifier.safetensors", "no boundary network"):
        load_boundary(tmp_path / "classifier.safetensors")
    with pytest.raises(WeightsError, match="no.safetensors: there is no such file"):
        load_boundary(tmp_path / "no.safetensors")


def test_weights_of_a_classifier_may_be_the_backbones(tmp_path: Path, official: State) -> None:
    """An official classifier's file loads; its head of 20 classes is not needed, but checked."""
    state = {k: v for k, v in official.items() if k.startswith("resnet50.")}
    torch.save({**state, "classifier.weight": torch.zeros(20, 2048, 1, 1)}, tmp_path / "res50_cam.pth")
    values = settings(name=IRN, weights=str(tmp_path / "res50_cam.pth"))
    net = build_boundary(values, 20)
    assert torch.equal(net.body.state_dict()["conv1.weight"], official["resnet50.conv1.weight"])
    with pytest.raises(WeightsError, match="res50_cam.pth has 20 classes, the data has 3"):
        build_boundary(values, 3)


def test_network_without_levels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(EfficientNet, "forward_intermediates")
    with refused(ConfigError, "'test_efficientnet'", "timm", "last features"):
        boundary()


def test_bundled_weights_are_the_imagenet_ones() -> None:
    net = boundary(name="efficientnet_lite0", weights="bundled")
    classifier = network(name="efficientnet_lite0", weights="bundled")
    own, theirs = net.body.state_dict(), classifier.body.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(v, theirs[k]) for k, v in own.items())
    assert (net.mean, net.multiple, len(net.reduce)) == (classifier.mean, 32, 5)
