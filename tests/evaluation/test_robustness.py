"""Width of the plateau and mean over the usual thresholds, of curves drawn by hand and of AMN's toy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError
from tag2mask.evaluation.robustness import MEAN, curve_lines, robustness
from tag2mask.evaluation.seeds import SeedEvaluation
from tag2mask.evaluation.sweep import GRID, CurvePoint, ThresholdSweep
from tag2mask.evaluation.thresholds import Threshold


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
    with pytest.raises(ConfigError, match="an empty curve has no best threshold"):
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
    rows = robustness(points).results("amn", "train", 12, 3, "do it")
    assert [(r.metric, r.threshold_kind, r.threshold, r.value) for r in rows] == [
        ("miou", "oracle", 0.1, 50.0),
        ("plateau_width", "oracle", 0.1, 0.1),
        ("plateau_low", "oracle", 0.1, 0.1),
        ("plateau_high", "oracle", 0.1, 0.2),
        (MEAN, "none", None, 49.5),
    ]
    assert MEAN == "mean_miou_0.05-0.60"
    assert {(r.method, r.split, r.n_images, r.seed, r.command) for r in rows} == {("amn", "train", 12, 3, "do it")}
    line = curve_lines(SeedEvaluation("train", 12, 0, (), tuple(points), ()), "amn@3", 3)[1]
    assert (line.stage, line.n_images, line.seed, line.threshold, line.miou, line.fn) == ("amn@3", 12, 3, 0.1, 50, 2)
