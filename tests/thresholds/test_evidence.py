"""The classifier asked about regions: what it is shown, what the answers become, a network from its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import METRICS_JSON, WEIGHTS, save_network
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.config.engine import Engine
from tag2mask.core.errors import DataError
from tag2mask.core.files import write_json
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.evidence import PROBED
from tag2mask.evaluation.threshold_rules.rules import RULES
from tag2mask.methods.cam.classifier import LoadedClassifier
from tag2mask.thresholds.evidence import Erased, erasures, probe, regions
from tests.helpers.refused import refused


class Bright(nn.Module):
    """Sure of class 0 where at least four fifths of the object's 16 pixels are bright; never of class 1."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        bright = (images[:, 0] > 0.5).flatten(1).sum(1)
        return torch.stack([torch.where(bright >= 13, 20.0, -20.0), torch.full((len(images),), -20.0)], dim=1)


def asked(net: Any) -> LoadedClassifier:
    return LoadedClassifier(net, ("a", "b"), 8, torch.device("cpu"))


def photo() -> Erased:
    """8 x 8 pixels; the object is 4 x 4 bright ones where the map is 0.62, 0.3 around it, 0.1 beyond."""
    image = torch.zeros(3, 8, 8)
    image[:, 2:6, 2:6] = 1
    values = torch.full((8, 8), 0.1)
    values[1:7, 1:7] = 0.3
    values[2:6, 2:6] = 0.62
    return Erased(Sample("a", (0,)), ActivationMaps((0,), values[None]), image, torch.zeros(3, 8, 8))


def test_answers_become_gains_beside_what_the_area_is_worth() -> None:
    found = probe(asked(Bright()), photo())
    gains, trivial = found.whole.T
    whole = np.array([t < 0.62 for t in PROBED])  # the object is kept whole, and erased whole
    np.testing.assert_allclose(gains, np.where(whole, 1.0, -1.0), atol=1e-6)
    areas = np.array([1.0 if t < 0.1 else 36 / 64 if t < 0.3 else 16 / 64 if t < 0.62 else 0.0 for t in PROBED])
    np.testing.assert_allclose(trivial, 2 * areas - 1, atol=1e-6)
    best = RULES["classifier"].choose(found.whole)
    assert best is not None
    assert 0.3 <= best < 0.62
    assert best == pytest.approx(0.45), "the middle of 0.30 to 0.60"
    assert RULES["classifier-plain"].choose(found.whole) == pytest.approx(0.325), "of all that hold the object"


def test_what_is_shown_is_the_image_inside_a_region_and_the_filling_outside() -> None:
    net: Any = Bright()
    given = photo()
    filled = Erased(given.sample, given.maps, given.image, torch.full((3, 8, 8), 0.25))
    probe(asked(net), filled)
    shown = torch.cat(net.seen)
    assert len(shown) == 2 + 2 * len(PROBED)
    assert torch.equal(shown[0], given.image)
    assert torch.equal(shown[1], filled.fill)
    place = PROBED.index(0.5)
    mask = given.maps.maps[0] > 0.5
    assert torch.equal(shown[2 + place], torch.where(mask, given.image, filled.fill))
    assert torch.equal(shown[2 + len(PROBED) + place], torch.where(mask, filled.fill, given.image))


def test_regions_are_the_seeds_of_each_class() -> None:
    maps = torch.tensor([[[0.6, 0.2, 0.5]], [[0.3, 0.7, 0.5]]])
    found = regions(maps)
    assert found.shape == (2, len(PROBED), 1, 3)
    at = PROBED.index(0.4)
    assert found[0, at].tolist() == [[True, False, True]], "a tie goes to the lower class"
    assert found[1, at].tolist() == [[False, True, False]]
    assert not found[:, PROBED.index(0.5)][:, 0, 2].any(), "0.5 is not above 0.5"


class Two(Dataset):
    """Two noisy images and one without tags."""

    name, split, classes, has_truth = "two", "all", ("a", "b"), False

    def __init__(self) -> None:
        self.samples = [Sample("x", (0,)), Sample("y", (0, 1)), Sample("z", ())]

    def image(self, sample: Sample) -> Image.Image:
        rng = np.random.default_rng(ord(sample.id))
        return Image.fromarray(rng.integers(0, 255, (40, 56, 3), dtype=np.uint8))

    def truth(self, sample: Sample) -> Any:
        raise AssertionError("a rule looks at no truth")


def maps_of(sample: Sample) -> ActivationMaps:
    generator = torch.Generator().manual_seed(ord(sample.id))
    return ActivationMaps(sample.tags, torch.rand(len(sample.tags), 10, 14, generator=generator))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    net = build_network(BackboneSettings(name="test_efficientnet", weights="none", stride=8), 2)
    save_network(net, folder / WEIGHTS, ("a", "b"))
    write_json(folder / METRICS_JSON, {"long_side": 28})
    return folder


@pytest.mark.parametrize("fill", ["mean", "blur"])
def test_a_classifier_from_its_files_is_asked_about_every_image_with_a_tag(classifier: Path, fill: str) -> None:
    counted: list[int] = []
    dataset = Two()
    found = list(
        erasures(classifier, dataset, maps_of, dataset.samples, fill, Engine(device="cpu"), lambda: counted.append(1))
    )
    assert [(image.id, image.columns) for image in found] == [("x", (0,)), ("y", (0, 1))]
    assert len(counted) == 3
    assert all(np.abs(image.classes).max() <= 1 for image in found)
    assert all(np.isfinite(image.classes).all() and np.ptp(image.whole[:, 0]) > 0 for image in found)


def test_fillings_differ(classifier: Path) -> None:
    dataset = Two()

    def gains(fill: str) -> Any:
        images = erasures(classifier, dataset, maps_of, dataset.samples[:1], fill, Engine(device="cpu"), lambda: None)
        return next(iter(images)).whole

    assert np.abs(gains("mean") - gains("blur")).max() > 1e-6


def test_a_classifier_of_other_classes_is_refused(classifier: Path) -> None:
    dataset = Two()
    dataset.classes = ("a", "c")
    images = erasures(classifier, dataset, maps_of, dataset.samples, "mean", Engine(device="cpu"), lambda: None)
    with refused(DataError, "['a', 'c']", "was trained on ['a', 'b']"):
        list(images)
