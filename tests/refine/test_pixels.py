"""The pixel model: its features, widths and neighbourhoods by hand, and what it learns of drawn lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tag2mask.core.errors import DataError, WeightsError
from tag2mask.refine.crf.presets import PRESETS
from tag2mask.refine.pixels.features import COUNT, REACH, pixel_features
from tag2mask.refine.pixels.learning import Learning, RegionPixels
from tag2mask.refine.pixels.model import PixelModels, load_pixels, save_pixels
from tag2mask.refine.pixels.regions import kernels_for, median_width, region_width, standing_out
from tests.helpers.refused import refused

SIDE = 64
Picture = tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]


def textured(rng: np.random.Generator) -> NDArray[np.float64]:
    """(H, W, 3) of a rough ground: noise, and shades that are wider than a line."""
    rough = rng.normal(0, 8, (SIDE, SIDE, 1)) + ndimage.gaussian_filter(rng.normal(0, 120, (SIDE, SIDE, 1)), (5, 5, 0))
    return np.repeat(140 + rough, 3, axis=2)


def with_line(seed: int) -> Picture:
    """A dark line two pixels wide across a rough ground, where it is, and the fat region of a coarse map."""
    rng = np.random.default_rng(seed)
    image, line = textured(rng), np.zeros((SIDE, SIDE), bool)
    slope, start = rng.uniform(-0.4, 0.4), rng.uniform(20, 44)
    for x in range(SIDE):
        y = int(start + slope * (x - SIDE / 2))
        line[y : y + 2, x] = True
    image[line] -= 55
    return np.clip(image, 0, 255).astype(np.uint8), line, ndimage.binary_dilation(line, iterations=7)


def without_line(seed: int) -> NDArray[np.uint8]:
    return np.clip(textured(np.random.default_rng(seed)), 0, 255).astype(np.uint8)


def iou(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    return float((found & truth).sum() / (found | truth).sum())


# Features


def test_features_have_a_row_for_each_pixel_and_are_zero_of_a_plain_image() -> None:
    found = pixel_features(np.full((5, 7, 3), 90, np.uint8))
    assert found.shape == (35, COUNT)
    assert found.dtype == np.float32
    assert (found == 0).all()


def test_features_are_those_of_another_exposure() -> None:
    """Half the contrast on another grey is the same picture; whole levels keep it free of rounding."""
    image = np.random.default_rng(0).integers(0, 60, (24, 20, 3)).astype(np.uint8) * 2
    np.testing.assert_allclose(pixel_features(image // 2 + 70), pixel_features(image), atol=0.1)


def test_features_of_a_mirrored_image_are_mirrored() -> None:
    image = np.random.default_rng(1).integers(0, 256, (18, 22, 3)).astype(np.uint8)
    plane = pixel_features(image).reshape(18, 22, COUNT)
    np.testing.assert_allclose(pixel_features(image[:, ::-1].copy()).reshape(18, 22, COUNT)[:, ::-1], plane, atol=1e-3)


def test_a_pixel_beyond_the_reach_changes_a_feature_by_its_scale_alone() -> None:
    image = np.random.default_rng(2).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    other = image.copy()
    other[20, 30] = 255 - other[20, 30]
    before, after = (pixel_features(one).reshape(40, 60, COUNT)[20] for one in (image, other))
    near, far = abs(after - before)[30 - 1 : 30 + 2].max(), abs(after - before)[: 30 - REACH].max()
    assert near > 1
    assert far < 0.02


def test_a_dark_line_and_a_dark_spot_differ_by_the_smaller_curvature() -> None:
    image = np.full((48, 48, 3), 200, np.uint8)
    image[8:10] = 60
    image[34:36, 23:25] = 60
    plane = pixel_features(image).reshape(48, 48, COUNT)
    larger, smaller = plane[..., 6], plane[..., 7]  # at 1.5 pixels
    assert larger[8, 5] > 5
    assert larger[34, 23] > 5
    assert smaller[34, 23] > 5 > abs(smaller[8, 5])


@pytest.mark.parametrize(
    ("image", "said"),
    [(np.zeros((4, 4), np.uint8), "(4, 4)"), (np.zeros((4, 4, 3), np.float32), "float32")],
    ids=["grey", "float"],
)
def test_other_arrays_are_refused(image: NDArray[np.uint8], said: str) -> None:
    with refused(DataError, said, "(height, width, 3)"):
        pixel_features(image)


# Regions


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8])
def test_the_width_of_a_strip_is_its_width(width: int) -> None:
    region = np.zeros((40, 400), bool)
    region[10 : 10 + width] = True
    assert region_width(region) == pytest.approx(width, abs=1)


def test_the_width_of_a_disc_is_two_thirds_of_its_diameter_and_none_is_0() -> None:
    y, x = np.mgrid[:101, :101]
    disc = (y - 50) ** 2 + (x - 50) ** 2 <= 30**2
    assert region_width(disc) == pytest.approx(40, rel=0.05)
    assert region_width(np.zeros((3, 3), bool)) == 0
    assert median_width([disc, np.zeros((3, 3), bool)]) == region_width(disc)
    assert median_width([]) == 0


def test_kernels_shrink_with_the_things_and_never_grow() -> None:
    irn = PRESETS["irn"]
    assert kernels_for(irn, 100, 100) is irn
    assert kernels_for(irn, 0, 100) is irn
    half = kernels_for(irn, 50, 100)
    assert (half.bilateral_sxy, half.gaussian_sxy) == (25, 1.5)
    assert (half.bilateral_srgb, half.bilateral_compat, half.gaussian_compat) == (5, 10, 3)
    tiny = kernels_for(irn, 0.01, 100)
    assert (tiny.bilateral_sxy, tiny.gaussian_sxy) == (50 / 16, 1)
    assert kernels_for(PRESETS["deeplabv2"], 10, 100).gaussian_sxy == 1  # as published


def test_what_stands_out_is_above_the_quantile_of_its_window() -> None:
    """Against a loop over windows, cut at the sides of the image as they lie nearest to it."""
    rng = np.random.default_rng(3)
    region = rng.random((9, 11)) < 0.6
    scores = rng.normal(size=int(region.sum())).astype(np.float32)
    plane = np.full(region.shape, -np.inf, np.float32)
    plane[region] = scores
    padded, expected = np.pad(plane, 2, mode="edge"), np.zeros(region.shape, bool)
    for y, x in zip(*np.nonzero(region), strict=True):
        window = np.sort(padded[y : y + 5, x : x + 5].ravel())
        expected[y, x] = plane[y, x] > window[int(len(window) * 0.8)]
    assert (standing_out(scores, region, 0.2, 5) == expected[region]).all()


# Learning


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [with_line(seed) for seed in range(10)]


def pixels(pictures: list[Picture]) -> list[RegionPixels]:
    rng = np.random.default_rng(0)
    return [RegionPixels.of(image, region, rng) for image, _, region in pictures]


def ground(n: int = 6) -> list[RegionPixels]:
    rng = np.random.default_rng(1)
    return [RegionPixels.of(without_line(100 + i), np.zeros((SIDE, SIDE), bool), rng) for i in range(n)]


def test_lines_are_found_in_regions_eight_times_as_wide(pictures: list[Picture], tmp_path: Path) -> None:
    net = Learning(0.08, 3, 18, 0).model(pixels(pictures[:8]), ground())
    models = PixelModels(("dust", "crack"), {1: net})
    save_pixels(models, tmp_path / "a.safetensors")
    loaded = load_pixels(tmp_path / "a.safetensors", ("dust", "crack"))
    for image, line, region in pictures[8:]:
        likely = models.probabilities(image, (0, 1))
        assert list(likely) == [1], "the other class has no model"
        assert (loaded.probabilities(image, (1,))[1] == likely[1]).all()
        assert iou(region, line) < 0.15
        assert iou(region & (likely[1] > 0.5), line) > 0.3, "the line, with its edge or a part of it"
    save_pixels(loaded, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_learning_depends_on_its_seed_alone(pictures: list[Picture]) -> None:
    first, again, other = (Learning(0.1, 0, 18, seed).model(pixels(pictures[:3]), []) for seed in (4, 4, 5))
    rows = pixels(pictures[:1])[0].inside
    assert (first.scores(rows) == again.scores(rows)).all()
    assert (first.scores(rows) != other.scores(rows)).any()


def test_a_colour_tells_things_apart_that_are_wider_than_any_band() -> None:
    """Green discs of 40 pixels on brown, as bright as the ground and as rough: inside of them no band says anything."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:128, :128]
    disc = (y - 64) ** 2 + (x - 64) ** 2 < 20**2
    colours = np.where(disc[..., None], [70, 130, 52], [120, 104, 60]) + rng.normal(0, 12, (128, 128, 3))
    found = pixel_features(colours.clip(0, 255).astype(np.uint8)).reshape(128, 128, COUNT)
    apart = abs(found[56:72, 56:72].mean((0, 1)) - found[4:20, 4:20].mean((0, 1)))
    assert sorted(np.flatnonzero(apart > 1)) == [COUNT - 9, COUNT - 8, COUNT - 1], "both colours, one of them twice"
    assert sorted(apart)[-4] < 1


def test_models_of_other_classes_are_refused(tmp_path: Path) -> None:
    save_pixels(PixelModels(("a", "b"), {}), tmp_path / "w.safetensors")
    assert load_pixels(tmp_path / "w.safetensors", ("a", "b")).probabilities(np.zeros((2, 2, 3), np.uint8), (0,)) == {}
    with refused(WeightsError, "'a', 'b'", "'c'", "data.classes"):
        load_pixels(tmp_path / "w.safetensors", ("c",))
