"""The published ResNet-50: sizes, gradients, and its official checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor
from torchvision.models import resnet50

from tag2mask.backbones.official_checkpoints import official_classifier
from tag2mask.backbones.resnets import ResNet50Irn
from tag2mask.backbones.state_dict import load_strict
from tag2mask.core.errors import ConfigError, WeightsError
from tests.backbones.make import images, network
from tests.helpers.refused import refused

State = dict[str, Tensor]


def random_statistics(net: torch.nn.Module) -> None:
    """Give batch norms other statistics than 0 and 1, so that a mix-up shows."""
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)


@pytest.fixture(scope="module")
def torchvision_state() -> State:
    torch.manual_seed(2)
    net = resnet50(weights=None)
    random_statistics(net)
    return dict(net.state_dict())


@pytest.fixture(scope="module")
def official(torchvision_state: State) -> State:
    """A checkpoint as IRN, LPCAM and AMN write it for 5 classes, each tensor under two or three names."""
    body = {k: v for k, v in torchvision_state.items() if not k.startswith("fc.")}
    stages = {"conv1": "stage1.0", "bn1": "stage1.1", "layer1": "stage1.4"}
    stages |= {f"layer{n}": f"stage{n}.0" for n in (2, 3, 4)}
    state = {f"resnet50.{k}": v for k, v in body.items()}
    head = torch.randn(5, 2048, 1, 1)
    for k, v in body.items():
        first, _, rest = k.partition(".")
        state[f"{stages[first]}.{rest}"] = v
    state["classifier.weight"] = head
    for k, v in body.items():
        first, _, rest = k.partition(".")
        stage, _, position = stages[first].removeprefix("stage").partition(".")
        state[f"backbone.{int(stage) - 1}.{position}.{rest}"] = v
    state["newly_added.0.weight"] = head
    return state


def write(path: Path, state: State) -> str:
    torch.save(state, path)
    return str(path)


def test_sizes_and_parameters_are_the_published() -> None:
    net = network(name="resnet50_irn")
    sizes = []
    for module in (net.body.maxpool, net.body.layer1, net.body.layer2, net.body.layer3, net.body.layer4):
        module.register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[2:])))  # type: ignore[union-attr]
    features = net.features(images(1, 321, 281))
    assert sizes == [(81, 71), (81, 71), (41, 36), (21, 18), (21, 18)]
    assert features.shape == (1, 2048, 21, 18)
    assert features.min() >= 0
    assert sum(p.numel() for p in net.body.parameters()) == 23_508_032
    assert net.stride == 16
    assert net.mean == (0.485, 0.456, 0.406)


def test_no_convolution_is_dilated() -> None:
    convolutions = [m for m in ResNet50Irn().modules() if isinstance(m, torch.nn.Conv2d)]
    assert {m.dilation for m in convolutions} == {(1, 1)}
    assert sum(m.stride == (2, 2) for m in convolutions) == 5  # the first, and kernel and shortcut of stages 2 and 3


def test_up_to_the_last_stage_it_is_torchvisions(torchvision_state: State) -> None:
    ours, theirs = ResNet50Irn().eval(), resnet50(weights=None).eval()
    body = {k: v for k, v in torchvision_state.items() if not k.startswith("fc.")}
    load_strict(ours, body, "here", "it")
    theirs.load_state_dict(torchvision_state)
    seen: dict[str, Tensor] = {}
    for name, net in (("ours", ours), ("theirs", theirs)):
        net.layer3.register_forward_hook(lambda _m, _i, output, name=name: seen.update({name: output}))
        net(images())
    assert torch.equal(seen["ours"], seen["theirs"])


@pytest.mark.parametrize(("setting", "detached"), [(None, 2), (0, 0), (1, 1), (3, 3)])
def test_gradients_stop_at_the_detached_stage(setting: int | None, detached: int) -> None:
    net = network(name="resnet50_irn", detach_after=setting).train()
    net(images(1, 64, 64)).sum().backward()
    for number in range(1, 5):
        gradients = [p.grad for n, p in net.body.named_parameters() if n.startswith(f"layer{number}.")]
        if number <= detached:
            assert all(g is None for g in gradients)
        else:
            assert all(g is not None and g.abs().sum() > 0 for g in gradients)
    assert all(p.grad is None for n, p in net.body.named_parameters() if n.startswith(("conv1.", "bn1.")))
    trained = {id(p) for p in net.backbone_parameters()}
    assert trained == {id(p) for p in net.body.parameters() if p.grad is not None}


def test_the_image_gets_no_gradient_through_a_detached_stage() -> None:
    image = images(1, 64, 64).requires_grad_()
    network(name="resnet50_irn")(image).sum().backward()
    assert image.grad is None
    network(name="resnet50_irn", detach_after=0)(image).sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


def test_official_checkpoint_loads(tmp_path: Path, official: State) -> None:
    net = network(5, name="resnet50_irn", weights=write(tmp_path / "res50_cam.pth", official))
    assert torch.equal(net.class_weights(), official["classifier.weight"][:, :, 0, 0])
    own = net.state_dict()
    body = {k.removeprefix("resnet50."): v for k, v in official.items() if k.startswith("resnet50.")}
    assert {k.removeprefix("body.") for k in own} - {"head.weight"} == body.keys()
    assert all(torch.equal(own[f"body.{k}"], v) for k, v in body.items())


def test_aliases_may_be_absent(official: State) -> None:
    plain = {k: v for k, v in official.items() if k.startswith(("resnet50.", "classifier."))}
    both, one = official_classifier(official, "F"), official_classifier(plain, "F")
    assert both.keys() == one.keys()
    assert all(both[k] is one[k] for k in one)


@pytest.mark.parametrize(
    "alias", ["stage1.4.0.conv1.weight", "backbone.3.0.2.bn3.running_mean", "newly_added.0.weight"]
)
def test_alias_that_differs_is_refused(official: State, alias: str) -> None:
    state = {**official, alias: official[alias] + 1}
    match = f"F contradicts itself: '{alias}' and '(resnet50|classifier).* are one tensor, but differ"
    with pytest.raises(WeightsError, match=match):
        official_classifier(state, "F")


def test_checkpoint_of_another_network_is_refused(tmp_path: Path, official: State) -> None:
    amn = {k: v for k, v in official.items() if k.startswith(("resnet50.", "class")) and ".layer4.2.bn3." not in k}
    path = write(tmp_path / "res50_amn.pth", {**amn, "label_enc.weight": torch.zeros(2048, 5)})
    with pytest.raises(WeightsError) as caught:
        network(5, name="resnet50_irn", weights=path)
    text = str(caught.value)
    assert f"{path} does not belong to the classifier of 'resnet50_irn': of 319 entries expected, " in text
    assert "4 missing, first 'body.layer4.2.bn3.weight'; 1 unexpected, first 'label_enc.weight'" in text


def test_other_number_of_classes_is_refused(tmp_path: Path, official: State) -> None:
    path = write(tmp_path / "res50_cam.pth", {k: v for k, v in official.items() if k.startswith(("res", "class"))})
    with refused(WeightsError, "res50_cam.pth", "5 classes", "has 20", "Use a checkpoint"):
        network(20, name="resnet50_irn", weights=path)


def test_torchvision_file_loads(tmp_path: Path, torchvision_state: State) -> None:
    old = {k: v for k, v in torchvision_state.items() if "num_batches_tracked" not in k}  # as the papers' file is
    net = network(5, name="resnet50_irn", weights=write(tmp_path / "resnet50-19c8e357.pth", old))
    own = net.body.state_dict()
    assert all(torch.equal(own[k], v) for k, v in old.items() if not k.startswith("fc."))


def test_timms_names_are_torchvisions() -> None:
    """So timm's download of torchvision's weights loads."""
    load_strict(ResNet50Irn(), timm.create_model("resnet50", num_classes=0).state_dict(), "timm", "resnet50_irn")


def test_bundled_weights_do_not_exist() -> None:
    with refused(WeightsError, "efficientnet_lite0 only", "not for 'resnet50_irn'"):
        network(name="resnet50_irn", weights="bundled")


def test_stride_is_fixed() -> None:
    network(name="resnet50_irn", stride=16)
    with refused(ConfigError, "backbone.stride = 8", "stride 16 only", "leave stride out"):
        network(name="resnet50_irn", stride=8)
