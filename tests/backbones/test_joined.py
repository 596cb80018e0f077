"""Levels of a network joined by a light head, and the pooling of a classifier's cells."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import load_network, save_network
from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.levels import JoinedBody, Level, drop_unused, level_features
from tag2mask.backbones.settings import GAP, BackboneSettings, Pooling, bundled_file
from tag2mask.backbones.tagnet import TagNet, pooled
from tag2mask.backbones.timm_body import TimmBody
from tag2mask.config.settings import key_values, validate
from tag2mask.core.errors import ConfigError
from tag2mask.inference.multiscale import CAMHead, pair_features
from tag2mask.methods.amn.network import build_amn, load_amn, plain_weights, save_amn
from tag2mask.methods.cam.kinds import ClassifierSettings
from tag2mask.methods.irn.network import build_boundary
from tests.backbones.make import images, settings
from tests.helpers.refused import refused
from tests.methods.amn.drawn import settings as amn_settings

LEVELS = (4, 8, 16)
TOP = Pooling(kind="top-k", share=0.2)
FAR: dict[str, Any] = {"levels": LEVELS, "join_channels": 12}


def joined(seed: int = 0, pooling: Pooling = TOP, **values: Any) -> TagNet:
    torch.manual_seed(seed)
    return build_network(settings(**FAR | values), 3, pooling).eval()


def halves(level: Tensor, size: tuple[int, int]) -> Tensor:
    """Means over the cells that lie under each cell of a coarser grid, written out."""
    out = level.new_zeros(*level.shape[:2], *size)
    for y in range(size[0]):
        for x in range(size[1]):
            rows = slice(y * level.shape[2] // size[0], -(-(y + 1) * level.shape[2] // size[0]))
            columns = slice(x * level.shape[3] // size[1], -(-(x + 1) * level.shape[3] // size[1]))
            out[:, :, y, x] = level[:, :, rows, columns].mean((2, 3))
    return out


def stretched(level: Tensor, size: tuple[int, int]) -> Tensor:
    """Linear interpolation at the middles of the cells of a finer grid, axis by axis, written out."""
    for axis, cells in zip((2, 3), size, strict=True):
        old = level.shape[axis]
        at = [min(max((i + 0.5) * old / cells - 0.5, 0), old - 1) for i in range(cells)]
        parts = [
            level.select(axis, int(p)) * (1 - p % 1) + level.select(axis, min(int(p) + 1, old - 1)) * (p % 1)
            for p in at
        ]
        level = torch.stack(parts, axis)
    return level


@torch.no_grad()
def test_features_are_levels_convolved_brought_to_one_grid_added_and_cut_at_0() -> None:
    net, pictures = joined(), images()
    body: Any = net.body
    found = [level.double() for level in level_features(body.trunk, pictures, body.take)]
    assert [tuple(level.shape[2:]) for level in found] == [(17, 25), (9, 13), (5, 7)]
    size = (9, 13)
    ways: tuple[Callable[[Tensor, tuple[int, int]], Tensor], ...] = (halves, lambda level, _size: level, stretched)
    total = torch.zeros(2, 12, *size, dtype=torch.float64)
    for level, join, way in zip(found, body.joins, ways, strict=True):
        weight, bias = join.weight[:, :, 0, 0].double(), join.bias.double()
        total += torch.einsum("dc,nchw->ndhw", weight, way(level, size)) + bias[:, None, None]
    torch.testing.assert_close(net.features(pictures).double(), total.clamp(min=0), rtol=1e-4, atol=1e-5)
    assert net.stride == 8


@torch.no_grad()
def test_levels_stand_side_by_side_each_of_unit_length() -> None:
    """On the grid of the joined features, each divided by its own length and the root of their number."""
    net, pictures = joined(), images()
    body: Any = net.body
    found = level_features(body.trunk, pictures, body.take)
    ways: tuple[Callable[[Tensor, tuple[int, int]], Tensor], ...] = (halves, lambda level, _size: level, stretched)
    units = []
    for level, way in zip(found, ways, strict=True):
        brought = way(level.double(), (9, 13))
        units.append(brought / brought.square().sum(1, keepdim=True).sqrt() / 3**0.5)
    levels, cells = net.levels(pictures)
    assert torch.equal(net.levels_alone(pictures), levels)
    torch.testing.assert_close(levels.double(), torch.cat(units, 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(levels.square().sum(1), torch.ones(2, 9, 13))
    assert torch.equal(cells, net.head(net.features(pictures)))
    ready = for_inference(copy.deepcopy(net), torch.device("cpu"))
    torch.testing.assert_close(ready.levels(pictures)[0], levels, rtol=1e-3, atol=1e-4)


def test_a_network_without_joined_levels_has_none_to_show() -> None:
    torch.manual_seed(0)
    net = build_network(settings(), 3)
    with refused(ConfigError, "features = levels", "backbone.levels", "features=last"):
        net.levels(images())


@pytest.mark.parametrize(
    ("name", "levels", "stride", "size"),
    [
        ("efficientnet_lite0", (8, 16, 32), 8, (9, 13)),
        ("resnet18", (4, 8), 4, (17, 25)),
        ("convnext_atto", (8, 32), 32, (2, 3)),
        ("resnet50_irn", (4, 16), 4, (17, 25)),
        ("regnetx_002", (2, 16), 16, (5, 7)),
    ],
)
@torch.no_grad()
def test_any_network_joins_its_levels(name: str, levels: tuple[int, ...], stride: int, size: tuple[int, int]) -> None:
    net = joined(name=name, levels=levels, join_stride=stride)
    features = net.features(images())
    assert features.shape == (2, 12, *size)
    assert features.min() >= 0
    assert features.std() > 0
    assert net.features(images(1, 3, 2)).shape[:2] == (1, 12)  # smaller than the stride


@torch.no_grad()
def test_bundled_weights_load_and_levels_are_those_that_timm_gives() -> None:
    net = joined(name="efficientnet_lite0", weights="bundled")
    body: Any = net.body
    plain: Any = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(1, 2, 3))
    known = list(torch.load(bundled_file(), weights_only=True).values())
    assert torch.equal(body.trunk.net.conv_stem.weight, known[0])
    lacking = plain.load_state_dict(body.trunk.net.state_dict(), strict=False).missing_keys
    assert {name.split(".")[0] + name.split(".")[1] for name in lacking} == {"blocks5", "blocks6"}  # stride 32
    picture = images(1, 64, 96)
    for ours, theirs in zip(level_features(body.trunk, picture, body.take), plain.eval()(picture), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)  # other memory formats


def test_what_no_level_needs_is_left_out_and_every_weight_left_is_trained() -> None:
    net = joined().train()
    whole = build_network(settings(stride=None), 3)
    assert sum(p.numel() for p in net.body.parameters()) < sum(p.numel() for p in whole.body.parameters())
    net(images(4)).logsumexp(1).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    slow, fast = net.backbone_parameters(), net.head_parameters()
    assert sorted(map(id, slow + fast)) == sorted(id(p) for p in net.parameters())
    joins = [p for name, p in net.body.named_parameters() if name.startswith("joins.")]
    assert len(joins) == 6
    assert {id(p) for p in joins} <= {id(p) for p in fast}


class Reader(nn.Module):
    """A network that reads the weights of a module that it does not run, and has one that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.spare = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward_intermediates(self, images: Tensor, **_options: Any) -> list[Tensor]:
        return [nn.functional.conv2d(images, self.read.weight, self.read.bias, stride=8)]


def test_weights_that_are_read_past_their_module_stay_and_idle_ones_are_not_trained() -> None:
    body = JoinedBody(TimmBody(Reader()), [Level(4, 8)], [0], 8, 5)
    before = body(images())
    drop_unused(body)
    assert torch.equal(body(images()), before)
    assert [name for name, p in body.named_parameters() if not p.requires_grad] == [
        "trunk.net.spare.weight", "trunk.net.spare.bias",
    ]  # fmt: skip


def test_a_saved_network_gives_the_same_scores_and_pooling_again(tmp_path: Path) -> None:
    net = joined(weights="none")
    save_network(net, tmp_path / "w.safetensors", ("a", "b", "c"))
    again, _ = load_network(tmp_path / "w.safetensors")
    assert again.settings == net.settings
    assert again.pooling == TOP
    with torch.no_grad():
        assert torch.equal(again(images()), net(images()))
        assert not torch.equal(again(images()), again.head(again.features(images()).mean((2, 3), True)).flatten(1))


@torch.no_grad()
def test_maps_are_the_same_with_folded_norms_and_near_in_bfloat16() -> None:
    net = joined()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    picture = images(1)[0]
    ready = for_inference(copy.deepcopy(net), torch.device("cpu"))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    exact = next(pair_features(net.features, [picture]))
    torch.testing.assert_close(next(pair_features(ready.features, [picture])), exact, rtol=1e-4, atol=1e-5)
    rough = next(pair_features(ready.features, [picture], bfloat16=True))
    assert rough.dtype == torch.bfloat16
    assert float((rough.float() - exact).abs().max()) < 0.05 * float(exact.max())
    assert CAMHead(net.class_weights())(exact, torch.tensor([1])).shape == (1, 9, 13)


def test_scores_of_cells_are_pooled_as_written_by_hand() -> None:
    cells = torch.tensor([4.0, -1, 2, 0, 1, -3, 0, 0, 0, -2]).reshape(1, 1, 2, 5)
    assert float(pooled(cells, Pooling(kind="top-k", share=0.2))) == 3  # of ten cells the two highest
    assert float(pooled(cells, Pooling(kind="top-k", share=0.01))) == 4  # one at least
    assert float(pooled(cells, Pooling(kind="top-k", share=1))) == pytest.approx(0.1)
    by_hand = math.log(sum(math.exp(2 * v) for v in cells.flatten().tolist()) / 10) / 2
    assert float(pooled(cells, Pooling(kind="lse", sharpness=2))) == pytest.approx(by_hand)
    assert float(pooled(cells, Pooling(kind="lse", sharpness=0.001))) == pytest.approx(0.1, abs=0.01)
    assert float(pooled(cells, Pooling(kind="lse", sharpness=100))) == pytest.approx(4, abs=0.03)


@pytest.mark.parametrize("pooling", [TOP, Pooling(kind="lse"), GAP])
@torch.no_grad()
def test_an_images_score_is_its_pooled_class_map_bias_and_all(pooling: Pooling) -> None:
    net = joined(pooling=pooling)
    assert net.head.bias is not None
    net.head.bias += torch.tensor([1.0, -2, 0.5])
    features = net.features(images())
    cells = torch.einsum("cd,ndhw->nchw", net.class_weights(), features) + net.class_bias()[:, None, None]
    torch.testing.assert_close(net(images()), pooled(cells, pooling), rtol=1e-4, atol=1e-5)


def test_a_network_as_published_has_no_bias_and_nothing_new_in_its_settings() -> None:
    net = build_network(settings(), 3)
    assert net.head.bias is None
    assert net.class_bias().tolist() == [0, 0, 0]
    new = {"levels", "join_stride", "join_channels", "pooling"}
    own = ClassifierSettings()
    for values in (own.model_dump(), own.model_dump()["backbone"], key_values(own), key_values(own)["backbone"]):
        assert not new & set(values)


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"levels": [4, 8, 64]}, "levels = [4, 8, 64] … 64 … 2, 4, 8, 16, 32"),
        ({"levels": [8, 4]}, "levels = [8, 4] … ascending"),
        ({"levels": [8, 8]}, "levels = [8, 8] … once"),
        ({"levels": [4, 16]}, "join_stride = 8 … [4, 16]"),
        ({"levels": [8, 16], "join_stride": 4}, "join_stride = 4 … [8, 16]"),
        ({"levels": [8, 16], "stride": 16}, "stride = 16 … stride=null"),
        ({"join_stride": 4}, "join_stride = 4 … levels=[4,8,16]"),
        ({"levels": []}, "levels"),
        ({"levels": [4, 8], "name": "vit_tiny_patch16_224"}, "vit_tiny_patch16_224"),
    ],
)
def test_levels_that_cannot_be_are_refused(values: dict[str, Any], parts: str) -> None:
    with refused(ConfigError, parts):
        build_network(settings(**values), 3)


@pytest.mark.parametrize(
    ("given", "part"),
    [({"kind": "max"}, "kind"), ({"kind": "top-k", "share": 0}, "share"), ({"kind": "lse", "sharpness": -1}, "sharp")],
)
def test_poolings_that_cannot_be_are_refused(given: dict[str, Any], part: str) -> None:
    with refused(ConfigError, f"pooling.{part}"):
        validate(ClassifierSettings, {"pooling": given}, "classifier")
    assert validate(ClassifierSettings, {"pooling": "top-k"}, "classifier").pooling == Pooling(kind="top-k")


def test_the_boundary_network_takes_no_joined_levels() -> None:
    with refused(ConfigError, "levels = [4, 8, 16]", "irn"):
        build_boundary(settings(**FAR))


def test_amn_conditions_joined_features_and_the_stages_below_them(tmp_path: Path) -> None:
    backbone = settings(**FAR).model_dump()
    torch.manual_seed(0)
    net = build_amn(amn_settings(backbone=backbone, condition=[2, 4]), 3).eval()
    assert net.grid(65, 97) == (9, 13)
    assert {len(p) for p in net.codes["4"].parameters()} == {12}
    joins = {id(p) for name, p in net.body.named_parameters() if name.startswith("joins.")}
    assert joins <= {id(p) for p in net.head_parameters()}
    assert not joins & {id(p) for p in net.backbone_parameters()}
    tags = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    save_amn(net, tmp_path / "a.safetensors", ("a", "b", "c"))
    again, _ = load_amn(tmp_path / "a.safetensors")
    with torch.no_grad():
        assert torch.equal(again(images(), tags), net(images(), tags))
        assert not torch.equal(net(images(), tags)[0], net(images(), tags.flip(0))[0])
    last = build_amn(amn_settings(backbone=backbone), 3)
    assert plain_weights(last).shape == (3, 12)


def test_amn_refuses_a_stage_that_no_joined_level_needs() -> None:
    with refused(ConfigError, "stage 3", "condition=[4]"):
        build_amn(amn_settings(backbone=settings(levels=[8]).model_dump(), condition=[3, 4]), 3)


def test_settings_of_a_file_are_those_of_the_network() -> None:
    assert BackboneSettings(levels=(4, 8)).model_dump()["levels"] == (4, 8)
