"""Segmentation networks: any size, first weights that are where they should be, groups, files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import save_network
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.segmentation.networks.factory import build_segmenter, load_segmenter, save_segmenter
from tag2mask.segmentation.networks.smp import check_decoder
from tag2mask.segmentation.settings import LIBRARY, NetworkSettings, SegmenterSettings, SegmentTrainSettings
from tag2mask.segmentation.stage import check
from tests.helpers.refused import refused
from tests.segmentation.segment_drawn import build, network

CLASSES = ("cat", "dog", "hen")


@pytest.mark.parametrize("kind", ["fpn", "deeplabv3plus"])
@pytest.mark.parametrize("size", [(1, 1), (33, 70), (64, 64)])
def test_any_size_gives_logits_of_its_size(kind: str, size: tuple[int, int]) -> None:
    net = build(kind).eval()
    with torch.no_grad():
        assert net(torch.randn(2, 3, *size)).shape == (2, 4, *size)
    assert net.n_labels == 4


def test_what_is_missing_is_filled_with_the_mean_colour_on_the_right_and_below() -> None:
    net, images = build("fpn").eval(), torch.randn(1, 3, 40, 50)
    larger = torch.zeros(1, 3, 64, 64)
    larger[..., :40, :50] = images
    with torch.no_grad():
        assert torch.equal(net(images), net(larger)[..., :40, :50])


def test_every_architecture_of_the_library_is_known_to_it_by_this_name() -> None:
    assert set(LIBRARY) == set(smp.MODEL_ARCHITECTURES_MAPPING) - {"upernet"}


def test_the_decoder_is_as_set() -> None:
    net: Any = build("fpn", decoder={"decoder_pyramid_channels": 24, "decoder_segmentation_channels": 32}).net
    assert net.decoder.p5.out_channels == 24
    assert net.segmentation_head[0].in_channels == 32


@pytest.mark.parametrize("kind", ["fpn", "deeplabv2"])
def test_bundled_weights_give_the_features_of_the_same_network_elsewhere(kind: str) -> None:
    own = build_segmenter(network(kind, encoder="efficientnet_lite0", weights="bundled"), 3).eval()
    stride = 8 if kind == "deeplabv2" else None
    other: Any = build_network(BackboneSettings(stride=stride), 3).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        if kind == "deeplabv2":
            found, expected = own.encoder(images), other.features(images)
        else:
            found, expected = own.encoder(images)[-1], other.body.net.forward_intermediates(images)[1][-1]
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected)
    assert (own.mean, own.std, own.initial) == (other.mean, other.std, "imagenet")


def test_statistics_of_pretrained_encoders_stay_and_others_are_learned() -> None:
    for net, stays in (
        (build_segmenter(network("fpn", encoder="efficientnet_lite0", weights="bundled"), 3), True),
        (build("fpn"), False),
        (build("deeplabv2"), True),
    ):
        before = {k: v.clone() for k, v in net.encoder.named_buffers() if "running" in k}
        net.train()
        net.train_outputs(torch.randn(2, 3, 64, 64))
        moved = [not torch.equal(v, before[k]) for k, v in net.encoder.named_buffers() if k in before]
        assert len(moved) > 10
        assert any(moved) != stays


@pytest.mark.parametrize("kind", ["deeplabv3plus", "pspnet"])
def test_one_image_trains_where_decoders_pool_to_one_cell(kind: str) -> None:
    net = build(kind).train()
    (weight, logits), *_ = net.train_outputs(torch.randn(1, 3, 64, 64))
    (weight * logits.square().mean()).backward()  # type: ignore[no-untyped-call]  # torch's own
    assert torch.isfinite(logits).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for part in net.parts() for p in part.parameters())


def groups_of(net: Any, **values: Any) -> list[tuple[set[str], float, float]]:
    """Names of the parameters of each group, with rate and decay."""
    names = {id(p): name for name, p in net.named_parameters()}
    schedule = validate(SegmentTrainSettings, {"lr": 1, "head_lr": 10, "weight_decay": 0.5, **values}, "train")
    return [({names[id(p)] for p in g["params"]}, g["lr"], g["weight_decay"]) for g in net.parameter_groups(schedule)]


def test_groups_are_encoder_and_rest_and_norms_do_not_decay() -> None:
    net = build("fpn")
    groups = groups_of(net)
    assert [(rate, decay) for _, rate, decay in groups] == [(1, 0.5), (1, 0), (10, 0.5), (10, 0)]
    norms = {
        f"{name}.{end}"
        for name, m in net.named_modules()
        if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)
        for end in ("weight", "bias")
    }
    assert groups[1][0] | groups[3][0] == norms
    assert all(name.startswith("net.encoder.") for name in groups[0][0] | groups[1][0])
    assert "net.segmentation_head.0.bias" in groups[2][0]
    assert sum(len(names) for names, *_ in groups) == len(list(net.parameters()))


def test_swins_tables_of_positions_and_norms_do_not_decay() -> None:
    with torch.device("meta"):
        net = build_segmenter(network("upernet", encoder="swin_tiny_patch4_window7_224"), 20)
    decayed = set().union(*(names for names, _, decay in groups_of(net) if decay))
    norms = {f"{name}." for name, m in net.named_modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm2d)}
    assert len(norms) > 30
    assert not any(name.endswith("bias_table") or name.startswith(tuple(norms)) for name in decayed)
    assert sum(name.endswith("bias_table") for name, _ in net.named_parameters()) == 12
    assert "features.model.layers_0.blocks.0.attn.qkv.bias" in decayed


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"kind": "deeplabv4"}, "unknown network 'deeplabv4'; did you mean 'deeplabv"),
        ({"kind": "fpn", "encoder": "resnet101_caffe"}, "encoder = resnet101_caffe is of kind = deeplabv2 only"),
        ({"weights": "a.pth"}, "weights = a.pth: say what the file was trained on, pretrained=imagenet or pret"),
        ({"weights": "none", "pretrained": "coco"}, "pretrained = coco belongs to a weight file; leave it out"),
        ({"drop_path": 1}, "setting 'network.drop_path' = 1"),
        ({"kind": "upernet", "decoder": {"a": 1}}, "decoder = {'a': 1}: that of kind = upernet is as published; leave"),
        (
            {"decoder": {"decoder_pyramid_channels": 10**12}},
            "decoder.decoder_pyramid_channels = 1000000000000: expected",
        ),
        ({"decoder": {"decoder_pyramid_channels": 0}}, "expected numbers from 1 to 65536"),
        ({"kind": "unet", "decoder": {"decoder_channels": [1] * 5000}}, "expected numbers from 1 to 65536, at most 16"),
        ({"encodr": "x"}, "unknown setting 'network.encodr': did you mean 'encoder'"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(NetworkSettings, {"weights": "none", **values}, "network")
    assert text in str(caught.value)


def test_first_weights_must_be_chosen() -> None:
    with pytest.raises(ConfigError, match="missing setting 'network.weights'"):
        validate(NetworkSettings, {}, "network")


def test_first_weights_are_named_and_those_that_saw_masks_are_in_the_ledger() -> None:
    about = {
        ("bundled", None): "imagenet", ("none", None): "none", ("timm", None): "timm",
        ("a.pth", "imagenet"): "imagenet", ("a.pth", "coco"): "coco",
    }  # fmt: skip
    for (weights, pretrained), initial in about.items():
        values = NetworkSettings(weights=weights, pretrained=pretrained)  # type: ignore[arg-type]  # two of its words
        assert values.initial == initial
        assert values.supervision() == ({"pixel-masks:init"} if initial == "coco" else set())


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ({"encoder": "resnet5"}, ConfigError, "network.encoder = 'resnet5': unknown encoder; did you mean 'resnet"),
        (
            {"encoder": "resnet18.nothing"},
            ConfigError,
            "network.encoder = 'resnet18.nothing', encoder 'resnet18.nothing'",
        ),
        ({"encoder": "hf-hub:timm/resnet18"}, ConfigError, "'hf-hub:timm/resnet18': unknown encoder"),
        ({"encoder": "resnet18", "weights": "bundled"}, WeightsError, "there are bundled weights for efficientnet_l"),
        (
            {"kind": "deeplabv2", "encoder": "resnet101_caffe", "weights": "timm"},
            WeightsError,
            "network.weights = 'timm': resnet101_caffe has no weights but its own files. Give one of deeplab-pytorch's",
        ),
        (
            {"kind": "deeplabv2", "encoder": "vit_tiny_patch16_224"},
            ConfigError,
            "network.kind = 'deeplabv2' cannot stand on network.encoder = 'vit_tiny_patch16_224': backbone.name = ",
        ),
        (
            {"kind": "fpn", "encoder": "vit_tiny_patch16_224"},
            ConfigError,
            "network.kind = 'fpn' cannot stand on network.encoder = 'vit_tiny_patch16_224'",
        ),
        (
            {"decoder": {"pyramid_channels": 8}},
            ConfigError,
            "unknown setting of fpn's decoder 'pyramid_channels'; did you mean 'decoder_",
        ),
        (
            {"decoder": {"checkpoint_path": "x"}},  # of timm's, to which the library would hand it on
            ConfigError,
            "unknown setting of fpn's decoder 'checkpoint_path'; did you mean",
        ),
        ({"decoder": {"decoder_merge_policy": "sum"}}, ConfigError, "or leave network.decoder out"),
        ({"weights": "gone.pth", "pretrained": "imagenet"}, WeightsError, "weights 'gone.pth': there is no such file"),
    ],
)
def test_networks_that_cannot_be_had(values: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        build_segmenter(validate(NetworkSettings, {"weights": "none", **values}, "network"), 3)
    assert text in str(caught.value)


def test_a_decoder_that_does_not_run_is_refused_before_anything_is_trained() -> None:
    check_decoder(
        NetworkSettings(weights="none", encoder="test_efficientnet", decoder={"decoder_pyramid_channels": 32})
    )
    wrong = NetworkSettings(weights="none", encoder="test_efficientnet", decoder={"decoder_interpolation": "cubist"})
    with refused(ConfigError, "network.decoder =", "cubist", "decoder of 'fpn'", "lea"):
        check_decoder(wrong)
    with pytest.raises(ConfigError, match="cubist"):
        check(SegmenterSettings(network=wrong, truth=True), set())


def test_no_class_is_refused() -> None:
    with refused(ConfigError, "got 0", "at least one class"):
        build(n_classes=0)


def test_a_file_of_timms_is_loaded_and_one_of_another_network_refused(tmp_path: Path) -> None:
    torch.manual_seed(3)
    other: Any = timm.create_model("test_efficientnet", num_classes=7)
    save_file(other.state_dict(), tmp_path / "own.safetensors")
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "other.safetensors")
    for kind in ("fpn", "deeplabv2"):
        values: dict[str, Any] = {"weights": str(tmp_path / "own.safetensors"), "pretrained": "coco"}
        net = build(kind, **values)
        found = dict(net.encoder.named_parameters())
        stem = next(p for name, p in found.items() if name.endswith("conv_stem.weight"))
        assert torch.equal(stem, other.conv_stem.weight)
        assert net.initial == "coco"
        with pytest.raises(WeightsError, match=r"other.safetensors does not belong to 'test_efficientnet'"):
            build(kind, **{**values, "weights": str(tmp_path / "other.safetensors")})


@pytest.mark.parametrize("kind", ["fpn", "deeplabv2"])
def test_a_saved_network_is_the_same_and_does_not_tell_where_its_first_weights_lay(kind: str, tmp_path: Path) -> None:
    source = tmp_path / "first.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), source)
    net, images = build(kind, weights=str(source), pretrained="imagenet").eval(), torch.randn(1, 3, 30, 41)
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        save_segmenter(net, path, CLASSES)
    source.unlink()
    state = torch.get_rng_state()
    loaded, classes = load_segmenter(paths[0])
    assert torch.equal(torch.get_rng_state(), state)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert os.fsencode(source.name) not in paths[0].read_bytes()
    assert (classes, loaded.training, loaded.initial, loaded.settings.weights) == (CLASSES, False, "imagenet", "none")
    with torch.no_grad():
        assert torch.equal(loaded(images), net(images))


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"there is no such file"):
        load_segmenter(tmp_path / "gone.safetensors")
    tags = build_network(BackboneSettings(name="test_efficientnet", weights="none"), 3)
    save_network(tags, tmp_path / "tags.safetensors", CLASSES)
    with refused(WeightsError, "tags.safetensors", "no segmentation network"):
        load_segmenter(tmp_path / "tags.safetensors")
    save_segmenter(build(n_classes=2), tmp_path / "two.safetensors", CLASSES)
    with refused(WeightsError, "'deeplabv2' on 'test_efficientnet'", "3 classes: 'head"):
        load_segmenter(tmp_path / "two.safetensors")
