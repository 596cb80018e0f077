"""Instances of label images beside a labelling of the whole image, and by hand; holes beside the Euler number."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tag2mask.export.instances import count_holes, find_instances
from tests.export.drawn_masks import Labels, holed, solid


def reference(labels: Labels) -> list[tuple[int, tuple[int, int, int, int], int, bytes]]:
    """Label, box, area and pixels of each component of each class by scipy, in reading order."""
    found = []
    for label in np.unique(labels[(labels > 0) & (labels < 255)]):
        numbers, count = ndimage.label(labels == label, np.ones((3, 3)))
        for number in range(1, count + 1):
            y, x = np.nonzero(numbers == number)
            top, left, bottom, right = y.min(), x.min(), y.max() + 1, x.max() + 1
            cut = (numbers == number)[top:bottom, left:right]
            first = (int(y[0]), int(x[0]))
            found.append((first, (int(label), (int(left), int(top), int(right), int(bottom)), len(y), cut.tobytes())))
    return [line for _, line in sorted(found, key=lambda pair: pair[0])]


def drawn() -> dict[str, Labels]:
    rng = np.random.default_rng(7)
    random = {
        f"random{n}": np.asarray(
            rng.choice(np.array([0, 1, 2, 255], np.uint8), rng.integers(1, 20, 2), p=[0.4, 0.35, 0.15, 0.1])
        )
        for n in range(40)
    }
    return {**solid(), **holed(), **random}


@pytest.mark.parametrize(("name", "labels"), drawn().items(), ids=str)
def test_instances_are_those_of_the_whole_image(name: str, labels: Labels) -> None:
    found = [(i.column + 1, i.box, i.area, i.mask.tobytes()) for i in find_instances(labels)]
    assert found == reference(labels)


def test_pixels_that_touch_at_a_corner_are_one_instance_but_not_of_two_classes() -> None:
    labels = np.array([[1, 0, 2], [0, 1, 0], [2, 0, 255]], np.uint8)
    found = [(i.column, i.box, i.area) for i in find_instances(labels)]
    assert found == [(0, (0, 0, 2, 2), 2), (1, (2, 0, 3, 1), 1), (1, (0, 2, 1, 3), 1)]


def test_background_and_ignored_pixels_are_of_no_instance() -> None:
    assert find_instances(np.array([[0, 255], [255, 0]], np.uint8)) == []
    assert find_instances(np.zeros((0, 5), np.uint8)) == []


def euler_number(mask: NDArray[np.bool_]) -> int:
    """With 8 neighbours: a quarter of Q1 - Q3 - 2 Qd, windows of 2 x 2 with one pixel, three, two at a corner only."""
    padded = np.pad(mask, 1).astype(int)
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    total = a + b + c + d
    return int((total == 1).sum() - (total == 3).sum() - 2 * ((total == 2) & (a == d)).sum()) // 4


@pytest.mark.parametrize(("name", "labels"), drawn().items(), ids=str)
def test_holes_are_one_less_the_euler_number(name: str, labels: Labels) -> None:
    for instance in find_instances(labels):
        assert count_holes(instance.mask) == 1 - euler_number(instance.mask)


def test_a_photo_of_500_by_375_takes_milliseconds() -> None:
    rng = np.random.default_rng(0)
    fields = ndimage.gaussian_filter(rng.normal(size=(4, 375, 500)), (0, 10, 10))
    labels = fields.argmax(axis=0).astype(np.uint8)
    find_instances(labels)
    started = time.process_time()
    assert len(find_instances(labels)) > 20
    assert time.process_time() - started < 0.2  # 6 ms on the machine it was written on; a loop over pixels takes more
