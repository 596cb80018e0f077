"""Networks trained on shrunk photos see photos at that size, and give labels at theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import tag2mask
from tag2mask.segmentation.networks.factory import load_segmenter, save_segmenter
from tag2mask.segmentation.predict import working_size as working
from tag2mask.segmentation.predict.labeller import Choices, Labeller, LoadedNetwork
from tag2mask.segmentation.predict.photo_readers import ArrayPhoto
from tag2mask.segmentation.predict.working_size import enlarged_labels, shrunk_photo
from tests.segmentation.saved_net import CLASSES, tiny
from tests.segmentation.toy_net import MEAN, STD, Colours


def photo(height: int, width: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(20, 13), (64, 48), (7, 3), (1, 1)])
@pytest.mark.parametrize("band", [1, 900, 10**9])
def test_bands_give_what_the_whole_gives(size: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "_BAND", band)
    image = photo(97, 71)
    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    assert np.array_equal(shrunk_photo(ArrayPhoto(image), *size), np.asarray(expected))


@pytest.mark.parametrize("band", [1, 500, 10**9])
def test_labels_are_those_of_bilinear_probabilities(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "_BAND", band)
    probabilities = torch.rand(4, 9, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(probabilities[None].double(), (50, 31), mode="bilinear", align_corners=False)[0].argmax(0)
    assert np.array_equal(enlarged_labels(probabilities, 50, 31), expected.numpy())


class Sizes(Colours):
    """Notes the sizes that it is given."""

    def forward(self, images: Tensor) -> Tensor:
        self.sizes = [*getattr(self, "sizes", []), tuple(images.shape[-2:])]
        return super().forward(images)


def test_a_network_sees_photos_at_the_size_of_its_training() -> None:
    net = Sizes()
    network = LoadedNetwork(net, MEAN, STD, CLASSES, max_side=40)
    halves = np.zeros((90, 120, 3), np.uint8)
    halves[:, :60, 1] = halves[:, 60:, 2] = 200
    (labels,) = Labeller(network, Choices()).labels([ArrayPhoto(halves)])
    assert net.sizes == [(30, 40)]
    assert labels.shape == (90, 120)
    assert (labels[:, :59] == 1).all()
    assert (labels[:, 61:] == 2).all()
    Labeller(network, Choices()).labels([ArrayPhoto(halves[:20, :30])])
    Labeller(network, Choices(fit=(100, 60))).labels([ArrayPhoto(halves)])
    assert net.sizes[1:] == [(20, 30), (60, 80)], "small ones as they are, and as choices say"
    Labeller(network, Choices(tile=64, overlap=0)).labels([ArrayPhoto(halves)])
    assert net.sizes[3:] == [(64, 64), (64, 56), (58, 64), (58, 56)], "tiles are asked for at the photo's own size"


def test_photos_of_one_size_are_shrunk_into_one_batch() -> None:
    net = Sizes()
    labeller = Labeller(LoadedNetwork(net, MEAN, STD, CLASSES, max_side=40), Choices(), batch=3)
    photos = [ArrayPhoto(photo(90, 120, seed)) for seed in range(3)]
    found = labeller.labels(photos)
    assert net.sizes == [(30, 40)], "one pass for the three"
    for one, given in zip(found, photos, strict=True):
        assert np.array_equal(one, labeller.labels([given])[0])


def test_the_size_travels_with_the_network(tmp_path: Path) -> None:
    net = tiny()
    net.max_side = 50
    save_segmenter(net, tmp_path / "net.safetensors", CLASSES)
    assert load_segmenter(tmp_path / "net.safetensors")[0].max_side == 50
    model = tag2mask.load(tmp_path / "net.safetensors", device="cpu")
    image = photo(100, 80)
    assert model.network.max_side == 50
    assert model(image).labels.shape == (100, 80)
    model.save_pretrained(tmp_path / "saved")
    assert tag2mask.load(tmp_path / "saved", device="cpu").network.max_side == 50
