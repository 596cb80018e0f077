"""How feature cells lie on the image: the published aligned grid, against slow loops, at every stride and scale."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image
from torch import Tensor

from tag2mask.config.settings import key_values, validate
from tag2mask.core.errors import ConfigError
from tag2mask.core.progress import Counter
from tag2mask.core.resize import bilinear, bilinear_part
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.multiscale import CAMHead, merge_scales, pair_features
from tag2mask.inference.runner import MapTask, image_tensor, make_maps
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.lpcam.kinds import LpcamSettings
from tests.backbones.make import network
from tests.training.toy import Drawn

SIZES = [(37, 53), (64, 80), (33, 49), (5, 90), (61, 7)]
SCALES = (1.0, 0.5, 2.0)
ALIGNED = MapsSettings(scales=SCALES, grid="aligned")
HEAD = CAMHead(torch.rand(2, 3, generator=torch.Generator().manual_seed(3)))
BOTH = torch.arange(2)


def pyramid(size: tuple[int, int], stride: int) -> list[Tensor]:
    """Features of an image and its mirror image at each scale, as many cells as a convolutional network gives."""
    generator = torch.Generator().manual_seed(sum(size) + stride)
    sides = [[math.ceil(round(side * scale) / stride) for side in size] for scale in SCALES]
    return [torch.rand(2, 3, *map(int, cells), generator=generator) for cells in sides]


def at(plane: list[list[float]], y: float, x: float) -> float:
    """Bilinear value at (y, x) in cells, whose middles are the whole numbers; beyond the border the border's."""
    y, x = min(max(y, 0.0), len(plane) - 1), min(max(x, 0.0), len(plane[0]) - 1)
    top, left = min(int(y), len(plane) - 1), min(int(x), len(plane[0]) - 1)
    below, right = min(top + 1, len(plane) - 1), min(left + 1, len(plane[0]) - 1)
    upper = plane[top][left] * (1 - (x - left)) + plane[top][right] * (x - left)
    lower = plane[below][left] * (1 - (x - left)) + plane[below][right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def looped(features: list[Tensor], size: tuple[int, int], stride: int, out: tuple[int, int]) -> Tensor:
    """The published maps at the middles of ``out`` cells that fill the image: one place after the other, float64.

    Published: each scale's map is enlarged to ceil(side / stride) stride pixels a side, and cut to the image.
    """
    large = [math.ceil(side / stride) * stride for side in size]
    maps = torch.zeros(2, *out, dtype=torch.float64)
    for scale in features:
        planes = torch.einsum("cd,bdhw->bchw", HEAD.weights.double(), scale.double()).clamp_min(0)
        merged = (planes[0] + planes[1].flip(-1)).tolist()  # flipped back on the grid, as published
        rows, columns = scale.shape[-2:]
        for c, plane in enumerate(merged):
            for i in range(out[0]):
                for j in range(out[1]):
                    y, x = (i + 0.5) * size[0] / out[0], (j + 0.5) * size[1] / out[1]  # in pixels of the image
                    maps[c, i, j] += at(plane, y / large[0] * rows - 0.5, x / large[1] * columns - 0.5)
    return maps / maps.amax((1, 2), keepdim=True)


@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_aligned_maps_are_the_published_at_any_stride(size: tuple[int, int], stride: int) -> None:
    features = pyramid(size, stride)
    (found,) = merge_scales(features, [HEAD], BOTH, stride4(*size), ALIGNED.part(size, stride))
    torch.testing.assert_close(found.double(), looped(features, size, stride, stride4(*size)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_at_full_size_aligned_is_enlarging_and_cutting(size: tuple[int, int]) -> None:
    features = pyramid(size, 16)
    (found,) = merge_scales(features, [HEAD], BOTH, size, ALIGNED.part(size, 16))
    large = [-(-side // 16) * 16 for side in size]
    planes = [bilinear(HEAD(scale, BOTH), *large)[:, : size[0], : size[1]] for scale in features]
    total = torch.stack(planes).sum(0)
    torch.testing.assert_close(found, total / total.amax((1, 2), keepdim=True), atol=1e-6, rtol=0)


def test_a_stored_aligned_map_comes_back_where_it_was_on_the_image() -> None:
    """A ramp over the cells: bilinear steps keep it, so any shift between file and image would show."""
    height, width = 333, 375
    ramp = torch.arange(24.0).expand(1, 1, 21, 24)
    (stored,) = merge_scales(
        [ramp], [CAMHead(torch.ones(1, 1))], BOTH[:1], stride4(height, width), (333 / 336, 375 / 384)
    )
    shown = ActivationMaps((0,), stored).resize(height, width).maps[0, 100]
    pixels = (torch.arange(width) + 0.5) / 16 - 0.5
    inner = slice(16, width - 16)
    torch.testing.assert_close(shown[inner] / shown[200] * pixels[200], pixels[inner], atol=1e-4, rtol=0)


def test_grids_agree_where_cells_are_whole_and_differ_elsewhere() -> None:
    for size, same in (((64, 80), True), ((37, 53), False)):
        features = pyramid(size, 16)
        stretched, aligned = (
            merge_scales(features, [HEAD], BOTH, stride4(*size), MapsSettings(grid=grid).part(size, 16))[0]
            for grid in ("stretched", "aligned")
        )
        assert torch.equal(stretched, aligned) == same


def test_part_of_no_maps_is_no_maps_and_a_part_above_one_repeats_the_border() -> None:
    assert bilinear_part(torch.zeros(0, 3, 4), 5, 6, (0.9, 0.8)).shape == (0, 5, 6)
    row = torch.tensor([[[1.0, 3.0]]])
    assert bilinear_part(row, 1, 4, (1.0, 2.0)).tolist() == [[[1.0, 3.0, 3.0, 3.0]]]
    nearly = bilinear_part(row, 2, 4, (1.0, 0.999999))
    torch.testing.assert_close(nearly, bilinear(row, 2, 4), atol=1e-5, rtol=0)


class Photos(Drawn):
    """Drawn images, cut to a size that no stride divides."""

    def image(self, sample: Sample) -> Image.Image:
        return super().image(sample).crop((0, 0, 75, 61))


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_a_run_writes_the_grid_of_its_settings(stride: int) -> None:
    photos = Photos([(0, 1)], size=(64, 80))
    net = network(stride=stride).eval()
    head = CAMHead(net.class_weights().detach())
    found: dict[str, Tensor] = {}
    for grid in ("stretched", "aligned"):
        settings = MapsSettings(scales=(1.0, 0.5), grid=grid)
        task = MapTask(head, lambda _: True, lambda _s, maps, _size, grid=grid: found.update({grid: maps.maps}))  # type: ignore[misc]
        make_maps(net, [task], photos, photos.samples, settings, torch.device("cpu"), Counter("maps", 1))
    image = photos.image(photos.samples[0])
    inputs = [image_tensor(image, size, net.mean, net.std) for size in ((61, 75), (30, 38))]
    features = list(pair_features(net.features, inputs))
    filled = (61 / (-(-61 // stride) * stride), 75 / (-(-75 // stride) * stride))
    for grid, part in (("stretched", (1.0, 1.0)), ("aligned", filled)):
        (expected,) = merge_scales(features, [head], BOTH, (16, 19), part)
        torch.testing.assert_close(found[grid], expected, atol=1e-4, rtol=0)
    assert (found["stretched"] - found["aligned"]).abs().max() > 0.01


def test_what_the_setting_leaves_alone_keeps_its_key() -> None:
    for schema in (MapsSettings, LpcamSettings):
        assert "grid" not in key_values(schema())
        assert key_values(schema(grid="aligned"))["grid"] == "aligned"
        assert key_values(schema()) == {k: v for k, v in schema().model_dump(mode="json").items() if k != "grid"}


def test_another_grid_is_refused() -> None:
    with pytest.raises(ConfigError, match="setting 'cam.grid' = 'cut': .*'stretched' or 'aligned'"):
        validate(MapsSettings, {"grid": "cut"}, "cam")
