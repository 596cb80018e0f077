"""Networks written as ONNX beside the networks themselves."""

from __future__ import annotations

import importlib.util
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tag2mask
from tag2mask.core.errors import ConfigError, StageError
from tag2mask.segmentation.networks import smp as libraries
from tag2mask.segmentation.networks import upernet
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.networks.factory import save_segmenter
from tag2mask.segmentation.onnx import export as onnx_export
from tag2mask.segmentation.onnx.export import check_request, compare, export_network, export_onnx
from tag2mask.segmentation.onnx.runtime import ENTRY, OnnxSegmenter
from tag2mask.segmentation.settings import NETWORK_KINDS
from tests.helpers.refused import refused
from tests.segmentation.onnx_drawn import identity
from tests.segmentation.segment_drawn import build

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

CLASSES = ("cat", "dog", "traffic light")
SIZES = ((1, 64, 64), (3, 57, 101), (1, 130, 35), (2, 5, 2))
"""Batch, height and width; none is that of the recording or of the check on writing."""


def moved(net: Segmenter) -> Segmenter:
    """The network with logits of some size and batch norms that do something."""
    generator = torch.Generator().manual_seed(1)
    for name, value in net.state_dict().items():
        if value.is_floating_point() and not name.endswith("running_var"):
            value += 0.05 * torch.randn(value.shape, generator=generator)
    return net.eval()


@torch.no_grad()
def assert_same(net: Segmenter, path: Path, sizes: tuple[tuple[int, int, int], ...] = SIZES) -> None:
    """That a file gives the network's logits within 1e-4 of the largest, at sizes other than the recording's."""
    found = OnnxSegmenter(path)
    generator = torch.Generator().manual_seed(2)
    for batch, height, width in sizes:
        images = torch.rand(batch, 3, height, width, generator=generator)
        logits = net((images - torch.tensor(net.mean).view(3, 1, 1)) / torch.tensor(net.std).view(3, 1, 1))
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        assert logits.std() > 0.01
        assert float((found(images) - logits).abs().max()) < 1e-4 * max(1.0, float(logits.abs().max()))


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> tuple[Segmenter, Path]:
    net, path = moved(build("fpn")), tmp_path_factory.mktemp("onnx") / "light.onnx"
    export_onnx(net, CLASSES, path)
    return net, path


def test_the_light_network(light: tuple[Segmenter, Path]) -> None:
    assert_same(*light)


@pytest.fixture
def slim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders of few channels where the published ones are wide."""
    monkeypatch.setattr(upernet, "_CHANNELS", 16)
    plain = libraries.library_network

    def library_network(settings: Any, name: str, n_labels: int, **options: Any) -> Any:
        if settings.kind == "dpt":
            options |= {"decoder_intermediate_channels": (8,) * 4, "decoder_fusion_channels": 16}
        return plain(settings, name, n_labels, **options)

    monkeypatch.setattr(libraries, "library_network", library_network)


@pytest.mark.filterwarnings("ignore:Encoder does not have prefix tokens:UserWarning")  # DPT's advice for a better mask
@pytest.mark.parametrize("kind", [k for k in NETWORK_KINDS if k != "fpn"])
def test_every_other_architecture(kind: str, tmp_path: Path, slim: None) -> None:
    net = moved(build(kind))
    export_onnx(net, CLASSES, tmp_path / "x.onnx")
    assert not net.training
    assert_same(net, tmp_path / "x.onnx")


def test_upernet_on_swin(tmp_path: Path, slim: None, monkeypatch: pytest.MonkeyPatch) -> None:
    small = partial(libraries.library_network, embed_dim=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))
    monkeypatch.setattr(upernet, "library_network", small)
    net = moved(build("upernet", encoder="swin_tiny_patch4_window7_224"))
    export_onnx(net, CLASSES, tmp_path / "x.onnx")
    assert_same(net, tmp_path / "x.onnx", ((1, 32, 224), *SIZES))  # from windows of one row of tokens to whole ones


def test_an_encoder_whose_padding_depends_on_the_size_is_refused_where_sizes_are_free(tmp_path: Path) -> None:
    """TensorFlow's padding is another at each size; networks that pad to multiples of 32 see one of them only."""
    net = moved(build("fpn", encoder="tf_mobilenetv3_small_minimal_100"))
    export_onnx(net, CLASSES, tmp_path / "x.onnx")
    assert_same(net, tmp_path / "x.onnx")
    free = moved(build("deeplabv2", encoder="tf_efficientnet_lite0"))
    with refused(ConfigError, "'tf_efficientnet_lite0'", "ONNX for all image sizes"):
        export_onnx(free, CLASSES, tmp_path / "y.onnx")
    assert not (tmp_path / "y.onnx").exists()


def test_what_the_file_says_of_itself(light: tuple[Segmenter, Path]) -> None:
    net, path = light
    model = onnx.load(path)
    about = json.loads({p.key: p.value for p in model.metadata_props}[ENTRY])
    assert about == {
        "schema": 1, "initial": "none", "max_side": None, "classes": list(CLASSES),
        "network": net.settings.model_dump(mode="json"),
    }  # fmt: skip
    (given,), (taken,) = model.graph.input, model.graph.output
    assert (given.name, taken.name) == ("images", "logits")
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["batch", 3, "height", "width"]
    assert [d.dim_param or d.dim_value for d in taken.type.tensor_type.shape.dim] == ["batch", 4, "height", "width"]
    assert OnnxSegmenter(path).classes == CLASSES


def test_predictions_are_those_of_the_weights(light: tuple[Segmenter, Path], tmp_path: Path) -> None:
    net, path = light
    save_segmenter(net, tmp_path / "x.safetensors", CLASSES)
    photo = np.random.default_rng(0).integers(0, 256, (45, 70, 3), dtype=np.uint8)
    masks = [tag2mask.load(p)(photo, scales=(1.0, 0.75), mirror=True) for p in (path, tmp_path / "x.safetensors")]
    assert masks[0].classes == CLASSES
    assert len(np.unique(masks[0].labels)) > 1
    assert (masks[0].labels == masks[1].labels).mean() > 0.999  # but for ties within rounding


def test_a_file_that_differs_is_refused(light: tuple[Segmenter, Path]) -> None:
    net, path = light

    class Off(OnnxSegmenter):
        def __call__(self, images: Tensor) -> Tensor:
            return super().__call__(images) + (0.01 if images.shape[0] == 2 else 0.0)

    compare(net, OnnxSegmenter(path))
    with refused(
        ConfigError,
        "'fpn' on 'test_efficientnet'",
        "at 150 x 224 pixels",
        "differ by 1.0e-02",
        "more than 0.0001",
        "Nothing was written",
    ):
        compare(net, Off(path))


def test_a_network_that_takes_few_sizes_itself_is_refused(light: tuple[Segmenter, Path]) -> None:
    net, path = light

    class Narrow(type(net)):  # type: ignore[misc]  # a class that is known at run time only
        def forward(self, images: Tensor) -> Tensor:
            if images.shape[2] > 150:
                raise RuntimeError("too high")
            logits: Tensor = super().forward(images)
            return logits

    narrow = moved(build("fpn"))
    narrow.__class__ = Narrow
    with refused(ConfigError, "2 of 4 sizes", "the network itself"):
        compare(narrow, OnnxSegmenter(path))


def test_nothing_is_left_of_a_file_that_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_recorded", lambda net: identity(3))
    with pytest.raises(ConfigError, match="onnxruntime's logits differ"):
        export_onnx(build("fpn", 2), CLASSES[:2], tmp_path / "x.onnx")
    with pytest.raises(ConfigError, match="onnxruntime refuses it .*'logits' of 4 labels"):
        export_onnx(build("fpn", 3), CLASSES, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def recorded(net: Segmenter, monkeypatch: pytest.MonkeyPatch, wrong: Any, path: Path, message: str) -> None:
    """Export a network whose logits go through ``wrong(logits, images)``, which is refused."""
    plain = type(net).logits
    monkeypatch.setattr(type(net), "logits", lambda self, images: wrong(plain(self, images), images))
    with pytest.raises(ConfigError, match=message):
        export_onnx(net, CLASSES, path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda logits, images: logits * (1 if images.sum() > 3 else 2),
        lambda logits, images: logits + 0.01 * int(images.shape[-1]),
    ],
)
def test_a_network_that_decides_in_python(wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = "'fpn' on 'test_efficientnet' cannot be written as ONNX for all image sizes: at 50 x 33 pixels"
    recorded(moved(build("fpn")), monkeypatch, wrong, tmp_path / "x.onnx", message)


def test_a_network_with_an_operator_that_onnx_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    message = "for all image sizes: Exporting the operator 'aten::special_i1' .* Nothing was written; use its"
    recorded(build("fpn"), monkeypatch, lambda logits, _: torch.special.i1(logits), tmp_path / "x.onnx", message)
    assert capfd.readouterr() == ("", "")


def test_requests_that_are_refused_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(ConfigError, "--out", "x.bin", "one file", "ends in .onnx"):
        export_network("nothing", tmp_path / "x.bin")
    (tmp_path / "x.onnx").write_bytes(b"mine")
    with refused(StageError, "x.onnx exists", "remove it", "name another file"):
        export_network("nothing", tmp_path / "x.onnx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else name)
    with refused(ConfigError, "needs onnx,", "pip install 'tag2mask[onnx]'"):
        check_request(tmp_path / "y.onnx")


def test_a_network_that_is_onnx_already(light: tuple[Segmenter, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="light.onnx is in ONNX already; copy it"):
        export_network(str(light[1]), tmp_path / "x.onnx")
