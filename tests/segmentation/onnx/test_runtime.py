"""Networks in ONNX: what surrounds them, and files that are none of ours."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, DataError, WeightsError
from tag2mask.segmentation.onnx.export import framed
from tag2mask.segmentation.onnx.runtime import OnnxSegmenter
from tag2mask.segmentation.predict.labeller import Labeller
from tag2mask.segmentation.predict.options import PredictOptions
from tests.helpers.refused import refused
from tests.segmentation.onnx_drawn import identity, saved

pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
ABOUT = {"schema": 1, "max_side": None, "classes": ["cat", "dog"]}


@pytest.mark.parametrize("size", [(1, 1), (32, 64), (33, 50), (100, 7)])
def test_the_frame_normalises_pads_and_cuts(tmp_path: Path, size: tuple[int, int]) -> None:
    net = OnnxSegmenter(saved(framed(identity(), MEAN, STD, 32), tmp_path / "x.onnx", ABOUT))
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    expected = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(net(images), expected, atol=1e-6)


@pytest.mark.parametrize(("multiple", "size"), [(32, (33, 50)), (32, (64, 32)), (1, (33, 50)), (1, (9, 4))])
def test_the_frame_pads_with_the_mean_and_resizes_as_torch_does(
    tmp_path: Path, multiple: int, size: tuple[int, int]
) -> None:
    """A network that takes each fourth pixel, so that its grid shows where the padding is."""
    from onnx import helper

    model = identity()
    model.graph.node[0].CopyFrom(
        helper.make_node("AveragePool", ["padded"], ["scores"], kernel_shape=[1, 1], strides=[4, 4])
    )
    net = OnnxSegmenter(saved(framed(model, (0.0,) * 3, (1.0,) * 3, multiple), tmp_path / "x.onnx", ABOUT))
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    whole = [-(-side // multiple) * multiple for side in size]
    padded = F.pad(images, (0, whole[1] - size[1], 0, whole[0] - size[0]))
    expected = F.interpolate(padded[..., ::4, ::4], whole, mode="bilinear")[..., : size[0], : size[1]]
    assert torch.allclose(net(images), expected, atol=1e-5)


def test_it_is_a_network_for_predictions(tmp_path: Path) -> None:
    net = OnnxSegmenter(saved(framed(identity(), (0.0,) * 3, (1.0,) * 3, 32), tmp_path / "x.onnx", ABOUT))
    assert (net.classes, net.mean, net.std) == (("cat", "dog"), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    photo = np.zeros((5, 7, 3), np.uint8)
    photo[..., 0], photo[2:, :, 1], photo[4:, :, 2] = 10, 100, 200  # the largest channel is the label
    from tag2mask.segmentation.predict.logits import LoadedNetwork
    from tag2mask.segmentation.predict.photo_readers import ArrayPhoto

    labeller = Labeller(LoadedNetwork(net, net.mean, net.std, net.classes), PredictOptions())
    (labels,) = labeller.labels([ArrayPhoto(photo)])
    assert labels.tolist() == [[0] * 7] * 2 + [[1] * 7] * 2 + [[2] * 7]


@pytest.mark.parametrize("shape", [(3, 5, 5), (1, 4, 5, 5), (0, 3, 5, 5), (1, 3, 0, 5)])
def test_images_of_another_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    net = OnnxSegmenter(saved(framed(identity(), MEAN, STD, 32), tmp_path / "x.onnx", ABOUT))
    with refused(DataError, "images have shape", "expected (N, 3, H, W)", "at least one pixel"):
        net(torch.zeros(shape))


def test_a_file_that_is_not_there_or_no_onnx(tmp_path: Path) -> None:
    with refused(WeightsError, "x.onnx does not exist", "'tag2mask export --format"):
        OnnxSegmenter(tmp_path / "x.onnx")
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with refused(WeightsError, "x.onnx cannot be read", "ONNX", "Copy or export it again"):
        OnnxSegmenter(tmp_path / "x.onnx")


def test_a_network_of_others(tmp_path: Path) -> None:
    path = saved(identity(inputs="images", outputs="logits"), tmp_path / "other.onnx")
    with refused(WeightsError, "other.onnx", "another network", "no entry 'tag2mask'", "Write one"):
        OnnxSegmenter(path)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{", "entry 'tag2mask' … is damaged"),
        ({"schema": 1}, "entry 'tag2mask' … is damaged … 'classes' … export it again"),
        ({"schema": 1, "max_side": None, "classes": []}, "is damaged … classes … export it again"),
        ("[" * 100_000, "entry 'tag2mask' … is damaged"),
        ([1], "is damaged … ; export it again"),
        (
            {"schema": 1, "max_side": float("nan"), "classes": ["cat", "dog"]},
            "is damaged … max_side … nan … export it again",
        ),
        ({"schema": 1, "max_side": True, "classes": ["cat", "dog"]}, "is damaged … max_side … True"),
        ({"schema": 1, "max_side": None, "classes": ["cat", None]}, "is damaged … classes.1 … None"),
        ({"schema": 1, "max_side": None, "classes": "cd"}, "is damaged … classes … 'cd'"),
        ({"schema": 1, "max_side": None, "classes": ["cat", "cat"]}, "metadata of … has class 'cat' twice"),
        ({"schema": 1, "max_side": None, "classes": ["cat", "a\nb"]}, "control character"),
        ({"schema": 9, "max_side": None, "classes": ["cat"]}, "x.onnx has schema 9 … expected 1 … export it again"),
        (
            {"schema": 1, "max_side": None, "classes": ["cat"]},
            "does not fit its metadata … 'logits' of 2 labels … Export it again",
        ),
    ],
)
def test_metadata_that_is_damaged_or_does_not_fit(tmp_path: Path, about: Any, message: str) -> None:
    path = saved(framed(identity(), MEAN, STD, 32), tmp_path / "x.onnx", about)
    with refused(WeightsError, message):
        OnnxSegmenter(path)


@pytest.mark.parametrize("place", ["part.bin", "../part.bin", "/dev/zero", "gone.bin"])
def test_a_network_in_several_files_is_refused_and_none_of_them_is_opened(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's file would choose which file is read; ours are whole."""
    from onnx import TensorProto

    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "part.bin").write_bytes(np.ones(3, np.float32).tobytes())
    model = framed(identity(), MEAN, STD, 32)
    tensor = next(one for one in model.graph.initializer if one.name.endswith("mean"))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", place
    with refused(WeightsError, "x.onnx cannot be read", "ONNX", "export it again", "one file"):
        OnnxSegmenter(saved(model, tmp_path / "sub" / "x.onnx", ABOUT))


def test_files_that_are_cut_or_no_files(tmp_path: Path) -> None:
    path = saved(framed(identity(), MEAN, STD, 32), tmp_path / "x.onnx", ABOUT)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 20):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"x.onnx"):
            OnnxSegmenter(path)
    path.unlink()
    os.mkfifo(path)
    with refused(WeightsError, "x.onnx cannot be read", "a named pipe"):
        OnnxSegmenter(path)


def test_metadata_that_is_not_utf8(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = saved(framed(identity(), MEAN, STD, 32), tmp_path / "x.onnx", {**ABOUT, "classes": ["caat", "dog"]})
    for old, new in ((b"caat", b"c\xff\xffa"), (b"logits", b"log\xffts")):
        path.write_bytes(path.read_bytes().replace(old, new))
        with pytest.raises(WeightsError, match=r"x.onnx"):
            OnnxSegmenter(path)
    assert capfd.readouterr().out == ""


def test_scores_of_fewer_images_than_were_given(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    model = framed(identity(), MEAN, STD, 32)
    node = next(n for n in model.graph.node if "logits" in n.output)
    node.output[0] = "all"
    model.graph.node.append(helper.make_node("ReduceMax", ["all", "axis"], ["logits"], keepdims=1))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), "axis"))
    net = OnnxSegmenter(saved(model, tmp_path / "x.onnx", ABOUT))
    with refused(DataError, "x.onnx", "scores of shape", "export it again"):
        net(torch.zeros(2, 3, 8, 8))


def test_an_input_of_another_name(tmp_path: Path) -> None:
    path = saved(identity(inputs="photos", outputs="logits"), tmp_path / "x.onnx", ABOUT)
    with refused(WeightsError, "'images' of 3 channels", "'logits' of 3 labels"):
        OnnxSegmenter(path)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refused(ConfigError, "needs onnxruntime", "pip install 'tag2mask[onnx]'"):
        OnnxSegmenter(tmp_path / "x.onnx")
