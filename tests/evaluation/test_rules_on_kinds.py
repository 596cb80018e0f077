"""Rules on raw scores of drawn kinds of data, against the thresholds that are best by the ground truth."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.data.readers.parts import Scenes
from tag2mask.evaluation.threshold_rules.evidence import histogram
from tag2mask.evaluation.threshold_rules.rules import choose_thresholds, find_rule
from tests.helpers.quick_scores import Scored, scored

THRESHOLDS = np.arange(0, 1, 0.01)


def raised(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Raw scores of CAM in 0..1: 0.5 is probability one half."""
    return np.asarray(1 / (1 + np.exp(-scores / 4)), np.float32)


def enlarged(maps: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """(..., h, w) -> (..., H, W), each cell a square."""
    for axis, side in ((-1, shape[-1]), (-2, shape[-2])):
        maps = maps.repeat(side // maps.shape[axis], axis=axis)
    return maps


def own(found: Scored, column: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Maps and ground truth of the images with a class, (n, H, W) each."""
    there = [i for i, sample in enumerate(found.dataset.samples) if column in sample.tags]
    truths = found.truths[there]
    return enlarged(raised(found.scores[there, column]), truths.shape), truths == column + 1


def iou(maps: NDArray[np.float32], truth: NDArray[np.bool_], threshold: float) -> float:
    seeds = maps > threshold
    return float((seeds & truth).sum() / max((seeds | truth).sum(), 1))


def compared(scenes: Scenes, rule: str) -> Iterator[tuple[float, float]]:
    """IoU of each class at a rule's threshold for it, and at the best one."""
    found = scored(scenes)
    evidence = [
        histogram(sample.id, sample.tags, raised(found.scores[i, list(sample.tags)]))
        for i, sample in enumerate(found.dataset.samples)
        if sample.tags
    ]
    choice = choose_thresholds([find_rule(rule)], evidence, len(found.dataset.classes))[rule]
    for column, threshold in enumerate(choice.classes):
        assert threshold is not None
        maps, truth = own(found, column)
        yield iou(maps, truth, threshold), max(iou(maps, truth, t) for t in THRESHOLDS)


@pytest.mark.parametrize("scenes", ["lines", "lookalikes", "blobs"])
def test_the_scores_find_every_class_somewhere_at_its_best_threshold(scenes: Scenes) -> None:
    """What the other tests rest on: tags have taught something, and the threshold decides how much of it shows."""
    found = scored(scenes)
    for column in range(len(found.dataset.classes)):
        maps, truth = own(found, column)
        ious = [iou(maps, truth, t) for t in THRESHOLDS]
        assert max(ious) > 1.5 * truth.mean()
        assert max(ious) > 1.2 * ious[0]


def test_a_patchwork_needs_no_threshold_its_arg_max_is_right() -> None:
    found = scored("patchwork")
    maps = enlarged(raised(found.scores), found.truths.shape)
    for row, sample in enumerate(found.dataset.samples):
        absent = [c for c in range(maps.shape[1]) if c not in sample.tags]
        maps[row, absent] = -1
    labels = maps.argmax(1) + 1
    for label in range(1, maps.shape[1] + 1):
        both = ((labels == label) & (found.truths == label)).sum()
        assert both / ((labels == label) | (found.truths == label)).sum() > 0.9


def test_otsu_is_near_the_best_threshold_where_two_classes_look_alike() -> None:
    for at_rule, best in compared("lookalikes", "otsu"):
        assert at_rule >= 0.85 * best
