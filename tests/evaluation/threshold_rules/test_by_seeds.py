"""The rule that goes by refined seeds: by hand, against a slow reference, and what changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.evaluation.threshold_rules.by_seeds import LEVELS, Agreement, SeedAgreement, best_agreement

Maps = NDArray[np.float32]
Labels = NDArray[np.uint8]
Image = tuple[Maps, tuple[int, ...], Labels]


def agreement(maps: Maps, classes: tuple[int, ...], seeds: Labels, n_classes: int = 2) -> SeedAgreement:
    found = SeedAgreement(n_classes)
    found.update(maps, classes, seeds)
    return found


def test_the_threshold_lies_where_the_confident_pixels_end() -> None:
    """Six pixels, five of them confident: above 0.30 lie the class's three, above 0.10 one of the background too."""
    maps = np.array([[[0.9, 0.5, 0.31, 0.29, 0.05, 0.2]]], np.float32)
    seeds = np.array([[1, 1, 1, 0, 0, 255]], np.uint8)
    found = agreement(maps, (0,), seeds)
    assert found.best() == [Agreement(0.3, 1.0, 3 / 5), Agreement(0.5, 0.0, 0.0)]
    assert [one.tells for one in found.best()] == [True, False]
    assert found.iou()[0, 10] == 3 / 4
    assert found.iou()[0, 50] == 1 / 3, "0.5 is not above 0.5"


def test_of_equal_thresholds_the_middle_one_is_taken() -> None:
    maps = np.array([[[0.8, 0.2]]], np.float32)
    assert agreement(maps, (0,), np.array([[1, 0]], np.uint8)).best()[0].level == 0.5, "0.20 to 0.79 do"


def slow(images: list[Image], column: int, level: float) -> float:
    """Pixel by pixel."""
    shared = either = 0
    for maps, classes, seeds in images:
        for (y, x), label in np.ndenumerate(seeds):
            if label == 255:
                continue
            highest = max(range(len(classes)), key=lambda k: maps[k, y, x])
            mine = classes[highest] == column and maps[highest, y, x] > level
            shared += mine and label == column + 1
            either += mine or label == column + 1
    return shared / either if either else 0.0


def test_it_is_the_slow_way_over_all_images_together() -> None:
    rng = np.random.default_rng(3)
    images: list[Image] = []
    every: tuple[tuple[int, ...], ...] = ((0, 2), (1,), (0, 1, 2))
    for classes in every:
        maps = rng.random((len(classes), 5, 7)).astype(np.float32)
        images.append((maps, classes, rng.choice([0, 255, *(c + 1 for c in classes)], (5, 7)).astype(np.uint8)))
    found = SeedAgreement(3)
    for image in images:
        found.update(*image)
    found.update(np.zeros((0, 5, 7), np.float32), (), np.zeros((5, 7), np.uint8))
    for column in range(3):
        for place in (0, 17, 50, 83, 100):
            assert found.iou()[column, place] == pytest.approx(slow(images, column, LEVELS[place])), (column, place)


def test_ignored_pixels_and_images_without_maps_say_nothing() -> None:
    maps, seeds = np.array([[[0.9, 0.4]]], np.float32), np.array([[1, 255]], np.uint8)
    other = np.array([[[0.9, 0.99]]], np.float32)
    assert agreement(maps, (0,), seeds).best() == agreement(other, (0,), seeds).best()
    assert not any(one.tells for one in agreement(maps, (0,), np.full((1, 2), 255, np.uint8)).best())


def test_the_best_of_an_image_does_not_hang_on_its_scale() -> None:
    scores, own = np.array([0.9, 0.8, 0.7, 0.2], np.float32), np.array([True, False, True, False])
    assert best_agreement(scores, own, 2) == pytest.approx(2 / 3)  # the first three
    assert best_agreement(0.01 * scores, own, 2) == pytest.approx(2 / 3)
    assert best_agreement(scores, own, 8) == pytest.approx(2 / 9), "six more are elsewhere"
    assert best_agreement(np.full(4, 0.5, np.float32), own, 2) == 0.5, "equal scores are taken together"
    assert best_agreement(scores, own, 0) == best_agreement(scores[:0], own[:0], 3) == 0
