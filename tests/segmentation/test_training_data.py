"""The augmentation of images with masks."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError
from tag2mask.data.transforms import seeded
from tag2mask.segmentation import training_data as transforms
from tag2mask.segmentation.settings import SegmentTrainSettings
from tag2mask.segmentation.training_data import SegmentTransform, fit_factor, largest_share, photometric, saturated

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.5)
SIZE = (40, 60)


def transform(**values: Any) -> SegmentTransform:
    return SegmentTransform(
        validate(SegmentTrainSettings, {"rescale": (1, 1), "crop": 80, **values}, "train"), MEAN, STD
    )


def photo(mask: np.ndarray) -> Image.Image:
    """An image whose red tells the label: 40 a label; blue is a gradient."""
    pixels = np.zeros((*mask.shape, 3), dtype=np.uint8)
    pixels[..., 0] = mask * 40
    pixels[..., 2] = np.arange(mask.shape[1])[None] * 3
    return Image.fromarray(pixels)


def halves() -> np.ndarray:
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[:, :23], mask[25:, 40:] = 1, 3
    return mask


def red(image: torch.Tensor) -> torch.Tensor:
    """Red in 0..255 of a normalised image."""
    return (image[0] * STD[0] + MEAN[0]) * 255


def test_what_the_crop_lacks_is_255_and_the_mean_colour_on_the_right_and_below() -> None:
    mask = halves()
    for index in range(6):
        with seeded(0, 0, index):
            image, labels = transform()(photo(mask), mask)
        assert (image.shape, labels.shape, labels.dtype) == ((3, 80, 80), (80, 80), torch.uint8)
        assert (labels[40:] == 255).all()
        assert (labels[:, 60:] == 255).all()
        assert (image[:, 40:] == 0).all()
        assert (image[:, :, 60:] == 0).all()
        shown = labels[:40, :60]
        assert torch.equal(shown, torch.from_numpy(mask)) or torch.equal(shown, torch.from_numpy(mask).flip(1))
        torch.testing.assert_close(red(image)[:40, :60], shown.float() * 40, rtol=0, atol=1e-3)


def test_image_and_mask_move_together() -> None:
    mask = halves()
    seen = set()
    for index in range(12):
        with seeded(1, 0, index):
            image, labels = transform(rescale=(0.5, 2.0), crop=32)(photo(mask), mask)
        inside = (labels != 255).float()
        same = F.max_pool2d(labels[None].float(), 7, 1, 3) == -F.max_pool2d(-labels[None].float(), 7, 1, 3)
        clear = same[0] & (labels != 255)  # away from borders, where bilinear mixes colours
        assert clear.float().mean() > 0.2
        torch.testing.assert_close(red(image)[clear], labels[clear].float() * 40, rtol=0, atol=1.5)
        seen.add((int(inside.sum()), labels.float().mean().item()))
    assert len(seen) > 8


def test_factors_are_those_listed_and_sizes_are_rounded_down() -> None:
    mask = np.ones((33, 51), dtype=np.uint8)
    sizes = set()
    for index in range(40):
        with seeded(0, 0, index):
            _, labels = transform(scales=(0.5, 0.75, 1.25), crop=100)(photo(mask), mask)
        inside = labels != 255
        sizes.add((int(inside.any(1).sum()), int(inside.any(0).sum())))
    assert sizes == {(16, 25), (24, 38), (41, 63)}


def test_resizing_is_bilinear_without_antialiasing() -> None:
    """Every second pixel's corner mean, as F.interpolate has it; antialiasing would look at four in a row."""
    mask = np.zeros(SIZE, dtype=np.uint8)
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    with seeded(0, 0, 0):
        image, _ = transform(scales=(0.5,), crop=20)(Image.fromarray(pixels), mask)
    values = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    half = F.interpolate(values, (20, 30), mode="bilinear", align_corners=False)[0, 0]
    windows = [half[:, left : left + 20] for left in range(11)]
    found = red(image)
    assert min(min((w - found).abs().max(), (w.flip(1) - found).abs().max()) for w in windows) <= 1.01


def test_images_are_first_brought_into_a_box() -> None:
    assert fit_factor(375, 500, (2048, 512)) == pytest.approx(512 / 375)
    assert fit_factor(100, 1000, (2048, 512)) == pytest.approx(2.048)
    assert fit_factor(1000, 100, (2048, 512)) == pytest.approx(2.048)
    assert fit_factor(375, 500, None) == 1
    mask = np.ones((20, 40), dtype=np.uint8)
    with seeded(0, 0, 0):
        _, labels = transform(fit=(200, 60), crop=130)(photo(mask), mask)
    assert (int((labels != 255).any(1).sum()), int((labels != 255).any(0).sum())) == (60, 120)


def test_share_of_the_commonest_label() -> None:
    assert largest_share(torch.tensor([[0, 0, 255], [2, 0, 255]])) == 0.75
    assert largest_share(torch.tensor([[2, 2]])) == math.inf
    assert largest_share(torch.tensor([[255, 255]])) == math.inf


def test_crops_that_one_label_fills_are_drawn_anew() -> None:
    """A class in one corner of a large image: with a limit its share of the crops is larger."""
    mask = np.zeros((200, 200), dtype=np.uint8)
    mask[:100, :100] = 1
    filled = {}
    for limit in (None, 0.75):
        crops = []
        for index in range(60):
            with seeded(0, 0, index):
                crops.append(transform(max_share=limit, crop=60)(photo(mask), mask)[1])
        filled[limit] = sum(largest_share(labels) >= 0.75 for labels in crops) / len(crops)
    assert filled[None] > 0.5
    assert filled[0.75] < 0.15


def test_same_seed_same_crop_other_index_other() -> None:
    mask = halves()
    found = []
    for index in (0, 0, 1):
        with seeded(5, 2, index):
            found.append(transform(photometric=True, rescale=(0.5, 2))(photo(mask), mask)[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_saturation_is_that_of_hsv() -> None:
    torch.manual_seed(0)
    image = torch.rand(3, 4, 5)
    image[:, 0, 0], image[:, 0, 1] = 0, 0.3  # black and grey
    for factor in (0.0, 0.5, 1.0, 1.4):
        found = saturated(image, factor)
        for y, x in np.ndindex(4, 5):
            h, s, v = colorsys.rgb_to_hsv(*image[:, y, x].tolist())
            expected = colorsys.hsv_to_rgb(h, min(1, s * factor), v)
            assert found[:, y, x].tolist() == pytest.approx(expected, abs=1e-5)


def test_colours_change_within_their_range_and_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(transforms, "_coin", lambda: False)
    assert torch.equal(photometric(image), image)
    monkeypatch.undo()
    torch.manual_seed(1)
    for _ in range(50):
        found = photometric(image)
        assert 0 <= found.min() <= found.max() <= 1
    answers = iter([True, False, False, False, False])
    monkeypatch.setattr(transforms, "_coin", lambda: next(answers))
    monkeypatch.setattr(transforms, "_between", lambda low, high: high)
    torch.testing.assert_close(photometric(image), (image + 32 / 255).clamp(0, 1))
    answers = iter([False, True, True, False, False])
    torch.testing.assert_close(photometric(image), (image * 1.5).clamp(0, 1))
    answers = iter([False, False, False, False, True])
    torch.testing.assert_close(photometric(image), (image * 1.5).clamp(0, 1))
    answers = iter([False, False, False, True, False])
    turned = photometric(image)
    h, s, v = colorsys.rgb_to_hsv(*image[:, 3, 3].tolist())
    assert turned[:, 3, 3].tolist() == pytest.approx(colorsys.hsv_to_rgb((h + 0.1) % 1, s, v), abs=1e-4)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"rescale": (2, 1)}, r"rescale = [2.0, 1.0]: expected [smallest, largest], both above 0"),
        ({"scales": (1, 0)}, r"scales = [1.0, 0.0]: expected factors above 0"),
        ({"fit": (10, 20)}, r"expected [long side, short side] in pixels, both at least 1"),
        ({"crop": 0}, "setting 'train.crop' = 0"),
        ({"iterations": 10, "warmup": 10}, "warmup = 10: expected fewer than iterations = 10"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(SegmentTrainSettings, values, "train")
    assert text in str(caught.value)
