"""Boundary IoU and trimaps: hand-made cases, slow references written from the definitions, void, sums over images."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.evaluation.boundary import WIDTHS, BoundaryMetrics, band, band_width, boundary, distance_bands
from tag2mask.evaluation.metrics import SegmentationMetrics
from tests.helpers.refused import refused

AB = ("a", "b")
Image = NDArray[np.uint8]


def blocks(seed: int, height: int = 18, width: int = 23, void: float = 0.0) -> Image:
    """Regions of three labels, a few pixels wide, and ignored pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (height // 4 + 1, width // 4 + 1))
    labels = np.kron(coarse, np.ones((4, 4), int))[:height, :width].astype(np.uint8)
    labels[rng.random(labels.shape) < void] = 255
    return labels


def slow_band(mask: NDArray[np.bool_], delta: int) -> set[tuple[int, int]]:
    """Pixels of a mask that lie within ``delta`` (chessboard) of a pixel outside of it, the frame included."""
    height, width = mask.shape
    found = set()
    for y, x in zip(*np.nonzero(mask), strict=True):
        for v in range(y - delta, y + delta + 1):
            for u in range(x - delta, x + delta + 1):
                if not (0 <= v < height and 0 <= u < width and mask[v, u]):
                    found.add((int(y), int(x)))
    return found


def slow_boundary_iou(pairs: list[tuple[Image, Image]], label: int, share: float) -> float:
    """The published definition, label by label, sums over the images."""
    both = either = 0
    for guess, truth in pairs:
        delta = max(1, round(share * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2)))
        true = slow_band(truth == label, delta)
        found = slow_band((guess == label) & (truth != 255), delta)
        both += len(true & found)
        either += len(true | found)
    return 100 * both / either if either else math.nan


@pytest.mark.parametrize("share", [0.02, 0.06, 0.2])
def test_equals_the_definition_worked_out_pixel_by_pixel(share: float) -> None:
    pairs = [(blocks(s + 10), blocks(s, void=0.05 * (s % 2))) for s in range(4)]
    metrics = BoundaryMetrics(AB, share=share)
    for guess, truth in pairs:
        metrics.update(guess, truth)
    slow = [slow_boundary_iou(pairs, label, share) for label in range(3)]
    np.testing.assert_allclose(metrics.compute().iou, slow)
    assert metrics.compute().mean == pytest.approx(np.mean(slow))


@pytest.mark.parametrize("delta", [1, 2, 5, 9])
def test_a_band_is_the_mask_less_its_erosion_by_max_pooling(delta: int) -> None:
    labels = blocks(3, 25, 31)
    found = band(labels, delta)
    for label in range(3):
        mask = torch.from_numpy(labels == label).float()
        outside = F.pad(1 - mask, (delta,) * 4, value=1.0)[None, None]
        eroded = 1 - F.max_pool2d(outside, 2 * delta + 1, 1)[0, 0]
        np.testing.assert_array_equal(found & (labels == label), (mask - eroded).numpy() > 0)


def test_widths_of_the_published_settings() -> None:
    sizes = ((375, 500), (333, 500), (500, 500))
    assert [band_width(*size) for size in sizes] == [12, 12, 14]  # 12.5 rounds to the even
    assert [band_width(*size, share=0.005) for size in sizes] == [3, 3, 4]
    assert band_width(3, 3) == 1


def test_a_shifted_square_by_hand() -> None:
    truth, guess = np.zeros((2, 30, 30), np.uint8)
    truth[10:20, 10:20] = 1
    guess[10:20, 11:21] = 1
    metrics = BoundaryMetrics(["a"], share=0.02)  # delta 1: rings of 36 pixels
    metrics.update(guess, truth)
    # Both rings hold the two long sides where the squares overlap: 9 columns each.
    assert metrics.compute().iou[1] == pytest.approx(100 * 18 / (36 + 36 - 18))
    whole = SegmentationMetrics(["a"])
    whole.update(guess, truth)
    assert metrics.compute().iou[1] < whole.compute().iou[1] == pytest.approx(100 * 90 / 110)


def test_a_right_mask_has_100_and_both_sides_count_alike() -> None:
    truth, guess = blocks(1), blocks(2)
    right, one, other = BoundaryMetrics(AB), BoundaryMetrics(AB), BoundaryMetrics(AB)
    right.update(truth, truth)
    one.update(guess, truth)
    other.update(truth, guess)
    assert right.compute().iou.tolist() == [100, 100, 100]
    np.testing.assert_allclose(one.compute().iou, other.compute().iou)
    assert dict(right.compute().values())["trimap_accuracy/3"] == 100


def test_where_everything_is_near_a_contour_it_is_the_iou_of_the_masks() -> None:
    truth, guess = blocks(5, 9, 9), blocks(6, 9, 9)
    metrics, whole = BoundaryMetrics(AB, share=0.5), SegmentationMetrics(AB)
    for counts in (metrics, whole):
        counts.update(guess, truth)
    np.testing.assert_allclose(metrics.compute().iou, whole.compute().iou)
    assert metrics.compute().mean == pytest.approx(whole.compute().miou)


def test_what_is_predicted_for_ignored_pixels_changes_nothing() -> None:
    truth, guess = blocks(7, void=0.1), blocks(8)
    other = np.where(truth == 255, 2 - guess, guess).astype(np.uint8)
    assert (other != guess).any()
    results = []
    for prediction in (guess, other):
        metrics = BoundaryMetrics(AB)
        metrics.update(prediction, truth)
        results.append(metrics.compute().values())
    np.testing.assert_allclose([v for _, v in results[0]], [v for _, v in results[1]])


def slow_trimap(guess: Image, truth: Image, width: int) -> NDArray[np.int64]:
    """Confusion of the pixels at most ``width`` from a boundary, each distance by hand."""
    height, wide = truth.shape
    void = (truth == 255).any()
    edge = []
    for y in range(height):
        for x in range(wide):
            beside = [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
            inner = [truth[v, u] for v, u in beside if 0 <= v < height and 0 <= u < wide]
            if truth[y, x] == 255 if void else any(n != truth[y, x] for n in inner):
                edge.append((y, x))
    matrix = np.zeros((3, 3), np.int64)
    for y in range(height):
        for x in range(wide):
            near = any((y - v) ** 2 + (x - u) ** 2 <= width * width for v, u in edge)
            if near and truth[y, x] != 255:
                matrix[truth[y, x], guess[y, x]] += 1
    return matrix


@pytest.mark.parametrize("void", [0.0, 0.01])
def test_trimaps_equal_distances_worked_out_one_by_one(void: float) -> None:
    pairs = [(blocks(s + 20, 20, 15), blocks(s, 20, 15, void)) for s in range(2)]
    metrics = BoundaryMetrics(AB, widths=(1, 2, 5))
    for guess, truth in pairs:
        metrics.update(guess, truth)
    for width, scores in metrics.compute().trimap:
        assert scores is not None
        np.testing.assert_array_equal(scores.matrix, sum(slow_trimap(g, t, width) for g, t in pairs))


def test_bands_are_exact_by_distance() -> None:
    truth = np.zeros((19, 33), np.uint8)
    truth[np.random.default_rng(1).random(truth.shape) < 0.01] = truth[4, 7] = 255
    points = np.argwhere(truth == 255)
    y, x = np.arange(19)[:, None, None], np.arange(33)[None, :, None]
    squared = np.min((y - points[:, 0]) ** 2 + (x - points[:, 1]) ** 2, axis=-1)
    slow = sum((squared > width * width).astype(int) for width in (1, 5, 6))
    np.testing.assert_array_equal(distance_bands(truth, (1, 5, 6)), slow)
    assert (distance_bands(np.zeros((3, 4), np.uint8), (1, 2)) == 2).all()


def test_a_wide_trimap_is_the_ordinary_score() -> None:
    truth, guess = blocks(9), blocks(11)
    metrics, whole = BoundaryMetrics(AB, widths=(1, 100)), SegmentationMetrics(AB)
    for counts in (metrics, whole):
        counts.update(guess, truth)
    (_, near), (_, far) = metrics.compute().trimap
    assert near is not None
    assert far is not None
    np.testing.assert_array_equal(far.matrix, whole.matrix)
    assert 0 < near.matrix.sum() < far.matrix.sum()


def test_an_ignored_rim_marks_the_boundary_where_there_is_some() -> None:
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    assert boundary(truth).tolist() == [[False, True, True, False]]
    truth[0, 3] = 255
    assert boundary(truth).tolist() == [[False, False, False, True]]


def test_an_image_of_one_label_has_no_boundary_but_a_frame() -> None:
    metrics = BoundaryMetrics(["a"], widths=(1,))
    metrics.update(np.zeros((30, 30), np.uint8), np.zeros((30, 30), np.uint8))
    scores = metrics.compute()
    assert scores.trimap == ((1, None),)
    assert metrics.true.tolist() == [4 * 29, 0]
    values = dict(scores.values())
    assert values["boundary_iou/background"] == 100
    assert math.isnan(values["boundary_iou"])  # over no class there is no mean
    assert all(math.isnan(values[n]) for n in ("boundary_iou/a", "boundary_iou_foreground", "trimap_miou/1"))


def test_names_of_the_metrics() -> None:
    metrics = BoundaryMetrics(AB)
    metrics.update(blocks(1), blocks(2))
    values = dict(metrics.compute().values())
    assert list(values) == [
        "boundary_iou", "boundary_iou_foreground", "boundary_iou/background", "boundary_iou/a", "boundary_iou/b",
        *(f"trimap_{kind}/{w}" for w in WIDTHS for kind in ("miou", "accuracy")),
    ]  # fmt: skip
    assert values["boundary_iou_foreground"] == pytest.approx((values["boundary_iou/a"] + values["boundary_iou/b"]) / 2)


def test_what_cannot_be_counted_is_refused() -> None:
    metrics = BoundaryMetrics(["a"])
    with refused(DataError, "'x' has shape (1, 2)", "ground truth (1, 1)"):
        metrics.update([[0, 1]], [[0]], "x")
    with refused(DataError, "prediction is 255 (ignored)", "1 pixels", "refined seeds"):
        metrics.update([[255]], [[0]])
    with refused(DataError, "no boundary was evaluated", "no image with ground truth"):
        metrics.compute()
    metrics.update([[1]], [[255]])
    with pytest.raises(DataError, match="no boundary was evaluated"):
        metrics.compute()
    with refused(ConfigError, "share = 1", "above 0 and below 1"):
        BoundaryMetrics(["a"], share=1)
    with refused(ConfigError, "widths = [3, 1]", "at least 1, ascending"):
        BoundaryMetrics(["a"], widths=(3, 1))
    with pytest.raises(DataError, match="classes names 'a' twice"):
        BoundaryMetrics(["a", "a"])
