"""AMN's network: conditioning, head, dropout, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tag2mask.backbones.files import load_network, save_network
from tag2mask.backbones.levels import stage_places
from tag2mask.backbones.official_checkpoints import official_amn
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.methods.amn.network import BackboneAmn, build_amn, load_amn, load_official, plain_weights, save_amn
from tag2mask.methods.amn.settings import AmnSettings
from tests.backbones.make import images, network
from tests.helpers.refused import lacking, refused
from tests.methods.amn.drawn import settings

State = dict[str, Tensor]
IRN = {"name": "resnet50_irn", "weights": "none"}
TAGS = torch.tensor([[1.0, 0, 1], [0, 1, 0]])


def amn(n_classes: int = 3, seed: int = 0, **values: Any) -> BackboneAmn:
    """AMN in evaluation mode whose random weights come from a seed."""
    torch.manual_seed(seed)
    return build_amn(settings(**values), n_classes).eval()


def codes(net: BackboneAmn) -> list[nn.Linear]:
    return [code for code in net.codes.values() if isinstance(code, nn.Linear)]


@pytest.mark.parametrize("n_classes", [1, 3, 80])
def test_logits_of_any_number_of_classes_lie_on_the_feature_grid(n_classes: int) -> None:
    net, tags = amn(n_classes), torch.eye(n_classes)[:1].repeat(2, 1)
    with torch.no_grad():
        logits = net(images(2, 65, 97), tags)
    assert net.n_classes == n_classes
    assert logits.shape == (2, n_classes + 1, 9, 13)
    assert net.grid(65, 97) == (9, 13)
    assert torch.isfinite(logits).all()


def test_logits_are_eq_2_written_out() -> None:
    net, pictures = amn(), images()
    (code,) = codes(net)
    with torch.no_grad():
        features = net.body(pictures) * (TAGS @ code.weight.T + code.bias)[:, :, None, None]
        parts = [
            nn.functional.conv2d(features, conv.weight, conv.bias, padding=rate, dilation=rate)
            for conv, rate in zip(net.head.dilated(), (6, 12, 18, 24), strict=True)
        ]
        torch.testing.assert_close(net(pictures, TAGS), sum(parts), rtol=1e-4, atol=1e-5)


def test_head_begins_as_published() -> None:
    net = amn(20, backbone=IRN)
    for conv in net.head.dilated():
        assert (conv.in_channels, conv.out_channels, conv.kernel_size) == (2048, 21, (3, 3))
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.01)
        assert conv.weight.mean().abs() < 1e-4
        assert conv.bias is not None
        assert not conv.bias.any()
    assert net.codes["4"].weight.shape == (2048, 20)


def test_without_conditioning_the_tags_change_nothing() -> None:
    net, pictures = amn(condition=[]), images()
    assert not list(net.codes)
    with torch.no_grad():
        assert torch.equal(net(pictures, TAGS), net(pictures, 1 - TAGS))


def stages_of(net: BackboneAmn, tags: Tensor) -> list[Tensor]:
    """What the next part of the network sees after each of the four stages."""
    seen: dict[str, Tensor] = {}
    names = [place.module for place in stage_places(network(stride=8), (1, 2, 3))]
    followers = {"net.blocks.2": names[0], "net.blocks.3": names[1], "net.blocks.4": names[2]}
    handles = [
        net.body.get_submodule(follower).register_forward_pre_hook(
            lambda _module, inputs, name=name: seen.update({name: inputs[0]})
        )
        for follower, name in followers.items()
    ]
    with torch.no_grad():
        last = net.features(images(), tags)
    for handle in handles:
        handle.remove()
    return [*(seen[name] for name in names), last]


@pytest.mark.parametrize("condition", [[1], [2], [3], [4], [3, 4], [2, 3, 4], [2, 3]])
def test_conditioning_changes_features_from_its_first_stage_on(condition: list[int]) -> None:
    """Table 2's places. With the code of all ones the network is the plain one."""
    net = amn(condition=condition)
    assert sorted(net.codes) == [str(stage) for stage in condition]
    told, otherwise = stages_of(net, TAGS), stages_of(net, 1 - TAGS)
    changed = [not torch.equal(a, b) for a, b in zip(told, otherwise, strict=True)]
    assert changed == [stage >= condition[0] for stage in (1, 2, 3, 4)]
    plain = stages_of(amn(condition=[]), TAGS)
    for code in codes(net):
        nn.init.zeros_(code.weight)
        nn.init.ones_(code.bias)
    net.body.load_state_dict(amn(condition=[]).body.state_dict())
    for a, b in zip(stages_of(net, TAGS), plain, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("condition", [[1], [2, 3], [2, 3, 4]])
def test_each_code_multiplies_its_own_stage(condition: list[int]) -> None:
    """A code of zeros for the second image, ones for the first: its features vanish there."""
    net = amn(condition=condition)
    for code in codes(net):
        with torch.no_grad():
            code.weight.zero_()
            code.bias.zero_()
            code.weight[:, 0] = 1
    after = stages_of(net, TAGS)
    for stage in condition:
        assert after[stage - 1][0].any()
        assert not after[stage - 1][1].any()
    assert not net.body.get_submodule("net.blocks.1")._forward_hooks


def test_stages_are_those_listed_for_each_network() -> None:
    found = {
        name: [(p.module, p.channels) for p in stage_places(network(name=name), (1, 2, 3))]
        for name in ("resnet50_irn", "efficientnet_lite0", "resnet50")
    }
    resnet = [("layer1", 256), ("layer2", 512), ("layer3", 1024)]
    assert found["resnet50_irn"] == resnet
    assert found["resnet50"] == [(f"net.{name}", channels) for name, channels in resnet]
    assert found["efficientnet_lite0"] == [("net.blocks.1", 24), ("net.blocks.2", 40), ("net.blocks.4", 112)]


def test_network_without_stages_is_refused_but_for_the_last() -> None:
    assert amn(backbone={"name": "test_mambaout", "weights": "none", "stride": None}, condition=[4]).codes
    with pytest.raises(ConfigError) as caught:
        amn(backbone={"name": "test_mambaout", "weights": "none", "stride": None}, condition=[1])
    assert not lacking(
        caught.value, "backbone.name = 'test_mambaout' … its stage 1 … (condition=[4]) … choose another network"
    )


def test_dropout_is_really_off_at_inference_and_on_in_training() -> None:
    net, pictures = amn(dropout=0.5), images()
    with torch.no_grad():
        assert torch.equal(net(pictures, TAGS), net(pictures, TAGS))
        net.train()
        assert not torch.equal(net(pictures, TAGS), net(pictures, TAGS))
        net.eval()
        assert torch.equal(net(pictures, TAGS), net(pictures, TAGS))


@pytest.mark.parametrize("condition", [[], [4], [1, 4]])
def test_gradients_reach_every_parameter(condition: list[int]) -> None:
    net = amn(condition=condition).train()
    net(images(), TAGS).square().mean().backward()
    trained = [*net.backbone_parameters(), *net.head_parameters()]
    assert {id(p) for p in trained} == {id(p) for p in net.parameters()}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.head_parameters())
    assert all(p.grad is not None for p in trained)


def test_published_network_trains_all_but_its_first_convolution() -> None:
    net = amn(20, backbone=IRN)
    frozen = {name.split(".")[0] for name, p in net.body.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1"}
    kept = amn(20, backbone={**IRN, "detach_after": 2})
    frozen = {name.split(".")[0] for name, p in kept.body.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1", "layer2"}


@pytest.mark.parametrize("condition", [[], [4], [2, 3]])
def test_saved_network_is_the_same_and_tells_nothing_of_its_origin(tmp_path: Path, condition: list[int]) -> None:
    net = amn(condition=condition, dropout=0.2)
    save_amn(net, tmp_path / "a.safetensors", ("a", "b", "c"))
    found, classes = load_amn(tmp_path / "a.safetensors")
    assert classes == ("a", "b", "c")
    assert not found.training
    assert found.dropout.p == 0.2
    with torch.no_grad():
        assert torch.equal(found(images(), TAGS), net(images(), TAGS))
    save_amn(found, tmp_path / "b.safetensors", classes)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_classifier_is_not_taken_for_amn(tmp_path: Path) -> None:
    save_network(network(), tmp_path / "c.safetensors", ("a", "b", "c"))
    with refused(WeightsError, "c.safetensors", "no AMN", "name the folder"):
        load_amn(tmp_path / "c.safetensors")
    save_amn(amn(), tmp_path / "a.safetensors", ("a", "b", "c"))
    with pytest.raises(WeightsError):
        load_network(tmp_path / "a.safetensors")


@pytest.mark.parametrize(("n_classes", "smoothing", "largest"), [(1, 0.5, "0.5"), (3, 0.9, "0.75")])
def test_smoothing_that_leaves_nothing_to_the_label_is_refused(n_classes: int, smoothing: float, largest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        amn(n_classes, smoothing=smoothing)
    assert not lacking(
        caught.value, f"smoothing = {smoothing:g} … of {n_classes + 1} with the background … less than {largest}"
    )


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"condition": [4, 3]}, "condition = [4, 3] … ascending order, each once"),
        ({"condition": [5]}, "setting 'amn.condition.0' = 5"),
        (
            {"condition": [2], "backbone": {"name": "resnet50_irn", "detach_after": 2}},
            "condition = [2] … backbone.detach_after = 2 … stage 2 … set backbone.detach_after=1, … condition later",
        ),
        ({"checkpoint": "a.pth"}, "checkpoint = a.pth … resnet50_irn conditioned at stage 4"),
        (
            {"checkpoint": "a.pth", "backbone": {"name": "resnet50_irn"}, "condition": []},
            "name = resnet50_irn and condition = []: set backbone.name=resnet50_irn condition=[4]",
        ),
        ({"train": {"rescale": [1.5, 0.5]}}, "rescale = [1.5, 0.5] … [smallest, largest] … both above 0"),
        ({"train": {"long_side": [1, 2]}}, "unknown setting 'amn.train.long_side'"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], text: str) -> None:
    with refused(ConfigError, text):
        settings(**values)


def test_defaults_are_the_published() -> None:
    s, t = AmnSettings(), AmnSettings().train
    assert (s.condition, s.dropout, s.smoothing, s.balanced, s.backbone.stride) == ((4,), 0.1, 0.4, True, 16)
    assert (t.epochs, t.batch_size, t.optimiser, t.lr, t.head_lr) == (5, 16, "adam", 5e-6, 1e-4)
    assert (t.weight_decay, t.schedule, t.rescale, t.crop) == (1e-4, "constant", (0.5, 1.5), 512)
    assert t.rates() == {"lr": 5e-6, "head_lr": 1e-4}


@pytest.mark.parametrize(
    ("given", "stride"),
    [
        ({"weights": "none"}, 16),
        ({"name": "resnet50"}, 16),
        ({"stride": 8}, 8),
        ({"name": "resnet50", "stride": None}, None),
    ],
)
def test_the_stride_is_amn_s_unless_it_is_named(given: dict[str, Any], stride: int | None) -> None:
    assert validate(AmnSettings, {"backbone": given}, "amn").backbone.stride == stride


@pytest.mark.parametrize("condition", [[], [4]])
def test_plain_weights_give_a_class_s_logit_on_a_field_of_equal_features(condition: list[int]) -> None:
    net = amn(condition=condition)
    vector = torch.randn(net.head.dilated()[0].in_channels)
    field = vector[None, :, None, None].expand(1, -1, 60, 60)  # its middle is farther than 24 cells from the edge
    for c in range(3):
        with torch.no_grad():
            code = net.codes["4"](torch.eye(3)[c : c + 1])[:, :, None, None] if condition else 1
            logit = net.head(field * code)[0, c + 1, 30, 30]
        assert (plain_weights(net) @ vector)[c].item() == pytest.approx(logit.item(), rel=1e-3, abs=1e-4)


def test_plain_weights_need_features_that_the_tags_leave_alone() -> None:
    with refused(ConfigError, "condition = [3, 4]", "tags change"):
        plain_weights(amn(condition=[3, 4]))


@pytest.fixture(scope="module")
def published() -> BackboneAmn:
    """The published network with random weights."""
    return amn(backbone=IRN)


@pytest.fixture(scope="module")
def official(published: BackboneAmn) -> State:
    """A checkpoint as AMN writes it: each tensor under two or three names."""
    own = published.state_dict()
    body = {k.removeprefix("body."): v for k, v in own.items() if k.startswith("body.")}
    code = {k.removeprefix("codes.4."): v for k, v in own.items() if k.startswith("codes.")}
    head = {f"c{k.removeprefix('head.convs.')}": v for k, v in own.items() if k.startswith("head.")}
    places = {"conv1": "1.0", "bn1": "1.1", "layer1": "1.4", "layer2": "2.0", "layer3": "3.0", "layer4": "4.0"}
    named = {k: f"{places[k.partition('.')[0]]}.{k.partition('.')[2]}" for k in body}
    state = {f"resnet50.{k}": v for k, v in body.items()}
    state |= {f"stage{place}": body[k] for k, place in named.items()}
    state |= {f"label_enc.{k}": v for k, v in code.items()} | {f"classifier.1.{k}": v for k, v in head.items()}
    state |= {f"backbone.{int(place[0]) - 1}{place[1:]}": body[k] for k, place in named.items()}
    return (
        state
        | {f"newly_added.0.1.{k}": v for k, v in head.items()}
        | {f"newly_added.1.{k}": v for k, v in code.items()}
    )


def official_settings() -> AmnSettings:
    return settings(backbone={"name": "resnet50_irn", "weights": "no/such/file.pth"})


def test_official_checkpoint_loads(tmp_path: Path, published: BackboneAmn, official: State) -> None:
    torch.save(official, tmp_path / "res50_amn.pth")
    net = load_official(tmp_path / "res50_amn.pth", official_settings(), 3)
    assert not net.training
    own, expected = net.state_dict(), published.state_dict()
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[k], v) for k, v in expected.items())


def test_aliases_may_be_absent(official: State) -> None:
    plain = {k: v for k, v in official.items() if k.startswith(("resnet50.", "label_enc.", "classifier."))}
    both, one = official_amn(official, "F"), official_amn(plain, "F")
    assert both.keys() == one.keys()
    assert all(both[k] is one[k] for k in one)


@pytest.mark.parametrize(
    ("alias", "first"),
    [
        ("stage1.1.weight", "resnet50.bn1.weight"),
        ("backbone.3.0.2.bn3.running_mean", "resnet50.layer4.2.bn3.running_mean"),
        ("newly_added.0.1.c2.bias", "classifier.1.c2.bias"),
        ("newly_added.1.weight", "label_enc.weight"),
    ],
)
def test_alias_that_differs_is_refused(official: State, alias: str, first: str) -> None:
    state = {**official, alias: official[alias] + 1}
    with refused(WeightsError, "F contradicts itself", f"'{alias}' and '{first}'"):
        official_amn(state, "F")


@pytest.mark.parametrize(
    ("change", "n_classes", "text"),
    [
        (
            {},
            20,
            "res50_amn.pth … 3 classes … has 20 … Use a checkpoint … set data",
        ),
        ({"classifier.1.c4.bias": torch.zeros(4)}, 3, "1 unexpected, first 'classifier.1.c4.bias'"),
        ({"label_enc.bias": None, "newly_added.1.bias": None}, 3, "1 missing, first 'codes.4.bias'"),
    ],
)
def test_foreign_checkpoints_are_refused(
    tmp_path: Path, official: State, change: dict[str, Tensor | None], n_classes: int, text: str
) -> None:
    state = {k: v for k, v in {**official, **change}.items() if v is not None}
    torch.save(state, tmp_path / "res50_amn.pth")
    with refused(WeightsError, text):
        load_official(tmp_path / "res50_amn.pth", official_settings(), n_classes)


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with refused(WeightsError, "x.pth: there is no such file", "AMN's res50_amn.pth", "Leave check"):
        load_official(tmp_path / "x.pth", official_settings(), 3)
