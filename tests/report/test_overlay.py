"""Layers over a photo: maps that decode to themselves, classes distinguished without hue, outlines, void."""

import base64
import io
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.report.pictures import (
    EDGE,
    HUES,
    PATTERNS,
    RIM,
    STRONG,
    WEAK,
    class_style,
    class_uri,
    heat_colours,
    ignored_uri,
    map_uri,
    quantised,
    swatch_uri,
)
from tests.helpers.refused import refused


def decoded(uri: str) -> Image.Image:
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def rgba(uri: str) -> NDArray[np.uint8]:
    return np.asarray(decoded(uri).convert("RGBA"))


def test_a_map_decodes_to_itself_within_one_255th_and_looks_like_a_heat_map() -> None:
    values = np.random.default_rng(0).random((2, 9, 13)).astype(np.float32)
    values[0, 0, :2] = 0, 1
    in_bytes = quantised(values, 13)
    for one, wanted in zip(in_bytes, values, strict=True):
        image = decoded(map_uri(one))
        assert image.mode == "P"
        assert np.abs(np.asarray(image) / 255 - wanted).max() <= 0.5 / 255 + 1e-6
        assert np.array_equal(np.asarray(image.convert("RGB")), heat_colours()[one])
    assert in_bytes[0, 0, :2].tolist() == [0, 255]


def test_every_value_has_its_own_colour_so_that_the_script_can_read_it_back() -> None:
    assert len({tuple(c) for c in heat_colours().tolist()}) == 256


def test_maps_that_are_too_large_are_averaged_to_the_bound() -> None:
    values = np.zeros((1, 100, 200), np.float32)
    values[0, :50, :100] = 1
    small = quantised(values, 50)
    assert small.shape == (1, 25, 50)
    assert small[0, :12, :25].min() == 255
    assert small[0, 13:].max() == small[0, :, 25:].max() == 0
    assert small[0, 12, 0] == 128, "half of the cell"
    assert quantised(np.zeros((0, 100, 200), np.float32), 50).shape == (0, 25, 50)


def test_values_that_are_no_map_are_refused() -> None:
    for wrong in (np.zeros((3, 3), np.float32), np.full((1, 2, 2), 1.5, np.float32), np.full((1, 2, 2), np.nan)):
        with refused(DataError, "maps for a page", "expected (K, h, w)", "values in 0..1"):
            quantised(wrong.astype(np.float32), 9)


def test_thirty_classes_have_a_hue_and_pattern_of_their_own_and_neighbours_differ_in_both() -> None:
    styles = [class_style(c) for c in range(30)]
    assert len(set(styles)) == 30
    assert len({s.colour for s in styles}) == len(HUES) == 6
    for one, other in combinations(styles[:5], 2):
        assert one.colour != other.colour
        assert one.pattern != other.pattern


def test_hues_differ_for_eyes_that_lack_a_cone() -> None:
    """Simulated as by Viénot, Brettel and Mollon (1999); the distance of a just noticeable difference is about 2."""
    simulations = {
        "protan": [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        "deutan": [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    }
    for matrix in simulations.values():
        labs = [_lab(np.array(matrix) @ _linear(hue)) for hue in HUES]
        assert min(float(np.linalg.norm(a - b)) for a, b in combinations(labs, 2)) > 8


def _linear(hue: str) -> NDArray[np.float64]:
    parts = np.array([int(hue[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt((to_xyz @ linear.clip(0, 1)) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_a_class_is_tint_pattern_white_edge_and_black_rim() -> None:
    labels = np.zeros((24, 24), np.uint8)
    labels[4:20, 4:20] = 2  # column 1
    pixels, style = rgba(class_uri(labels, 2)), class_style(1)
    assert style.pattern == "rising stripes"
    assert pixels[0, 0].tolist() == [0, 0, 0, 0]
    assert pixels[4, 4:20].tolist() == [list(EDGE)] * 16
    assert pixels[3, 4:20].tolist() == [list(RIM)] * 16
    tile = PATTERNS[style.pattern]
    for y, x in ((10, 10), (10, 14), (11, 13)):
        assert pixels[y, x].tolist() == [*style.rgb, STRONG if tile[y % 8, x % 8] else WEAK]
    inner = pixels[5:19, 5:19, 3]
    assert set(np.unique(inner)) == {STRONG, WEAK}
    assert (inner == STRONG).mean() == pytest.approx(0.5, abs=0.05)


def test_touching_classes_have_edges_and_no_rim_between_them() -> None:
    labels = np.ones((10, 20), np.uint8)
    labels[:, 10:] = 2
    one, two = rgba(class_uri(labels, 1)), rgba(class_uri(labels, 2))
    assert (one[:, 9] == EDGE).all()
    assert (two[:, 10] == EDGE).all()
    assert (one[:, 10:] == 0).all()
    assert (two[:, :10] == 0).all()


def test_an_ignored_pixel_is_hatched_and_no_class() -> None:
    labels = np.full((16, 16), 255, np.uint8)
    labels[:4] = 0
    void = rgba(ignored_uri(labels))
    assert (void[:4] == 0).all()
    assert len(np.unique(void[4:].reshape(-1, 4), axis=0)) == 2
    assert (rgba(class_uri(labels, 1)) == 0).all()


def test_swatches_differ_in_more_than_hue() -> None:
    alphas = [rgba(swatch_uri(c))[..., 3].tobytes() for c in range(5)]
    assert len(set(alphas)) == 5
