from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.core.errors import DataError, WeightsError
from tag2mask.inference.runner import image_tensor
from tag2mask.refine.crf.presets import PRESETS
from tag2mask.segmentation.networks.factory import build_segmenter
from tag2mask.segmentation.predict.logits import LoadedNetwork, predict_batch
from tag2mask.segmentation.settings import NetworkSettings
from tests.helpers.refused import refused
from tests.segmentation.toy_net import CLASSES, MEAN, STD, Colours, convolutions, predict_labels, predict_probabilities


def photo(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_one_view_is_the_softmax_of_the_resized_logits() -> None:
    def net(images: Tensor) -> Tensor:
        return F.avg_pool2d(images, 4) * 3

    image = photo(16, 24)
    found = predict_probabilities(net, image, (0.5, 0.4, 0.3), (0.2, 0.3, 0.5))
    normal = (torch.from_numpy(image).float() / 255 - torch.tensor([0.5, 0.4, 0.3])) / torch.tensor([0.2, 0.3, 0.5])
    logits = F.interpolate(net(normal.permute(2, 0, 1)[None]), (16, 24), mode="bilinear", align_corners=False)
    assert found.shape == (3, 16, 24)
    torch.testing.assert_close(found, logits[0].softmax(0), atol=1e-5, rtol=0)


def test_two_views_average_probabilities_and_not_logits() -> None:
    # The net says (0, a) for the photo as given and (0, b) for the smaller one: by its width.
    def net(images: Tensor) -> Tensor:
        value = 4.0 if images.shape[-1] == 8 else -1.0
        return torch.stack([torch.zeros_like(images[:, 0]), torch.full_like(images[:, 0], value)], dim=1)

    found = predict_probabilities(net, photo(8, 8), MEAN, STD, scales=(1.0, 0.5))
    sigmoid = [1 / (1 + math.exp(-value)) for value in (4.0, -1.0)]
    assert found[1].numpy() == pytest.approx(sum(sigmoid) / 2, abs=1e-6)
    assert found.sum(0).numpy() == pytest.approx(1, abs=1e-6)


def test_scales_equal_a_slow_reference() -> None:
    from PIL import Image

    net, image = convolutions(2), photo(13, 9)
    views = []
    for size in ((13, 9), (20, 14)):  # round(13 * 1.5) = 20 (19.5 to even), round(9 * 1.5) = 14 (13.5 to even)
        view = image_tensor(Image.fromarray(image), size, MEAN, STD)[None]
        for flip in (False, True):
            with torch.no_grad():
                logits = net(view.flip(-1)).flip(-1) if flip else net(view)
            views.append(F.interpolate(logits, (13, 9), mode="bilinear", align_corners=False).softmax(1)[0])
    found = predict_probabilities(net, image, MEAN, STD, scales=(1.0, 1.5), mirror=True)
    torch.testing.assert_close(found, torch.stack(views).mean(0), atol=1e-6, rtol=0)


def test_with_mirror_the_mirror_image_gives_the_mirrored_result() -> None:
    net, image = convolutions(3), photo(10, 15)
    there = predict_probabilities(net, image, MEAN, STD, mirror=True)
    back = predict_probabilities(net, np.ascontiguousarray(image[:, ::-1]), MEAN, STD, mirror=True)
    torch.testing.assert_close(there, back.flip(-1), atol=1e-6, rtol=0)
    alone = predict_probabilities(net, image, MEAN, STD)
    assert not torch.allclose(there, alone, atol=1e-3)


def test_a_batch_is_its_photos_one_by_one() -> None:
    net, images = convolutions(2), [photo(7, 11, seed) for seed in range(3)]
    found = predict_batch(LoadedNetwork(net, MEAN, STD, CLASSES), images, scales=(1.0, 0.7), mirror=True)
    for one, image in zip(found, images, strict=True):
        alone = predict_probabilities(net, image, MEAN, STD, scales=(1.0, 0.7), mirror=True)
        torch.testing.assert_close(one, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (33, 2)])
def test_any_size_is_predicted_at_its_own_size(size: tuple[int, int]) -> None:
    image = photo(*size)
    labels = predict_labels(Colours(), image, MEAN, STD, scales=(0.5, 1.0))
    assert labels.shape == size
    alone = predict_labels(Colours(), image, MEAN, STD)
    assert np.array_equal(alone, image.argmax(-1))
    assert alone.dtype == np.uint8


def test_equal_labels_give_the_lowest() -> None:
    grey = np.full((2, 3, 3), 90, np.uint8)
    assert predict_labels(Colours(), grey, MEAN, STD).max() == 0


def test_bfloat16_is_near_float32_and_float32_outside() -> None:
    net, image = convolutions(1), photo(8, 8)
    exact = predict_probabilities(net, image, MEAN, STD)
    rough = predict_probabilities(net, image, MEAN, STD, precision="bfloat16")
    assert rough.dtype == torch.float32
    assert 0 < float((rough - exact).abs().max()) < 0.02


def test_the_crf_sees_the_photo_itself() -> None:
    # A red half and a green half; the network is wrong at one pixel, which has its half's colour.
    image = np.zeros((12, 12, 3), np.uint8)
    image[:, :6, 0] = image[:, 6:, 1] = 200

    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits = images * 2
            logits[..., 5, 2] = torch.tensor([0.0, 1.0, 0.0])
            return logits

    without = predict_labels(Wrong(), image, MEAN, STD)
    with_crf = predict_labels(Wrong(), image, MEAN, STD, crf=PRESETS["deeplabv2"])
    assert without[5, 2] == 1
    expected = np.zeros((12, 12), np.uint8)
    expected[:, 6:] = 1
    assert np.array_equal(with_crf, expected)


def test_the_device_is_that_of_the_weights() -> None:
    assert LoadedNetwork(nn.Conv2d(3, 2, 1, device="meta"), MEAN, STD, CLASSES).device == torch.device("meta")
    assert LoadedNetwork(lambda images: images, MEAN, STD, CLASSES).device == torch.device("cpu")


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), "u1")]
)
def test_what_is_no_photo_is_refused(image: NDArray[np.uint8]) -> None:
    with refused(DataError, "a photo has shape", "expected (H, W, 3) uint8"):
        predict_labels(Colours(), image, MEAN, STD)


def test_photos_of_two_sizes_are_no_batch() -> None:
    colours = LoadedNetwork(Colours(), MEAN, STD, CLASSES)
    with refused(DataError, "2 sizes", "[(4, 4), (4, 5)]"):
        predict_batch(colours, [photo(4, 4), photo(4, 5)])
    with refused(DataError, "a batch", "0 sizes"):
        predict_batch(colours, [])


def test_a_network_without_numbers_is_named() -> None:
    with refused(WeightsError, "the network's output", "NaN or infinite"):
        predict_labels(lambda images: images * float("nan"), photo(4, 4), MEAN, STD)


def test_a_network_that_does_not_run_is_reported_with_the_size_of_the_photo() -> None:
    settings = NetworkSettings(encoder="test_efficientnet", weights="none", decoder={"decoder_interpolation": "cubist"})
    net = build_segmenter(settings, 2).eval()
    with refused(DataError, "images of 33 x 20 pixels", "Give larger ones"):
        predict_labels(net, np.zeros((20, 33, 3), np.uint8), net.mean, net.std)
