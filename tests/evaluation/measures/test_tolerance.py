"""IoU with a tolerance: by hand, a slow reference, what it becomes without need of it, and which classes are thin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.evaluation.measures.tolerance import (
    METRIC,
    THIN,
    TOLERANCE,
    ToleranceMetrics,
    Widths,
    widths,
)  # fmt: skip
from tag2mask.evaluation.metrics import SegmentationMetrics
from tests.helpers.refused import refused

Labels = NDArray[np.uint8]


def strip(width: int, left: int = 20, size: int = 60) -> Labels:
    labels: Labels = np.zeros((size, size), np.uint8)
    labels[:, left : left + width] = 1
    return labels


def iou(prediction: object, truth: object, classes: tuple[str, ...] = ("crack",)) -> float:
    metrics = ToleranceMetrics(classes, range(len(classes)))
    metrics.update(np.asarray(prediction, np.uint8), np.asarray(truth, np.uint8))
    return dict(metrics.compute().values())[METRIC]


@pytest.mark.parametrize(("shift", "expected"), [(0, 100), (1, 100), (2, 100), (3, 50), (4, 20), (5, 0)])
def test_a_strip_of_three_pixels_that_is_moved(shift: int, expected: float) -> None:
    """Moved by 3, two of three columns lie within 2 of the other: P = R = 2/3, PR / (P + R - PR) = 1/2; by 4, 1/5."""
    assert iou(strip(3, 20 + shift), strip(3)) == pytest.approx(expected)


def test_precision_and_recall_by_hand() -> None:
    truth = [[1, 0, 0, 0, 0, 0, 0, 0, 0, 1]]
    guess = [[0, 1, 0, 0, 1, 0, 0, 0, 0, 0]]  # one near, one not; one of the truth found, one not
    assert iou(guess, truth) == pytest.approx(100 * 0.25 / (1 - 0.25))


def test_distances_are_euclidean() -> None:
    truth = np.zeros((5, 5), np.uint8)
    truth[0, 0] = 1
    for place, near in (((0, 2), True), ((1, 1), True), ((2, 2), False), ((1, 2), False)):
        guess = np.zeros((5, 5), np.uint8)
        guess[place] = 1
        assert iou(guess, truth) == (100 if near else 0), place


def slow(guess: Labels, true: Labels, label: int) -> float:
    """Pixel by pixel."""
    known = [tuple(p) for p in np.argwhere(true == label)]
    found = [tuple(p) for p in np.argwhere((guess == label) & (true != 255))]

    def near(p: tuple[int, ...], others: list[tuple[int, ...]]) -> bool:
        return any(math.dist(p, q) <= TOLERANCE for q in others)

    precision = sum(near(p, known) for p in found) / len(found)
    recall = sum(near(p, found) for p in known) / len(known)
    return 100 * precision * recall / (precision + recall - precision * recall)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_slow_way_over_all_images_together(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = (rng.random((3, 14, 15)) < 0.03).astype(np.uint8) + 2 * (rng.random((3, 14, 15)) < 0.03).astype(np.uint8)
    guess = np.minimum((rng.random((3, 14, 15)) < 0.05) * rng.integers(1, 3, (3, 14, 15)), 2).astype(np.uint8)
    true = np.where(true > 2, 255, true).astype(np.uint8)
    metrics = ToleranceMetrics(("a", "b"), [0, 1])
    for one, other in zip(guess, true, strict=True):
        metrics.update(one, other)
    far = np.zeros((20, 15), np.uint8)  # images apart, so that no pixel is near one of another image
    together = [np.concatenate([p for image in part for p in (image, far)]) for part in (guess, true)]
    values = dict(metrics.compute().values())
    for label, name in ((1, "a"), (2, "b")):
        assert values[f"{METRIC}/{name}"] == pytest.approx(slow(together[0], together[1], label))
    assert values[METRIC] == pytest.approx((values[f"{METRIC}/a"] + values[f"{METRIC}/b"]) / 2)


def test_it_is_never_below_iou_and_equal_where_the_rest_is_far() -> None:
    rng = np.random.default_rng(5)
    truth = (rng.random((30, 30)) < 0.05).astype(np.uint8)
    guess = (rng.random((30, 30)) < 0.05).astype(np.uint8)
    plain = SegmentationMetrics(["crack"])
    plain.update(guess, truth)
    assert iou(guess, truth) >= plain.compute().iou[1]
    far = np.zeros((9, 9), np.uint8)
    far[0, 0] = far[8, 8] = 1
    half = np.zeros((9, 9), np.uint8)
    half[0, 0] = half[0, 8] = 1
    assert iou(half, far) == pytest.approx(100 / 3)  # one of three pixels, as IoU


def test_ignored_pixels_and_absent_classes_count_nothing() -> None:
    assert iou([[1, 1, 0]], [[1, 255, 0]]) == 100
    assert math.isnan(iou([[0, 0]], [[0, 0]]))
    assert iou([[1, 0]], [[0, 0]]) == 0
    assert iou([[0, 0]], [[0, 1]]) == 0
    with refused(DataError, "(1, 2)", "(1, 3)", "resize"):
        iou([[0, 0]], [[0, 0, 0]])


@pytest.mark.parametrize("width", [1, 3, 8])
def test_the_width_of_a_long_strip(width: int) -> None:
    """Straight lines have a perimeter of 4/pi of what Crofton's two directions say: the width is 4/pi of the true."""
    assert widths(strip(width), 1)[0] == pytest.approx(width * 4 / math.pi)


def test_the_width_of_slanted_lines_and_discs() -> None:
    y, x = np.mgrid[:300, :300]
    line = (np.abs(x - y) / math.sqrt(2) <= 2.5).astype(np.uint8)
    assert widths(line, 1)[0] == pytest.approx(5, rel=0.15)
    disc = ((x - 150) ** 2 + (y - 150) ** 2 <= 40**2).astype(np.uint8)
    assert widths(disc, 1)[0] == pytest.approx(40, rel=0.02)  # half its diameter


def test_thin_is_decided_by_the_median_of_the_images() -> None:
    found = Widths(2)
    for width in (2, 3, 40):
        found.update(strip(width))  # class 1 alone; class 2 is in no image
    assert found.thin() == (0,)
    found.update(strip(30))
    found.update(strip(25))
    assert found.thin() == ()
    assert math.isnan(widths(np.ones((4, 4), np.uint8), 2)[0]), "all of the image: no boundary says how wide"
    assert math.isnan(widths(np.ones((4, 4), np.uint8), 2)[1])


def test_the_bound_is_where_a_shift_by_the_tolerance_takes_half_of_the_iou() -> None:
    plain = SegmentationMetrics(["crack"])
    plain.update(strip(int(THIN), 20 + TOLERANCE), strip(int(THIN)))
    assert plain.compute().iou[1] == pytest.approx(50)
