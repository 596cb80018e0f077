"""Networks for data without background: C outputs, label 0 never predicted, from training to a file and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tag2mask
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.core.types import Sample
from tag2mask.data.split_views import on_ground
from tag2mask.segmentation.networks.factory import build_segmenter, load_segmenter, save_segmenter
from tag2mask.segmentation.predict.labeller import Labeller
from tag2mask.segmentation.predict.logits import LoadedNetwork
from tag2mask.segmentation.predict.options import PredictOptions
from tag2mask.segmentation.training import train_segmenter
from tests.helpers.refused import refused
from tests.methods.irn.drawn import data, seeds
from tests.segmentation.segment_drawn import network, settings
from tests.training.toy import engine

CLASSES = ("field", "water")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_segmenter(build_segmenter(network("fpn"), 2, background=False), path, CLASSES)
    return path


def test_a_network_has_one_output_a_class_and_remembers_it(file: Path) -> None:
    net, classes = load_segmenter(file)
    assert (net.background, net.n_labels, classes) == (False, 2, CLASSES)
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 2, 64, 64)
    plain = build_segmenter(network("fpn"), 2)
    assert (plain.background, plain.n_labels) == (True, 3)


@pytest.mark.parametrize("options", [{}, {"tile": 96}, {"crf": "deeplabv2"}, {"fit": (64, 32)}], ids=str)
def test_no_prediction_is_label_0(file: Path, options: dict[str, Any]) -> None:
    model = tag2mask.load(file, device="cpu")
    photo = np.random.default_rng(0).integers(0, 256, (120, 150, 3), np.uint8)
    mask = model(photo, **options)
    assert set(np.unique(mask.labels)) <= {1, 2}
    assert set(mask.present) <= set(CLASSES)
    net, _ = load_segmenter(file)
    if not options:
        labeller = Labeller(LoadedNetwork.of(net, CLASSES), PredictOptions())
        assert labeller.network.background is False


def test_the_labels_are_the_most_probable_class(file: Path) -> None:
    net, _ = load_segmenter(file)
    photo = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    values = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (net.mean, net.std))
    with torch.no_grad():
        expected = net((values - mean) / std).argmax(1)[0] + 1
    assert (tag2mask.load(file, device="cpu")(photo).labels == expected.numpy()).mean() > 0.999


def test_a_network_of_another_number_of_labels_is_refused(file: Path) -> None:
    net, _ = load_segmenter(file)
    with refused(ConfigError, "2 labels", "expected 3"):
        Labeller(LoadedNetwork(net, net.mean, net.std, CLASSES), PredictOptions()).labels([_photo()])


def _photo() -> Any:
    from tag2mask.segmentation.predict.photo_readers import ArrayPhoto

    return ArrayPhoto(np.zeros((64, 64, 3), np.uint8))


def test_training_on_data_without_background_makes_such_a_network(tmp_path: Path) -> None:
    def masks(sample: Sample) -> Any:
        found = seeds(sample).copy()
        found[found == 0] = 1
        return found

    dataset = on_ground(data(), "none")
    values = settings("fpn", epochs=1)
    train_segmenter(dataset, masks, values, out=tmp_path / "none", seed=0, engine=engine())
    net, _ = load_segmenter(tmp_path / "none" / "weights.safetensors")
    assert (net.background, net.n_labels) == (False, len(dataset.classes))
    assert dataset.background == "none"
    assert data().background == "present", "the data itself is left alone"


def test_an_onnx_file_of_such_a_network_gives_its_labels(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from tag2mask.segmentation.onnx.export import export_onnx

    net, classes = load_segmenter(file)
    export_onnx(net, classes, tmp_path / "net.onnx")
    photo = np.random.default_rng(2).integers(0, 256, (70, 90, 3), np.uint8)
    own, found = (tag2mask.load(path, device="cpu")(photo).labels for path in (file, tmp_path / "net.onnx"))
    assert (own == found).mean() > 0.999
    assert found.min() >= 1


def test_a_file_that_says_otherwise_is_refused(file: Path, tmp_path: Path) -> None:
    net, _ = load_segmenter(file)
    net.background = True
    save_segmenter(net, tmp_path / "wrong.safetensors", CLASSES)
    with pytest.raises(WeightsError):
        load_segmenter(tmp_path / "wrong.safetensors")
