"""Rules on raw scores of drawn kinds of data, against the thresholds that are best by the ground truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.data.readers.parts import Scenes
from tag2mask.evaluation.threshold_rules.evidence import ABSENT_BINS
from tag2mask.evaluation.threshold_rules.score_evidence import ImageScores, cells, gather, slopes, tag_table
from tag2mask.evaluation.threshold_rules.score_rules import ClassChoice, ScoreOptions, choose_classes
from tag2mask.thresholds.kinds import RuleSettings
from tests.helpers.quick_scores import Scored, scored

THRESHOLDS = np.concatenate([np.arange(0, 0.9, 0.01), np.arange(0.9, 1, 0.002)])


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


def chosen(found: Scored, rule: str, settings: RuleSettings) -> list[ClassChoice]:
    """What a rule says of each class, from the scores of all images."""
    maps, tags = raised(found.scores), [sample.tags for sample in found.dataset.samples]
    images = (
        ImageScores(own, cells(each[list(own)]), slopes(each[list(own)]), _absent(each, own))
        for own, each in zip(tags, maps, strict=True)
    )
    table = tag_table(tags, maps.shape[1])
    draws = gather(images, table, settings.share, probabilities=True, draws=0)
    return choose_classes(draws, rule, settings.fallback, ScoreOptions(quantile=settings.quantile))


def _absent(maps: NDArray[np.float32], tags: tuple[int, ...]) -> NDArray[np.int64]:
    bins = np.rint(maps.reshape(len(maps), -1) * (ABSENT_BINS - 1)).astype(np.intp)
    counts = np.stack([np.bincount(row, minlength=ABSENT_BINS) for row in bins])
    counts[list(tags)] = 0
    return counts


def share_of_best(scenes: Scenes, rule: str, **values: Any) -> float:
    """IoU at a rule's thresholds over IoU at the best ones by the ground truth, mean over the classes."""
    found = scored(scenes, difficulty="easy")
    settings = RuleSettings(rule=rule, per="class", scores="raw", **values)
    shares = []
    for column, choice in enumerate(chosen(found, rule, settings)):
        assert choice.value is not None, choice.why
        maps, truth = own(found, column)
        shares.append(iou(maps, truth, choice.value) / max(iou(maps, truth, t) for t in THRESHOLDS))
    return float(np.mean(shares))


@pytest.mark.parametrize("scenes", ["lines", "lookalikes", "blobs"])
def test_the_scores_find_every_class_somewhere_at_its_best_threshold(scenes: Scenes) -> None:
    """What the other tests rest on: tags have taught something, and the threshold decides how much of it shows."""
    found = scored(scenes, difficulty="easy")
    for column in range(len(found.dataset.classes)):
        maps, truth = own(found, column)
        ious = [iou(maps, truth, t) for t in THRESHOLDS]
        assert max(ious) > 1.5 * truth.mean()
        assert max(ious) > 1.2 * ious[0]


def test_a_patchwork_needs_no_threshold_its_arg_max_is_right() -> None:
    found = scored("patchwork", difficulty="easy")
    maps = enlarged(raised(found.scores), found.truths.shape)
    for row, sample in enumerate(found.dataset.samples):
        absent = [c for c in range(maps.shape[1]) if c not in sample.tags]
        maps[row, absent] = -1
    labels = maps.argmax(1) + 1
    for label in range(1, maps.shape[1] + 1):
        both = ((labels == label) & (found.truths == label)).sum()
        assert both / ((labels == label) | (found.truths == label)).sum() > 0.9


@pytest.mark.parametrize("scenes", ["lookalikes", "blobs"])
def test_the_rule_is_near_the_best_threshold_on_things_of_some_size(scenes: Scenes) -> None:
    """Two classes that come together, and one thing an image of another kind each: both of its branches."""
    assert share_of_best(scenes, "compared") >= 0.9


@pytest.mark.parametrize(("scenes", "least"), [("lines", 0.72), ("defects", 0.5)])
def test_on_thin_and_tiny_things_the_rule_is_nearer_to_the_best_threshold_than_otsu(
    scenes: Scenes, least: float
) -> None:
    """A cell that holds a little of a thing scores as high as one that it fills, so the best threshold is high."""
    found = share_of_best(scenes, "compared")
    assert found >= least
    assert found > share_of_best(scenes, "otsu") + 0.03


def test_the_middle_is_no_threshold_where_each_image_holds_another_kind_of_one_thing() -> None:
    """Images of other kinds do not show the ground that a thing lies on; the rule sees it from the tags alone."""
    assert share_of_best("blobs", "compared") > share_of_best("blobs", "midpoint") + 0.1
    reasons = [choice.why for choice in chosen(scored("blobs", difficulty="easy"), "compared", RuleSettings())]
    assert all(why.startswith("0 % of what stands beside it") for why in reasons)
