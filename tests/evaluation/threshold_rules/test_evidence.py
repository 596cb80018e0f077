"""What rules look at, counted pixel by pixel: histograms, agreement of two views, the classifier's answers."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.evaluation.threshold_rules.evidence import BINS, PROBED, agreement, erasure, histogram
from tag2mask.evaluation.threshold_rules.rules import best_agreement
from tag2mask.evaluation.threshold_sweep import GRID
from tag2mask.evaluation.thresholds import cut
from tests.helpers.refused import refused


def random_maps(seed: int, classes: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((classes, 9, 13)).astype(np.float16).astype(np.float32)


def test_a_histogram_counts_the_largest_map_and_each_map() -> None:
    maps = np.array([[[0.0, 0.2504, 1.0]], [[0.1, 0.5, 0.3]]], np.float32)
    found = histogram("a", (1, 4), maps)
    assert (found.id, found.columns) == ("a", (1, 4))
    assert np.flatnonzero(found.whole).tolist() == [100, 500, 1000]
    assert np.flatnonzero(found.classes[0]).tolist() == [0, 250, 1000]
    assert np.flatnonzero(found.classes[1]).tolist() == [100, 300, 500]
    assert found.classes.shape == (2, BINS)


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1])
def test_values_that_are_no_activation_are_refused(value: float) -> None:
    with refused(DataError, "maps of 'a'", "NaN or values outside 0..1"):
        histogram("a", (0,), np.array([[[0.5, value]]], np.float32))


def slow_agreement(
    first: NDArray[np.float32], second: NDArray[np.float32], threshold: float
) -> list[tuple[float, float]]:
    a, b = (cut(maps, range(len(maps)), threshold) for maps in (first, second))
    found = []
    for label in range(1, len(first) + 1):
        mine, other = a == label, b == label
        chance = mine.sum() * other.sum() / a.size
        both = (mine & other).sum()
        found.append((both - chance, mine.sum() + other.sum() - both - chance))
    return found


def test_agreement_equals_the_count_of_seeds() -> None:
    first, second = random_maps(0), np.clip(random_maps(0) + random_maps(1) * 0.3, 0, 1)
    found = agreement("a", (0, 3), first, second)
    for place in (0, 17, 50, 80, 100):
        expected = slow_agreement(first, second, GRID[place])
        np.testing.assert_allclose(found.classes[:, place], expected, atol=1e-9)
        np.testing.assert_allclose(found.whole[place], np.sum(expected, axis=0), atol=1e-9)


def test_the_same_view_twice_agrees_fully_and_two_strangers_only_by_chance() -> None:
    maps = random_maps(2, 1)
    same = agreement("a", (0,), maps, maps).whole
    middle = slice(20, 80)
    np.testing.assert_allclose(same[middle, 0], same[middle, 1])
    strangers = np.zeros((len(GRID), 2))
    for seed in range(40):
        strangers += agreement("a", (0,), random_maps(100 + seed, 1), random_maps(200 + seed, 1)).whole
    assert np.abs(strangers[middle, 0] / strangers[middle, 1]).max() < 0.06
    full = agreement("a", (0,), np.maximum(maps, 0.01), np.maximum(random_maps(3, 1), 0.01)).whole
    assert full[0].tolist() == [0, 0], "everything is foreground in both: nothing beyond chance"


def test_views_that_share_an_object_agree_between_noise_and_object() -> None:
    """Noise below 0.4 differs between the views, the object is above 0.6 in both."""
    rng = np.random.default_rng(7)
    views = []
    for _ in range(2):
        values = (rng.random((1, 40, 40)) * 0.4).astype(np.float32)
        values[0, 10:25, 10:25] = 0.6 + 0.4 * rng.random((15, 15))
        views.append(values)
    found = best_agreement(agreement("a", (0,), *views).whole)
    assert found is not None
    assert 0.4 <= found <= 0.6


def test_views_of_different_sizes_are_refused() -> None:
    with refused(DataError, "maps of 'a'", "(2, 9, 13) and (1, 9, 13)"):
        agreement("a", (0, 1), random_maps(0), random_maps(0, 1))


def test_erasure_sets_the_gain_beside_what_the_area_is_worth() -> None:
    gains = np.linspace(0.9, -0.9, len(PROBED))[None]
    areas = np.linspace(1, 0, len(PROBED))[None]
    found = erasure("a", (2,), gains, areas, np.array([0.9]))
    np.testing.assert_allclose(found.whole[:, 0], gains[0])
    np.testing.assert_allclose(found.whole[:, 1], gains[0], atol=1e-12)
    assert found.classes.shape == (1, len(PROBED), 2)
