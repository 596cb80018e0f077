"""Photos to labels: as a whole, in tiles, at the size of the training; what the options refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import tag2mask
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.segmentation.networks.factory import load_segmenter, save_segmenter
from tag2mask.segmentation.predict import labeller as module
from tag2mask.segmentation.predict.labeller import Labeller, enlarged_labels, shrunk_photo
from tag2mask.segmentation.predict.logits import LoadedNetwork
from tag2mask.segmentation.predict.options import PredictionSettings, PredictOptions, PredictWords, Tiling
from tag2mask.segmentation.predict.photo_readers import ArrayPhoto
from tag2mask.segmentation.training_data import fit_factor
from tests.helpers.refused import refused
from tests.segmentation.saved_net import tiny
from tests.segmentation.toy_net import CLASSES, MEAN, STD, Colours, colours, convolutions, predict_labels


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(20, 13), (64, 48), (7, 3), (1, 1)])
@pytest.mark.parametrize("band", [1, 900, 10**9])
def test_bands_give_what_the_whole_gives(size: tuple[int, int], band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BAND", band)
    image = photo(97, 71)
    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    assert np.array_equal(shrunk_photo(ArrayPhoto(image), *size), np.asarray(expected))


@pytest.mark.parametrize("band", [1, 500, 10**9])
def test_labels_are_those_of_bilinear_probabilities(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BAND", band)
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
    (labels,) = Labeller(network, PredictOptions()).labels([ArrayPhoto(halves)])
    assert net.sizes == [(30, 40)]
    assert labels.shape == (90, 120)
    assert (labels[:, :59] == 1).all()
    assert (labels[:, 61:] == 2).all()
    Labeller(network, PredictOptions()).labels([ArrayPhoto(halves[:20, :30])])
    Labeller(network, PredictOptions(fit=(100, 60))).labels([ArrayPhoto(halves)])
    assert net.sizes[1:] == [(20, 30), (60, 80)], "small ones as they are, and as choices say"
    Labeller(network, PredictOptions(tile=64, overlap=0)).labels([ArrayPhoto(halves)])
    assert net.sizes[3:] == [(64, 64), (64, 56), (58, 64), (58, 56)], "tiles are meant at the photo's own size"


def test_a_network_sees_small_photos_at_the_size_of_its_training() -> None:
    net = Sizes()
    network = LoadedNetwork(net, MEAN, STD, CLASSES, max_side=100, min_side=80)
    halves = np.zeros((30, 40, 3), np.uint8)
    halves[:, :20, 1] = halves[:, 20:, 2] = 200
    (labels,) = Labeller(network, PredictOptions()).labels([ArrayPhoto(halves)])
    assert labels.shape == (30, 40)
    assert (labels[:, :20] == 1).all()
    assert (labels[:, 20:] == 2).all()
    Labeller(network, PredictOptions()).labels([ArrayPhoto(photo(90, 90))])
    Labeller(network, PredictOptions(fit=(100, 60))).labels([ArrayPhoto(halves)])
    assert net.sizes == [(60, 80), (90, 90), (60, 80)], "enlarged, as it is, and as choices say"
    expected = Image.fromarray(halves).resize((80, 60), Image.Resampling.BICUBIC)
    assert np.array_equal(shrunk_photo(ArrayPhoto(halves), 60, 80), np.asarray(expected))


def test_photos_of_one_size_are_shrunk_into_one_batch() -> None:
    net = Sizes()
    labeller = Labeller(LoadedNetwork(net, MEAN, STD, CLASSES, max_side=40), PredictOptions(), batch=3)
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
    before = (tmp_path / "net.safetensors").read_bytes()
    assert b"min_side" not in before
    net.min_side = 40
    save_segmenter(net, tmp_path / "net.safetensors", CLASSES)
    assert tag2mask.load(tmp_path / "net.safetensors", device="cpu").network.min_side == 40


def test_very_large_photos_are_tiled_without_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE", 700 * 900)
    net = Colours()
    labeller = Labeller(LoadedNetwork(net, MEAN, STD, CLASSES), PredictOptions())
    image = colours(800, 900)
    assert np.array_equal(labeller.labels([ArrayPhoto(image)])[0], image.argmax(-1))
    assert len(net.batches) == 4
    assert labeller.tiling((700, 900)) is None


@pytest.mark.parametrize(
    "raised",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_a_photo_that_does_not_fit_into_memory_says_what_to_do(raised: Exception) -> None:
    def full(images: object) -> None:
        raise raised

    labeller = Labeller(LoadedNetwork(full, MEAN, STD, CLASSES), PredictOptions())  # type: ignore[arg-type]
    with refused(DataError, "1 photos of 4 x 3", "memory", "--tile 512"):
        labeller.labels([ArrayPhoto(colours(3, 4))])


def test_other_errors_of_a_network_are_not_called_a_lack_of_memory() -> None:
    def broken(images: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    labeller = Labeller(LoadedNetwork(broken, MEAN, STD, CLASSES), PredictOptions())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        labeller.labels([ArrayPhoto(colours(3, 4))])


def test_fit_brings_photos_of_any_size_to_one() -> None:
    seen: list[tuple[int, ...]] = []

    class Sizes(Colours):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(tuple(images.shape[-2:]))
            return super().forward(images)

    labeller = Labeller(LoadedNetwork(Sizes(), MEAN, STD, CLASSES), PredictOptions(fit=(64, 16), scales=(1.0, 0.5)))
    for size in ((8, 10), (4, 40)):
        assert labeller.labels([ArrayPhoto(colours(*size))])[0].shape == size
    assert seen == [(16, 20), (8, 10), (6, 64), (3, 32)]


@pytest.mark.parametrize(
    "words",
    [{"fit": (64, 32)}, {"fit": (64, 32), "scales": (0.5, 1.0), "mirror": True}, {"scales": (0.25, 0.4)}],
)
def test_a_large_photo_that_is_fitted_first_is_computed_as_a_whole(
    words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WHOLE", 500 * 400)
    net, image = convolutions(2), np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    calls: list[Tensor] = []
    net.register_forward_pre_hook(lambda _, images: calls.extend(images))
    options = PredictOptions(**words)
    found = Labeller(LoadedNetwork(net, MEAN, STD, CLASSES), options).labels([ArrayPhoto(image)])[0]
    assert len(calls) == len(options.scales) * (2 if options.mirror else 1)
    scales = [scale * fit_factor(900, 1200, options.fit) for scale in options.scales]
    assert np.array_equal(found, predict_labels(net, image, MEAN, STD, scales, options.mirror))


def test_a_large_photo_that_is_fitted_first_has_its_crf_at_that_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE", 500 * 400)
    image = np.zeros((900, 1200, 3), np.uint8)
    image[:, :600, 1] = image[:, 600:, 2] = 200
    net = Colours()
    labeller = Labeller(LoadedNetwork(net, MEAN, STD, CLASSES), PredictOptions(fit=(64, 32), crf="deeplabv2"))
    found = labeller.labels([ArrayPhoto(image)])[0]
    assert net.batches == [1]
    assert (found[:, :582] == 1).all()
    assert (found[:, 618:] == 2).all()


def test_a_photo_that_a_scale_makes_large_is_tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WHOLE", 800 * 800)
    net, image = Colours(), colours(600, 800)
    labeller = Labeller(LoadedNetwork(net, MEAN, STD, CLASSES), PredictOptions(scales=(1.0, 1.5)))
    assert np.array_equal(labeller.labels([ArrayPhoto(image)])[0], image.argmax(-1))
    assert len(net.batches) == 4, "two tiles, two scales"
    assert PredictOptions(scales=(1.0, 1.5), tile=64).tiling() == Tiling(64, 10)


@pytest.mark.parametrize(
    ("words", "name", "value", "expected"),
    [
        ({"scales": ()}, "scales", "()", "at least 1 item"),
        ({"scales": (9.0,)}, "scales", "[9.0]", "above 0, up to 8"),
        ({"scales": (0.0, 1.0)}, "scales", "[0.0, 1.0]", "above 0, up to 8"),
        ({"scales": 1.0}, "scales", "1.0", "valid tuple"),
        ({"scales": "1,2"}, "scales", "'1,2'", "valid tuple"),
        ({"crf": "deeplab"}, "crf", "'deeplab'", "'deeplabv2'"),
        ({"overlap": 8}, "overlap", "8", "tile = 768"),
        ({"tile": 32}, "tile", "32", "at least 37 pixels"),
        ({"tile": 64.5}, "tile", "64.5", "valid integer"),
        ({"fit": 512}, "fit", "512", "[long side, short side]"),
        ({"fit": (512,)}, "fit", "(512,)", "[long side, short side]"),
        ({"fit": (16, 64)}, "fit", "(16, 64)", "[long side, short side]"),
        ({"fit": (float("inf"), 1)}, "fit.0", "inf", "finite number"),
        ({"precision": "float8"}, "precision", "'float8'", "'float32' or 'bfloat16'"),
        ({"tiles": 64}, "tiles", "", "did you mean 'tile'?"),
    ],
)
def test_options_are_checked_before_anything_is_computed(
    words: dict[str, object], name: str, value: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(PredictOptions, words, "")
    assert all(part in str(caught.value) for part in (name, value, expected))


def test_a_recipe_and_a_call_have_the_options_that_there_are() -> None:
    fields = PredictOptions.model_fields
    assert list(PredictWords.__annotations__) == list(fields)
    assert set(PredictionSettings.model_fields) - {"split"} == set(fields) - {"tile", "overlap", "precision"}
    given = PredictionSettings(scales=(0.5, 1.0), mirror=True, fit=(160, 100), crf="irn", split="val")
    assert given.options() == PredictOptions(scales=(0.5, 1.0), mirror=True, fit=(160, 100), crf="irn")


def test_batches_and_classes_are_checked() -> None:
    with pytest.raises(ConfigError, match="batch = 0: expected 1 or more"):
        Labeller(LoadedNetwork(Colours(), MEAN, STD, CLASSES), PredictOptions(), 0)
    wrong = Labeller(LoadedNetwork(Colours(), MEAN, STD, ("disc",)), PredictOptions())
    with refused(ConfigError, "gives 3 labels", "1 class names", "expected 2 labels"):
        wrong.labels([ArrayPhoto(colours(3, 4))])
