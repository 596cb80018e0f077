"""A saved network comes back the same, and a file that is not one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tag2mask.backbones import files
from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import load_network, save_network
from tag2mask.backbones.settings import BackboneSettings, Pooling
from tag2mask.backbones.tagnet import TagNet
from tag2mask.core.errors import WeightsError
from tests.backbones.make import TINY, images, inner, network
from tests.helpers.refused import refused

CLASSES = ("cat", "dog, wild", "Löwe")


def test_round_trip(tmp_path: Path) -> None:
    net = network(stride=16).eval()
    net.trained = (True, False, True)
    save_network(net, tmp_path / "w.safetensors", CLASSES)
    again, classes = load_network(tmp_path / "w.safetensors")
    assert classes == CLASSES
    assert again.trained == (True, False, True)
    assert again.stride == 16
    assert again.settings == net.settings
    assert not again.training
    assert torch.equal(again(images()), net(images()))


def test_round_trip_of_the_published_network(tmp_path: Path) -> None:
    net = network(name="resnet50_irn", detach_after=1).eval()
    save_network(net, tmp_path / "w.safetensors", CLASSES)
    again, _ = load_network(tmp_path / "w.safetensors")
    assert again.settings.detach_after == 1
    assert torch.equal(again(images()), net(images()))


def test_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    save_network(network(), tmp_path / "a.safetensors", CLASSES)
    save_network(network(), tmp_path / "b.safetensors", CLASSES)
    again, classes = load_network(tmp_path / "a.safetensors")
    save_network(again, tmp_path / "c.safetensors", classes)
    save_network(network(seed=1), tmp_path / "d.safetensors", CLASSES)
    a, b, c, d = ((tmp_path / f"{n}.safetensors").read_bytes() for n in "abcd")
    assert a == b == c
    assert a != d


def test_no_path_of_this_machine_is_written(tmp_path: Path) -> None:
    torch.save(inner(network()).state_dict(), tmp_path / "start.pth")
    save_network(network(weights=str(tmp_path / "start.pth")), tmp_path / "w.safetensors", CLASSES)
    assert str(tmp_path).encode() not in (tmp_path / "w.safetensors").read_bytes()


def rewrite(path: Path, **changes: object) -> None:
    with safe_open(path, "pt") as stream:
        about = json.loads(stream.metadata()["tag2mask"])
    save_file(load_file(path), path, {"tag2mask": json.dumps({**about, **changes})})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_network(network(), tmp_path / "w.safetensors", CLASSES)
    return tmp_path / "w.safetensors"


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    other = {"name": "test_resnet", "stride": None, "weights": "none", "detach_after": None}
    rewrite(saved, backbone=other)
    with refused(WeightsError, "'test_resnet' with 3 classes", "missing, first 'body.net"):
        load_network(saved)


def test_other_number_of_classes_is_refused(saved: Path) -> None:
    rewrite(saved, classes=["a", "b"], trained=[True, True])
    with pytest.raises(WeightsError, match=r"'head.weight' is \(3, 256, 1, 1\), expected \(2, 256, 1, 1\)"):
        load_network(saved)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": 99}, "not a network saved"),
        (
            {"backbone": {"name": "gone", "weights": "none"}},
            "this version of tag2mask … unknown network",
        ),
        ({"classes": None}, "this version of tag2mask"),
        ({"classes": ["a", 2, "c"]}, "this version of tag2mask … classes.1"),
        ({"classes": ["a", "b", "a"]}, "w.safetensors has class 'a' twice … Save the network again"),
        ({"classes": ["a", "", "c"]}, "has an empty class name"),
        ({"classes": ["a", "b\nc", "d"]}, "control character"),
        ({"classes": ["a", "b\u2028c", "d"]}, "control character"),
        ({"classes": ["a", "\ud800", "d"]}, "whose name is not UTF-8"),
        ({"classes": [str(i) for i in range(300)]}, "has 300 classes: expected 1..254"),
        ({"classes": {"a": 1}}, "cannot be rebuilt"),
        ({"trained": [True]}, "of 1 classes … names 3"),
        ({"trained": float("nan")}, "cannot be rebuilt"),
        ({"backbone": None}, "cannot be rebuilt"),
        ({"backbone": [[]] * 3}, "cannot be rebuilt"),
        ({"backbone": {"name": 1e308, "weights": "none"}}, "cannot be rebuilt"),
        ({"backbone": {"name": "x" * 5000, "weights": "none"}}, "cannot be rebuilt"),
        ({"surplus": 1}, "cannot be rebuilt … surplus"),
    ],
)
def test_metadata_that_makes_no_sense(saved: Path, changes: dict[str, object], text: str) -> None:
    rewrite(saved, **changes)
    with refused(WeightsError, text):
        load_network(saved)


@pytest.mark.parametrize("weights", ["timm", "bundled", "hf-hub:owner/name", "/etc/passwd", "start.pth"])
def test_a_file_that_names_further_weights_makes_nobody_look_for_them(
    saved: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tag2mask.backbones.files.read_state", lambda path: pytest.fail("it was read"))
    rewrite(saved, backbone={"name": TINY, "weights": weights})
    with refused(WeightsError, "w.safetensors", f"first weights, '{weights}'"):
        load_network(saved)


@pytest.mark.parametrize(
    "name", ["hf-hub:timm/resnet18", "local-dir:/tmp", "resnet18.hf-hub:timm/x", "/etc/passwd", "resnet18.x/y"]
)
def test_names_of_networks_elsewhere_are_refused(saved: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.create_model", lambda *args, **words: pytest.fail("it was looked for"))
    rewrite(saved, backbone={"name": name, "weights": "none"})
    with refused(WeightsError, "backbone.name", "this version of tag2mask"):
        load_network(saved)


def test_a_small_file_that_claims_a_large_network_costs_no_memory(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(settings: BackboneSettings, n_classes: int, pooling: Pooling) -> TagNet:
        net = build_network(settings, n_classes, pooling)
        built.extend(p.device.type for p in net.parameters())
        return net

    monkeypatch.setattr("tag2mask.backbones.files.build_network", build)
    rewrite(saved, backbone={"name": "resnet101", "weights": "none"})
    with refused(WeightsError, "does not belong", "'resnet101' with 3 classes"):
        load_network(saved)
    assert set(built) == {"meta"}


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "9" * 5000, '"\\ud800"', "null", "[]", '{"format": "1"}'])
def test_metadata_that_is_no_json_object(saved: Path, text: str) -> None:
    save_file(load_file(saved), saved, {"tag2mask": text})
    with refused(WeightsError, ("w.safetensors cannot be read", "w.safetensors is not a network")):
        load_network(saved)


def test_plain_weights_are_no_network(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with refused(WeightsError, "lacks 'tag2mask', format 1)", "use backbone.weig"):
        load_network(tmp_path / "plain.safetensors")


def test_missing_and_damaged_files(tmp_path: Path, saved: Path) -> None:
    with refused(WeightsError, "no such file", "network saved by tag2mask"):
        load_network(tmp_path / "none.safetensors")
    saved.write_bytes(saved.read_bytes()[:-100])
    with refused(WeightsError, "cannot be read", "network saved by tag2mask"):
        load_network(saved)


def test_a_file_that_may_not_be_read_is_not_called_missing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # permissions do not bind an administrator, who may run this
    with refused(WeightsError, "Permission denied", "Allow it", "name another file"):
        load_network(saved)


def test_a_network_is_held_against_its_file_once_for_files_that_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    sketch = files.without_memory

    def counted(build: Any) -> Any:
        tried.append("a network without memory")
        return sketch(build)

    monkeypatch.setattr(files, "without_memory", counted)
    monkeypatch.setattr(files, "_FITTED", set())
    for name, classes in (("a", ("cat", "dog")), ("b", ("cat", "dog")), ("c", ("cat", "cow", "dog"))):
        path = tmp_path / f"{name}.safetensors"
        save_network(network(len(classes)), path, classes)
        assert load_network(path)[1] == classes
    assert len(tried) == 2  # a and b agree
