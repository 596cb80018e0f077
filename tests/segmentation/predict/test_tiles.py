from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError
from tag2mask.segmentation.predict.logits import LoadedNetwork, predict_batch
from tag2mask.segmentation.predict.options import ALIGN, Tiling
from tag2mask.segmentation.predict.photo_readers import ArrayPhoto
from tag2mask.segmentation.predict.tiles import blended, n_tiles, spans, tiled_labels
from tests.helpers.refused import refused
from tests.segmentation.toy_net import CLASSES, MEAN, STD, convolutions, predict_probabilities

Images = Sequence[NDArray[np.uint8]]


def photo(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def run(net: nn.Module) -> Callable[[Images], Tensor]:
    return partial(predict_batch, LoadedNetwork(net, MEAN, STD, CLASSES))


def put_together(image: NDArray[np.uint8], net: nn.Module, tiling: Tiling, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Probabilities of a photo from blocks, and how often each pixel was given."""
    whole, count = torch.zeros(3, *image.shape[:2]), torch.zeros(image.shape[:2])
    for block in blended(ArrayPhoto(image), run(net), tiling, batch):
        _, h, w = block.probabilities.shape
        whole[:, block.top : block.top + h, block.left : block.left + w] = block.probabilities
        count[block.top : block.top + h, block.left : block.left + w] += 1
    return whole, count


LENGTHS = [1, 2, 31, 63, 64, 65, 95, 96, 97, 128, 129, 160, 191, 333]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("tile", "overlap"), [(64, 32), (64, 0), (96, 17), (160, 128)])
def test_weights_sum_to_one_and_are_zero_where_a_tile_lacks_context(length: int, tile: int, overlap: int) -> None:
    found = spans(length, Tiling(tile, overlap))
    total = np.zeros(length)
    for i, span in enumerate(found):
        assert span.start % ALIGN == 0
        assert span.stop <= length
        assert span.stop - span.start <= tile
        assert bool((span.weights >= 0).all())
        total[span.first : span.last] += span.weights.numpy()
        margin = overlap // 4  # of the least overlap; larger ones have larger margins
        assert span.last - span.done <= max(0, overlap // 2 + 2)
        if i:
            assert span.first >= span.start + margin
            assert found[i - 1].stop - span.start >= overlap
            assert (found[i - 1].done, found[i - 1].stop >= span.start) == (span.first, True)
        if span.stop < length:
            assert span.last <= span.stop - margin
    assert (found[0].first, found[-1].done, found[-1].last, found[-1].stop) == (0, length, length, length)
    assert total == pytest.approx(1, abs=1e-6)


def test_two_tiles_meet_in_the_middle_half_of_what_they_share() -> None:
    left, right = spans(96, Tiling(64, 32))  # 0..64 and 32..96 share 32..64; the ramp is 40..56
    assert [(s.start, s.stop, s.first, s.done, s.last) for s in (left, right)] == [
        (0, 64, 0, 40, 56),
        (32, 96, 40, 96, 96),
    ]
    assert left.weights[39:42].tolist() == pytest.approx([1, 1 - 0.5 / 16, 1 - 1.5 / 16])
    assert right.weights[:16].tolist() == pytest.approx([(i + 0.5) / 16 for i in range(16)])
    assert right.weights[16:].tolist() == [1] * 40


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (64, 64), (65, 64), (130, 97), (161, 260)])
@pytest.mark.parametrize(("tile", "overlap"), [(64, 32), (96, 20), (160, 128)])
def test_tiles_equal_the_whole_where_the_network_looks_less_far_than_a_quarter_of_the_overlap(
    size: tuple[int, int], tile: int, overlap: int
) -> None:
    image, net = photo(*size), convolutions(radius=overlap // 4)
    whole = predict_probabilities(net, image, MEAN, STD)
    found, count = put_together(image, net, Tiling(tile, overlap), batch=2)
    assert count.min() == count.max() == 1  # every pixel in exactly one block
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)


def test_without_overlap_the_seams_show_as_far_as_the_network_looks() -> None:
    image, net = photo(64, 192), convolutions(radius=3)
    whole = predict_probabilities(net, image, MEAN, STD)
    found, _ = put_together(image, net, Tiling(64, 0))
    different = ((found - whole).abs().amax(0).amax(0) > 1e-5).nonzero()[:, 0].tolist()
    assert {63, 64, 127, 128} <= set(different) <= {*range(61, 67), *range(125, 131)}


def test_a_network_with_a_stride_keeps_its_grid() -> None:
    class Strided(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            height, width = images.shape[-2:]
            pooled = F.max_pool2d(F.pad(images, (0, -width % 8, 0, -height % 8)), 8)
            return F.interpolate(pooled, scale_factor=8, mode="bilinear", align_corners=False)[..., :height, :width]

    image = photo(150, 203)
    whole = predict_probabilities(Strided(), image, MEAN, STD)
    found, _ = put_together(image, Strided(), Tiling(96, 48))
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)


def test_a_constant_stays_constant() -> None:
    def constant(images: Images) -> Tensor:
        shape = images[0].shape[:2]
        return torch.tensor([0.2, 0.5, 0.3])[:, None, None].expand(len(images), 3, *shape).clone()

    for block in blended(ArrayPhoto(photo(150, 170)), constant, Tiling(64, 24), 3):
        expected = torch.tensor([0.2, 0.5, 0.3])[:, None, None].expand_as(block.probabilities)
        torch.testing.assert_close(block.probabilities, expected, atol=1e-6, rtol=0)


def test_labels_are_the_most_probable_of_the_blend() -> None:
    image, net = photo(130, 140), nn.AvgPool2d(3, 1, 1)
    labels = tiled_labels(ArrayPhoto(image), run(net), Tiling(64, 20))
    found, _ = put_together(image, net, Tiling(64, 20))
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, found.argmax(0).numpy())
    assert np.unique(labels).tolist() == [0, 1, 2]


def test_tiles_of_one_shape_go_through_the_network_together() -> None:
    seen: list[int] = []

    def count(images: Images) -> Tensor:
        seen.append(len(images))
        assert len({image.shape for image in images}) == 1
        return torch.full((len(images), 3, *images[0].shape[:2]), 1 / 3)

    tiled_labels(ArrayPhoto(photo(64, 170)), count, Tiling(64, 32), 3)  # begins at 0, 32, 64, 96; 128 - 170 is narrower
    assert seen == [3, 1, 1]


def test_tiles_are_counted() -> None:
    done: list[None] = []
    image, tiling = photo(130, 140), Tiling(64, 20)
    tiled_labels(ArrayPhoto(image), run(nn.AvgPool2d(3, 1, 1)), tiling, 2, lambda: done.append(None))
    assert len(done) == n_tiles((130, 140), tiling) == 16


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_one_strip_of_half_the_overlap_beside_photo_and_labels() -> None:
    height, width, labels, page = 500, 4096, 40, 4096
    resident: list[int] = []

    class Black:
        size = (height, width)

        def window(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * page)
            return np.zeros((bottom - top, right - left, 3), np.uint8)

    def uniform(images: Images) -> Tensor:
        return torch.full((len(images), labels, *images[0].shape[:2]), 1 / labels)

    tiled_labels(Black(), uniform, Tiling(160, 64))
    strip, tile, output = labels * 34 * width * 4, labels * 160 * 160 * 4, height * width
    assert max(resident) - resident[0] < 2 * (strip + 6 * tile + output)
    assert 2 * (strip + 6 * tile + output) < labels * height * width * 4 / 3  # what the whole would take


@pytest.mark.parametrize(
    ("tile", "overlap", "text"),
    [
        (64, -1, "overlap = -1: expected 0 or more"),
        (64, 33, "tile = 64 … overlap = 33 … at least 65"),
        (8, 0, "tile = 8 … at least 32"),
    ],
)
def test_tiles_that_do_not_go_forward_are_refused(tile: int, overlap: int, text: str) -> None:
    with refused(ConfigError, text):
        Tiling(tile, overlap)
