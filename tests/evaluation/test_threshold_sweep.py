"""The sweep in one pass equals an argmax at every threshold, bit for bit."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.threshold_sweep import GRID, CurvePoint, ThresholdSweep, best
from tag2mask.evaluation.thresholds import cut
from tests.helpers.refused import refused

NAMES = tuple("abcdefg")
Image = tuple[NDArray[np.float32], tuple[int, ...], LabelImage]


def images(seed: int) -> list[Image]:
    """Images of several sizes and classes; many values sit exactly on thresholds, some maps tie, one has no class."""
    rng = np.random.default_rng(seed)
    made = []
    for classes, shape in [((0,), (9, 7)), ((1, 4), (12, 12)), ((0, 2, 6), (8, 15)), ((), (5, 5)), ((3, 5), (1, 11))]:
        maps = rng.random((len(classes), *shape)).astype(np.float32)
        on_grid = rng.random(maps.shape) < 0.5
        maps[on_grid] = np.asarray(GRID, np.float32)[rng.integers(0, 101, on_grid.sum())]
        maps[rng.random(maps.shape) < 0.1] = 0
        truth = rng.integers(0, len(NAMES) + 1, shape).astype(np.uint8)
        truth[rng.random(shape) < 0.15] = 255
        made.append((maps, classes, truth))
    return made


@pytest.mark.parametrize("thresholds", [GRID, (0.0,), (0.155, 1 / 3, 0.9), (0.3, 0.3 + 1e-12)])
def test_equals_an_argmax_at_every_threshold(thresholds: tuple[float, ...]) -> None:
    sweep, made = ThresholdSweep(NAMES, thresholds), images(1)
    for maps, classes, truth in made:
        sweep.update(maps, classes, truth)
    for threshold in thresholds:
        slow = SegmentationMetrics(NAMES)
        for maps, classes, truth in made:
            slow.update(cut(maps, classes, threshold), truth)
        np.testing.assert_array_equal(sweep.matrix(threshold), slow.matrix)
        assert sweep.scores(threshold).miou == slow.compute().miou


def test_recall_falls_and_nothing_exceeds_one() -> None:
    sweep = ThresholdSweep(["a"])
    rng = np.random.default_rng(0)
    sweep.update(rng.random((1, 30, 30)).astype(np.float32), (0,), rng.integers(0, 2, (30, 30)).astype(np.uint8))
    recalls = [point.recall for point in sweep.curve()]
    assert recalls == sorted(recalls, reverse=True)
    assert (recalls[0], recalls[-1]) == (100, 0)
    assert math.isnan(sweep.curve()[-1].precision)


def test_the_best_is_of_the_whole_curve_and_the_lowest_of_equals() -> None:
    points = [CurvePoint(t / 10, m, 0, 0, 0, 0) for t, m in enumerate([40, 30, math.nan, 50, 45, 50])]
    assert best(points).threshold == 0.3
    with refused(ConfigError, "an empty curve", "no best threshold"):
        best([])


def test_curve_holds_the_means_by_name() -> None:
    sweep = ThresholdSweep(NAMES)
    for maps, classes, truth in images(2):
        sweep.update(maps, classes, truth)
    (point,) = sweep.curve([0.4])
    values = dict(sweep.scores(0.4).values())
    assert point == CurvePoint(0.4, *(values[m] for m in ("miou", "fp", "fn", "precision", "recall")))
    assert tuple(p.threshold for p in sweep.curve()) == GRID


def test_grid_is_the_hundredths_as_written() -> None:
    assert len(GRID) == 101
    assert (GRID[0], GRID[29], GRID[35], GRID[57], GRID[100]) == (0.0, 0.29, 0.35, 0.57, 1.0)


def test_thresholds_outside_the_sweep_are_named() -> None:
    with pytest.raises(ConfigError, match=r"thresholds: \[1.2\]; expected numbers from 0 to 1"):
        ThresholdSweep(NAMES, [0.1, 1.2])
    with pytest.raises(ConfigError, match="thresholds: none given"):
        ThresholdSweep(NAMES, [])
    with refused(ConfigError, "threshold 0.123", "this sweep"):
        ThresholdSweep(NAMES).matrix(0.123)


ONES = np.ones((1, 2, 2), np.float32)


@pytest.mark.parametrize(
    ("maps", "classes", "truth", "text"),
    [
        (ONES, (0,), np.zeros((2, 3), np.uint8), "'im' has shape (2, 2), its ground truth (2, 3)"),
        (ONES, (0, 1), np.zeros((2, 2), np.uint8), "maps of 'im' … (1, 2, 2) for 2 classes"),
        (ONES, (7,), np.zeros((2, 2), np.uint8), "'im' … class columns [7] … ascending … 0 to 6"),
        (np.ones((2, 2, 2), np.float32), (3, 1), np.zeros((2, 2), np.uint8), "class columns [3, 1]"),
        (ONES.astype(np.float64), (0,), np.zeros((2, 2), np.uint8), "maps of 'im' are float64; expected float32"),
        (ONES * np.float32(np.nan), (0,), np.zeros((2, 2), np.uint8), "maps of 'im' hold NaN"),
        (ONES, (0,), np.full((2, 2), 9, np.uint8), "truth of 'im' holds label 9 (4 pixels)"),
    ],
)
def test_what_cannot_be_counted(
    maps: NDArray[np.float32], classes: tuple[int, ...], truth: LabelImage, text: str
) -> None:
    with refused(DataError, text):
        ThresholdSweep(NAMES).update(maps, classes, truth, "im")
