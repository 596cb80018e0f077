"""Overlays, panels and data URIs: colours at known pixels, sizes, errors."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.palette import colour
from tag2mask.report.pictures import data_uri, fit_within, heat_overlay, label_overlay
from tests.helpers.refused import refused

GREY = Image.new("RGB", (40, 20), (100, 100, 100))


def pixels(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.asarray(image).astype(np.int64)


def luminance(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(pixels(image) @ np.array([0.2126, 0.7152, 0.0722]))


def test_heat_rises_in_lightness_with_the_map() -> None:
    ramp = np.linspace(0, 1, 40, dtype=np.float32)[None].repeat(20, axis=0)
    light = luminance(heat_overlay(GREY, ramp))
    assert (np.diff(light, axis=1) > -1).all()
    assert light[0, -1] - light[0, 0] > 120
    assert (light == light[:1]).all()


def test_heat_of_strength_nothing_is_the_grey_image_and_of_one_the_map() -> None:
    half = np.full((2, 4), 0.5, np.float32)
    assert (pixels(heat_overlay(GREY, half, strength=0)) == 100).all()
    white = Image.new("RGB", (40, 20), "white")
    np.testing.assert_array_equal(pixels(heat_overlay(GREY, half, 1)), pixels(heat_overlay(white, half, 1)))


def test_heat_is_placed_where_the_map_is() -> None:
    corner = np.zeros((2, 4), np.float32)
    corner[0, 3] = 1
    light = luminance(heat_overlay(GREY, corner))
    assert np.unravel_index(light.argmax(), light.shape)[0] < 5
    assert np.unravel_index(light.argmax(), light.shape)[1] >= 35
    assert light[-1, 0] == light.min()


@pytest.mark.parametrize(
    "values", [np.zeros((1, 2, 2)), np.zeros((0, 4)), *(np.full((2, 2), v) for v in (1.2, -0.1, np.nan))]
)
def test_a_map_outside_its_range_is_refused(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    with pytest.raises(DataError, match=r"expected \(h, w\) with values in 0\.\.1"):
        heat_overlay(GREY, values.astype(np.float32))


def test_labels_are_tinted_outlined_and_hatched() -> None:
    labels = np.zeros((20, 40), np.uint8)
    labels[5:15, 5:15] = 3
    labels[:, 30:] = 255
    found = pixels(label_overlay(GREY, labels, strength=0.5))
    assert (found[0, 0] == 100).all()
    assert (found[10, 10] == np.rint(50 + np.array(colour(3)) / 2)).all()
    assert (found[5, 5:15] == 255).all()
    assert (found[5:15, 14] == 255).all()
    assert (found[4, 5:15] == 100).all()
    hatched = (found[:, 30:] != 100).any(axis=2)
    assert 0.4 < hatched.mean() < 0.6


def test_two_classes_that_touch_are_distinguished_by_an_outline() -> None:
    labels = np.ones((20, 40), np.uint8)
    labels[:, 20:] = 2
    white = (pixels(label_overlay(GREY, labels)) == 255).all(axis=2)
    assert white[:, 19:21].all()
    assert white.sum() == 40


def test_labels_of_another_size_are_refused() -> None:
    with refused(DataError, "labels have shape (40, 20)", "image (20, 40)", "resize the labels"):
        label_overlay(GREY, np.zeros((40, 20), np.uint8))


def test_fit_shrinks_and_never_enlarges() -> None:
    assert fit_within(Image.new("RGB", (1000, 500)), 100).size == (100, 50)
    assert fit_within(Image.new("RGB", (3, 1000)), 100).size == (1, 100)
    assert fit_within(GREY, 100) is GREY


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK", "P"])
def test_a_data_uri_is_a_small_jpeg(mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3)).astype(np.uint8)
    uri = data_uri(Image.fromarray(noise).convert(mode), 200)
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert (image.format, image.size) == ("JPEG", (200, 150))
    assert len(uri) < 60_000
