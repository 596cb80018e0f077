"""Best thresholds: maps whose optimum is known, and a slow search over every threshold of random ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from tag2mask.core.errors import DataError
from tag2mask.evaluation.best_thresholds import (
    COLUMNS,
    ImageOptimum,
    OptimumAnalysis,
    analyse_optimum,
    far,
    spread,
)
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.result_tables import Origin
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.threshold_sweep import GRID, ThresholdSweep
from tag2mask.evaluation.thresholds import Threshold, cut
from tests.helpers.held_maps import NAMES, Content, Held, random_content, steps
from tests.helpers.refused import refused


def analyse(classes: Sequence[str], content: Sequence[Content]) -> OptimumAnalysis:
    held = Held(classes, content)
    return analyse_optimum(held, held.maps)


def test_the_optimum_of_two_levels_is_the_whole_gap_and_its_middle_the_middle_of_the_gap() -> None:
    found = analyse(["cat"], [steps(0.75, 0.25)])
    (image,) = found.images
    assert (image.lowest, image.threshold, image.highest) == (0.25, 0.49, 0.74)  # a value is not above itself
    assert (image.miou, image.miou_at_global, image.distance) == (100, 100, 0)
    assert found.threshold == Threshold(0.25, "oracle")
    assert (found.miou, found.miou_own) == (100, 100)
    assert (found.spread.mean, found.spread.sd, found.spread.distance, found.spread.near) == (0.49, 0, 0, 100)


def test_images_that_need_thresholds_apart_pay_for_the_global_one() -> None:
    low, high = steps(0.225, 0.1), steps(0.9, 0.725)  # right from 0.10 to 0.22, and from 0.73 to 0.89
    found = analyse(["cat"], [low, low, high])
    assert found.threshold.value is not None
    at = found.threshold.value
    first, _, last = found.images
    assert (first.lowest, first.highest, last.lowest, last.highest) == (0.1, 0.22, 0.73, 0.89)
    assert {first.distance, last.distance} == {0.0, round(0.73 - at, 2)}
    assert 0.1 <= at <= 0.22  # two of three images
    assert found.miou_own == 100
    assert found.miou == evaluate(["cat"], [low, low, high], [at] * 3).compute().miou < 100
    assert last.loss == pytest.approx(100 - evaluate(["cat"], [high], [at]).compute().miou)
    assert found.spread.distance == pytest.approx(last.distance / 3)
    assert found.spread.near == pytest.approx(200 / 3)
    assert found.spread.sd == pytest.approx(np.std([0.16, 0.16, 0.81]))


def evaluate(classes: Sequence[str], content: Sequence[Content], thresholds: Sequence[float]) -> SegmentationMetrics:
    """Each image cut at a threshold of its own, all in one matrix."""
    metrics = SegmentationMetrics(classes)
    for (values, columns, truth), threshold in zip(content, thresholds, strict=True):
        assert truth is not None
        metrics.update(cut(values, columns, threshold), truth)
    return metrics


@pytest.mark.parametrize("seed", range(3))
def test_every_number_equals_a_slow_search(seed: int) -> None:
    content = random_content(seed)
    found = analyse(NAMES, content)
    held = Held(NAMES, content)
    oracle = evaluate_seeds(held, held.maps).scores[-1]
    assert (found.threshold, found.miou) == (oracle.threshold, oracle.scores.miou)
    at = oracle.threshold.value
    assert at is not None
    by_id = {image.id: image for image in found.images}
    assert sorted(by_id) == ["0", "1", "2", "3", "4", "5", "7"]  # the sixth has no tag: no threshold matters to it
    own = [at] * len(content)
    for image_id, image in by_id.items():
        one = content[int(image_id)]
        curve = [evaluate(NAMES, [one], [t]).compute().miou for t in GRID]
        equal = [t for t, miou in zip(GRID, curve, strict=True) if miou > max(curve) - 1e-9]
        assert (image.lowest, image.highest) == (equal[0], equal[-1])
        assert image.threshold == equal[(len(equal) - 1) // 2]
        assert image.miou == pytest.approx(max(curve))
        assert image.miou_at_global == pytest.approx(curve[GRID.index(at)])
        assert abs(image.distance) == pytest.approx(min(abs(t - at) for t in equal), abs=1e-9)
        assert image.tags == one[1]
        own[int(image_id)] = image.threshold
    assert found.miou_own == pytest.approx(evaluate(NAMES, content, own).compute().miou)
    for one_class in found.classes:
        column = NAMES.index(one_class.name)
        ious = [evaluate(NAMES, content, [t] * len(content)).compute().iou[column + 1] for t in GRID]
        assert one_class.iou == pytest.approx(max(ious))
        assert one_class.threshold == Threshold(GRID[int(np.argmax(ious))], "oracle")
        mine = [i for i in found.images if column in i.tags]
        assert one_class.spread == spread(mine)
        assert one_class.spread.n_images == len(mine) > 0


def test_ious_of_a_sweep_are_those_of_its_scores_at_every_threshold() -> None:
    sweep = ThresholdSweep([*NAMES, "nowhere"], [0.0, 0.31, 0.5, 1.0])
    for values, classes, truth in random_content(4)[:3]:
        assert truth is not None
        sweep.update(values, classes, truth)
    ious = sweep.ious()
    for row, threshold in zip(ious, sweep.thresholds, strict=True):
        np.testing.assert_allclose(row, sweep.scores(threshold).iou, rtol=1e-12)
    assert np.isnan(ious[:, -1]).all()


def test_what_no_threshold_changes_is_counted_but_has_no_optimum() -> None:
    flat = (np.zeros((1, 4, 4), np.float32), (0,), np.ones((4, 4), np.uint8))
    void = (np.full((1, 4, 4), 0.5, np.float32), (0,), np.full((4, 4), 255, np.uint8))
    found = analyse(["cat"], [flat, void, steps(0.75, 0.25), (np.zeros((0, 4, 4), np.float32), (), None)])
    assert [image.id for image in found.images] == ["2"]
    assert (found.n_images, found.n_without_truth, found.spread.n_images) == (3, 1, 1)
    alone = analyse(["cat"], [flat])
    assert alone.spread.n_images == 0
    assert math.isnan(alone.spread.mean)
    values = {row.metric: row.value for row in alone.results(Origin("cam", 0, "x"))}
    assert (values["miou"], values["optimum_mean"]) == (0, None)


def test_without_a_truth_nothing_is_found() -> None:
    values, classes, _ = steps(0.75, 0.25)
    with refused(DataError, "split 'train'", "no image", "ground truth", "Give masks"):
        analyse(["cat"], [(values, classes, None)])


def optimum(image_id: str, distance: float, loss: float) -> ImageOptimum:
    return ImageOptimum(image_id, (0,), 0.5, 0.5, 0.5, 90, 90 - loss, distance)


def test_far_images_are_those_that_lose_most_on_their_side() -> None:
    images = [
        optimum("near", -0.1, 50),
        optimum("b", -0.3, 10),
        optimum("a", -0.2, 10),
        optimum("most", -0.11, 40),
        optimum("least", -0.5, 1),
        optimum("up", 0.4, 20),
        optimum("same", 0.0, 0),
    ]
    assert [i.id for i in far(images, -1)] == ["most", "a", "b"]
    assert [i.id for i in far(images, -1, 1)] == ["most"]
    assert [i.id for i in far(images, 1)] == ["up"]
    assert far(images[:5], 1) == []


def test_rows_carry_kind_count_and_each_class_s_own_threshold() -> None:
    found = analyse(["cat", "dog"], [steps(0.75, 0.25), steps(0.9, 0.5, column=1), steps(0.9, 0.5, column=1)])
    rows = {row.metric: row for row in found.results(Origin("cam", 7, "do it"))}
    assert {row.threshold_kind for row in rows.values()} == {"oracle"}
    assert {(row.seed, row.split, row.command, row.method) for row in rows.values()} == {(7, "train", "do it", "cam")}
    assert (rows["miou"].n_images, rows["miou"].threshold, rows["miou"].value) == (3, 0.5, 100)
    assert (rows["iou/cat"].threshold, rows["iou/dog"].threshold) == (0.25, 0.5)
    assert (rows["optimum_mean/dog"].n_images, rows["optimum_mean/dog"].value) == (2, 0.69)
    assert rows["optimum_mean/cat"].n_images == 1
    line = dict(zip(COLUMNS, found.lines(["cat", "dog"], stage="cam@7", seed=7)[1], strict=True))
    assert [line[c] for c in ("stage", "tags", "threshold_kind", "threshold", "global_threshold")] == [
        "cam@7", "dog", "oracle", 0.69, 0.5,
    ]  # fmt: skip
