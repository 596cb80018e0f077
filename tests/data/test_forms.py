"""One rule for images in memory: what `tag2mask.load`'s networks, dense CRF, random walk and metrics take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tag2mask import DenseCRF, SegmentationMetrics, random_walk
from tag2mask.core.errors import DataError
from tag2mask.data.forms import rgb_of
from tag2mask.data.images import read_image
from tests.helpers.refused import refused

PIXELS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = PIXELS[..., :1].copy()


def locked(array: NDArray[Any]) -> NDArray[Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


VIEWS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "turned twice": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "columns first": np.asfortranarray,
    "read-only": locked,
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
}


@pytest.mark.parametrize("view", VIEWS)
def test_memory_of_any_strides_is_the_same(view: str) -> None:
    change = VIEWS[view]
    assert np.array_equal(rgb_of(change(PIXELS)), PIXELS)
    crf = DenseCRF(change(PIXELS))
    scores = np.random.default_rng(1).random((2, 6, 8))
    changed = np.stack([change(plane) for plane in scores]) if view != "read-only" else locked(scores)
    assert torch.equal(crf.refine(changed, 1), DenseCRF(PIXELS).refine(scores, 1))
    labels = scores.argmax(0)
    assert torch.equal(crf.refine_labels(change(labels), 2), DenseCRF(PIXELS).refine_labels(labels, 2))
    walked = random_walk(change(scores), change(scores[0]), log2_steps=2)
    assert torch.equal(walked, random_walk(torch.from_numpy(scores), torch.from_numpy(scores[0]), log2_steps=2))
    metrics = SegmentationMetrics(["a"])
    metrics.update(change(labels), labels)
    assert metrics.compute().miou == 100


def with_alpha() -> Image.Image:
    image = Image.fromarray(PIXELS).convert("RGBA")
    image.putalpha(255)
    return image


@pytest.mark.parametrize(
    ("photo", "expected"),
    [
        (Image.fromarray(PIXELS), PIXELS),
        (with_alpha(), PIXELS),
        (Image.fromarray(GREY[..., 0]), GREY),
        (Image.fromarray(GREY[..., 0].astype(np.uint16) * 257), GREY),
        (Image.fromarray((GREY[..., 0] > 99).astype(np.uint8) * 255).convert("1"), (GREY > 99) * 255),
        (Image.fromarray(PIXELS // 64 * 64).quantize(256), PIXELS // 64 * 64),
        (GREY[..., 0], GREY),
        (GREY, GREY),
        (PIXELS / 255, PIXELS),
        ((GREY[..., 0] / 255).astype(np.float32), GREY),
        (np.where(PIXELS == 255, 1.0004, PIXELS / 255 - (PIXELS == 0) * 1e-6), PIXELS),
        (torch.from_numpy(PIXELS.copy()).permute(2, 0, 1) / 255, PIXELS),
        ((torch.from_numpy(PIXELS.copy()).permute(2, 0, 1) / 255).flip(2).flip(2).requires_grad_(), PIXELS),
        (torch.from_numpy(GREY.copy()).permute(2, 0, 1) / 255, GREY),
        (torch.from_numpy(PIXELS.copy()), PIXELS),
    ],
)
def test_every_form_is_the_same_photo(photo: Any, expected: NDArray[Any]) -> None:
    whole = np.broadcast_to(expected, PIXELS.shape).astype(np.uint8)
    found = rgb_of(photo)
    assert np.array_equal(found, whole)
    assert found.flags.owndata
    scores = np.random.default_rng(1).random((2, 6, 8))
    assert torch.equal(DenseCRF(photo).refine(scores, 1), DenseCRF(np.ascontiguousarray(whole)).refine(scores, 1))


@pytest.mark.parametrize(
    ("photo", "text"),
    [
        (PIXELS.astype(np.uint16), "shape (6, 8, 3) … type uint16 … expected"),
        (PIXELS.astype(np.float32), "values 0..249: expected [0, 1]"),
        (np.full((6, 8, 3), 1.01), "values 1.01..1.01: expected [0, 1]"),
        (np.full((6, 8), -0.1), "values -0.1..-0.1: expected [0, 1]"),
        (PIXELS.transpose(2, 0, 1), "shape (3, 6, 8) … expected (H, W, 3)"),
        (np.zeros((0, 8, 3), np.uint8), "at least one pixel"),
        (np.zeros((6, 8, 3), object), "type object: expected"),
        (torch.rand(6, 8, 3), "shape (6, 8, 3) … expected (3, H, W)"),
        (torch.rand(2, 3, 6, 8), "give several as a list"),
        (Image.fromarray(PIXELS[..., 0].astype(np.float32)), "the image has floating-point values"),
        ([1, 2], "of type list … expected a path"),
        (None, "image is of type NoneType"),
        ("nowhere.png", "nowhere.png does not exist"),
    ],
)
def test_what_is_no_photo_is_named(photo: Any, text: str) -> None:
    with refused(DataError, text):
        DenseCRF(photo)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_open_image_is_turned_as_its_file_is(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("photo.png", "photo.tif"):
        path = tmp_path / name
        Image.fromarray(PIXELS).save(path, exif=exif)
        upright = np.asarray(read_image(path))
        with Image.open(path) as image:
            assert np.array_equal(rgb_of(image), upright)
        assert np.array_equal(rgb_of(str(path)), upright)
    labels = Image.fromarray(GREY[..., 0] % 3)
    labels.getexif()[0x0112] = orientation
    metrics = SegmentationMetrics(["a", "b"])
    metrics.update(labels, upright[..., 0] % 3)
    assert metrics.compute().miou == 100


def test_a_truncated_or_closed_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:9000])
    with Image.open(path) as image, refused(DataError, "cannot read the image", "Open it again"):
        rgb_of(image)
    Image.fromarray(PIXELS).save(path)
    image = Image.open(path)
    image.close()
    with pytest.raises(DataError, match="cannot read the image: "):
        rgb_of(image)


def test_edges_of_many_forms() -> None:
    maps = torch.rand(2, 6, 8, dtype=torch.float64)
    expected = random_walk(maps, torch.from_numpy(GREY[..., 0] / np.float32(255)), log2_steps=2)
    palette = Image.fromarray(GREY[..., 0]).quantize(256)
    for edge in (GREY[..., 0], GREY, GREY[..., 0] / np.float32(255), Image.fromarray(GREY[..., 0]), palette):
        torch.testing.assert_close(random_walk(maps, edge, log2_steps=2), expected)
    assert torch.equal(random_walk(maps.numpy(), GREY, log2_steps=2), expected)
    (listed,) = random_walk([maps.numpy()], [GREY[..., 0]], log2_steps=2)
    assert torch.equal(listed, expected)
    over = torch.full((6, 8), 1.0004)
    assert torch.equal(random_walk(maps, over), random_walk(maps, torch.ones(6, 8)))
    bad: Any
    for bad, text in (
        (torch.full((6, 8), 1.01), "edge has values from 1.01 to 1.01"),
        (np.zeros((6, 8), np.int32), "edge torch.int32"),
        (np.zeros((6, 8), object), "edge is an array of object"),
        ([[0.5, 0.5], [0.5]], "maps has one tensor, edge has 2 images"),
    ):
        with pytest.raises(DataError, match=text):
            random_walk(maps, bad)


def test_metrics_take_labels_in_every_form_and_name_the_rest() -> None:
    labels = GREY[..., 0] % 3
    image = Image.fromarray(labels, mode="P")
    image.putpalette([9, 8, 7] * 256)
    wrong: Any
    for form in (labels.tolist(), torch.from_numpy(labels.copy()), torch.from_numpy(labels.astype(np.int64)), image):
        metrics = SegmentationMetrics(["a", "b"])
        metrics.update(form, labels)
        assert metrics.compute().miou == 100
    for wrong, text in (
        ([[0, 1], [1]], "prediction of 'x' is not an array"),
        ("mask.png", "prediction of 'x' is str: expected an array"),
        (None, "prediction of 'x' is NoneType"),
        (torch.rand(6, 8).bfloat16(), "is float32; expected whole numbers"),
        (Image.fromarray(PIXELS), r"has shape \(6, 8, 3\); expected one label image"),
    ):
        with pytest.raises(DataError, match=text):
            SegmentationMetrics(["a", "b"]).update(wrong, labels, "x")
    with refused(DataError, "classes = 'cat'", "one text", "such as ['cat']"):
        SegmentationMetrics("cat")
    with refused(DataError, "classes = 3", "such as ['cat', 'dog']"):
        SegmentationMetrics(3)  # type: ignore[arg-type]  # as torchmetrics has it
