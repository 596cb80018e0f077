"""Width of the plateau and mean over the usual thresholds, of curves drawn by hand and of AMN's toy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.evaluation.result_tables import Origin
from tag2mask.evaluation.robustness import (
    COLUMNS,
    CURVE_COLUMNS,
    MEAN,
    MEASURES,
    ImageImbalance,
    ImbalanceAnalysis,
    analyse_imbalance,
    curve_lines,
    robustness,
)
from tag2mask.evaluation.seeds import SeedEvaluation
from tag2mask.evaluation.threshold_sweep import GRID, CurvePoint, ThresholdSweep
from tag2mask.evaluation.thresholds import Threshold
from tests.helpers.held_maps import NAMES, Content, Held, random_content, steps
from tests.helpers.refused import refused


def curve(*values: float, start: float = 0.0) -> list[CurvePoint]:
    """Points on tenths from ``start``."""
    return [CurvePoint(round(start + i / 10, 1), v, 1, 2, 3, math.nan) for i, v in enumerate(values)]


def test_the_plateau_is_the_unbroken_range_within_two_points_of_the_best() -> None:
    found = robustness(curve(49.0, 40.0, 48.0, 50.0, 48.1, 47.9, 49.5))
    assert found.threshold == Threshold(0.3, "oracle")
    assert (found.miou, found.low, found.high, found.width) == (50, 0.2, 0.4, 0.2)  # 49.0 and 49.5 lie beyond dips
    assert robustness(curve(50.0, 10.0)).width == 0
    assert robustness(curve(50.0, 50.0, 50.0)).width == 0.2


def test_the_mean_is_over_the_thresholds_from_005_to_060() -> None:
    assert robustness(curve(9, 1, 2, 3, 4, 5, 6, 100)).mean == pytest.approx(3.5)  # 0.1 to 0.6
    points = [CurvePoint(t, 100 * t, 0, 0, 0, 0) for t in GRID]
    assert robustness(points).mean == pytest.approx(np.mean(np.arange(5, 61)))


def test_an_empty_curve_is_an_error() -> None:
    with refused(ConfigError, "an empty curve", "no best threshold"):
        robustness([])


def toy(object_left: float, object_right: float, background: float) -> list[CurvePoint]:
    """A row of pixels with an object in its middle half, as in AMN's Figure 2."""
    values = np.concatenate(
        [np.full(25, background), np.linspace(object_left, object_right, 50), np.full(25, background)]
    )
    truth = np.repeat([0, 1, 0], [25, 50, 25]).astype(np.uint8)
    sweep = ThresholdSweep(["object"])
    sweep.update(values[None, None].astype(np.float32), (0,), truth[None])
    return list(sweep.curve())


def test_even_activation_with_a_gap_is_robust_and_a_ramp_without_is_not() -> None:
    even, ramp = robustness(toy(1.0, 0.9, 0.1)), robustness(toy(1.0, 0.2, 0.3))
    assert (even.miou, even.low, even.high) == (100, 0.1, 0.9)
    assert ramp.width < 0.05 < even.width
    assert even.mean > ramp.mean + 20


def test_rows_and_lines() -> None:
    points = curve(40.0, 50.0, 49.0)
    rows = robustness(points).results(Origin("amn", 3, "do it"), "train", 12)
    assert [(r.metric, r.threshold_kind, r.threshold, r.value) for r in rows] == [
        ("miou", "oracle", 0.1, 50.0),
        ("plateau_width", "oracle", 0.1, 0.1),
        ("plateau_low", "oracle", 0.1, 0.1),
        ("plateau_high", "oracle", 0.1, 0.2),
        (MEAN, "none", None, 49.5),
    ]
    assert MEAN == "mean_miou_0.05-0.60"
    assert {(r.method, r.split, r.n_images, r.seed, r.command) for r in rows} == {("amn", "train", 12, 3, "do it")}
    cells = curve_lines(SeedEvaluation("train", 12, 0, (), tuple(points), ()), "amn@3", 3)[1]
    line = dict(zip(CURVE_COLUMNS, cells, strict=True))
    assert [line[c] for c in ("stage", "n_images", "seed", "threshold", "miou", "fn")] == ["amn@3", 12, 3, 0.1, 50, 2]


def analyse(classes: Sequence[str], content: Sequence[Content]) -> ImbalanceAnalysis:
    held = Held(classes, content)
    return analyse_imbalance(held, held.maps)


def even(inside: float, outside: float) -> Content:
    """An object at one value, everything else at another."""
    values, classes, truth = steps(inside, outside)
    values[0, 5, 5] = inside
    return values, classes, truth


def test_two_levels_satisfy_both_conditions() -> None:
    (image,) = analyse(["cat"], [even(1, 0)]).images
    assert image == ImageImbalance("0", spread=0, inside=1, outside=0, gap=1, margin=1)


def test_half_of_an_object_that_is_weak_is_imbalance() -> None:
    values, classes, truth = even(0.75, 0.25)
    values[0, 10:15, 5:15] = 0.25  # half of the object is like the background
    (image,) = analyse(["cat"], [(values, classes, truth)]).images
    assert image == ImageImbalance("0", spread=0.25, inside=0.5, outside=0.25, gap=0.25, margin=0)


def test_a_margin_leaves_a_tenth_aside_at_either_side() -> None:
    values, classes, truth = even(0.75, 0.25)
    values[0, 5, 5:14] = 0  # 9 of the object's 100 pixels
    values[0, 0, :] = 1  # 20 of the background's 300
    (image,) = analyse(["cat"], [(values, classes, truth)]).images
    assert image.margin == 0.5
    values[0, 5, 5:15] = 0
    values[0, 6, 5] = 0  # 11
    (image,) = analyse(["cat"], [(values, classes, truth)]).images
    assert image.margin == -0.25


def slow(values: NDArray[np.float32], classes: Sequence[int], truth: NDArray[np.uint8]) -> list[list[float]]:
    """Mean, spread and mean outside of each class, by loops over pixels."""
    found = []
    for column, one in zip(classes, values, strict=True):
        inside = [float(v) for v, t in zip(one.ravel(), truth.ravel(), strict=True) if t == column + 1]
        outside = [float(v) for v, t in zip(one.ravel(), truth.ravel(), strict=True) if t == 0]
        if inside and outside:
            a, b = statistics.fmean(inside), statistics.fmean(outside)
            found.append([statistics.pstdev(inside), a, b, a - b])
    return found


def test_every_number_equals_a_loop_over_pixels() -> None:
    content = random_content(1)
    found = analyse(NAMES, content)
    assert (len(found.images), found.n_without_object) == (7, 1)  # one has no tag
    for image in found.images:
        values, classes, truth = content[int(image.id)]
        assert truth is not None
        wanted = np.mean(slow(values, classes, truth), axis=0)
        np.testing.assert_allclose([getattr(image, m) for m in MEASURES[:4]], wanted, rtol=1e-6)
    rows = {row.metric: row for row in found.results(Origin("amn", 2, "do it"))}
    assert tuple(rows) == MEASURES
    assert rows["gap"].value == round(statistics.fmean(i.gap for i in found.images), 4)
    assert {(r.threshold_kind, r.threshold, r.n_images, r.seed) for r in rows.values()} == {("none", None, 7, 2)}
    line = dict(zip(COLUMNS, found.lines(stage="amn@2", seed=2)[0], strict=True))
    assert (line["stage"], line["split"], line["seed"], line["image"]) == ("amn@2", "train", 2, "0")
    assert line["gap"] == round(found.images[0].gap, 4)


def test_ignored_pixels_and_those_of_other_classes_count_nowhere() -> None:
    values, classes, truth = steps(0.75, 0.25)
    assert truth is not None
    truth[0], truth[1] = 255, 2
    changed = values.copy()
    changed[:, :2] = 0.99
    assert analyse(["cat", "dog"], [(values, classes, truth)]) == analyse(["cat", "dog"], [(changed, classes, truth)])


def test_a_class_of_the_tags_that_ground_truth_has_not_is_left_out() -> None:
    values, _, truth = steps(0.75, 0.25)
    both = (np.concatenate([values, values[::-1] * 0.1]), (0, 1), truth)
    assert analyse(["cat", "dog"], [both]).images == analyse(["cat"], [steps(0.75, 0.25)]).images


def test_without_an_object_or_a_background_there_is_nothing_to_measure() -> None:
    values, classes, _ = steps(0.75, 0.25)
    full, empty = np.ones((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    found = analyse(["cat"], [(values, classes, full), (values, classes, empty), (values, classes, None), even(1, 0)])
    assert (len(found.images), found.n_without_object, found.n_without_truth) == (1, 2, 1)
    with refused(DataError, "split 'train'", "both an object", "background"):
        analyse(["cat"], [(values, classes, full)])
    with refused(DataError, "split 'train'", "no image", "ground truth"):
        analyse(["cat"], [(values, classes, None)])
