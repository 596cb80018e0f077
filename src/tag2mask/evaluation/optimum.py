"""The best threshold of each image beside the one that is best for all of them (AMN, Figure 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.types import IGNORE, ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.confusion import Matrix
from tag2mask.evaluation.metrics import SegmentationScores
from tag2mask.evaluation.optima import ClassOptimum, ImageOptimum, OptimumAnalysis, spread
from tag2mask.evaluation.pairs import Pair, pairs
from tag2mask.evaluation.sweep import GRID, ThresholdSweep, best
from tag2mask.evaluation.thresholds import Threshold

_SAME = 1e-9
"""Percent that two mIoUs may differ by and still be equal: their sums are rounded."""

Curve = NDArray[np.float64]
"""(101,) mIoU of one image at the thresholds of `GRID`, percent."""


def analyse_optimum(
    dataset: Dataset,
    read_maps: Callable[[Sample], ActivationMaps],
    *,
    samples: Sequence[Sample] | None = None,
    threads: int = 2,
    advance: Callable[[], None] | None = None,
) -> OptimumAnalysis:
    """Find the best threshold of each image, of each class and of all images; arguments as for `evaluate_seeds`.

    Every image is read once. What is kept of it is its curve: 101 numbers.

    Raises:
        DataError: no image has a truth, or maps and truth do not fit (the image is named).
        NothingShownError: no truth shows a class.
    """
    chosen = dataset.samples if samples is None else samples
    whole = ThresholdSweep(dataset.classes)
    own: Matrix = np.zeros((len(dataset.classes) + 1,) * 2, dtype=np.int64)
    curves: list[tuple[Sample, Curve]] = []
    for pair in pairs(dataset, read_maps, chosen, threads=threads, advance=advance):
        whole.update(pair.maps, pair.classes, pair.truth, pair.sample.id)
        labels, sweep = image_sweep(pair)
        curve = sweep.mious()  # NaN where the truth shows no class
        own[np.ix_(labels, labels)] += sweep.matrix(GRID[_middle(_optima(curve))])
        curves.append((pair.sample, curve))
    top = best(whole.curve())
    images = tuple(_image(s, curve, top.threshold) for s, curve in curves if _matters(curve))
    return OptimumAnalysis(
        split=dataset.split,
        n_images=len(curves),
        n_without_truth=len(chosen) - len(curves),
        threshold=Threshold(top.threshold, "oracle"),
        miou=top.miou,
        miou_own=SegmentationScores.from_matrix(own, dataset.classes).miou,
        spread=spread(images),
        images=images,
        classes=tuple(_classes(dataset.classes, whole, images)),
    )


def image_sweep(pair: Pair) -> tuple[list[int], ThresholdSweep]:
    """The sweep of one image over the labels that its maps or truth have, and these labels."""
    true = {int(label) for label in np.unique(pair.truth)} - {0, IGNORE}
    labels = [0, *sorted(true | {column + 1 for column in pair.classes})]
    place = np.full(256, IGNORE, dtype=np.uint8)
    place[labels] = np.arange(len(labels))
    sweep = ThresholdSweep([str(label) for label in labels[1:]])
    sweep.update(pair.maps, [labels.index(c + 1) - 1 for c in pair.classes], place[pair.truth], pair.sample.id)
    return labels, sweep


def _optima(curve: Curve) -> NDArray[np.intp]:
    """Places in `GRID` of all thresholds that are best; every place where the curve is NaN."""
    if np.isnan(curve).all():
        return np.arange(len(curve))
    return np.flatnonzero(curve >= curve.max() - _SAME)


def _middle(places: NDArray[np.intp]) -> int:
    return int(places[(len(places) - 1) // 2])


def _matters(curve: Curve) -> bool:
    """Whether the threshold makes any difference to the image; false for NaN."""
    return bool(curve.max() - curve.min() > _SAME)


def _image(sample: Sample, curve: Curve, at: float) -> ImageOptimum:
    places = _optima(curve)
    nearest = places[np.abs(places - GRID.index(at)).argmin()]
    return ImageOptimum(
        id=sample.id,
        tags=sample.tags,
        threshold=GRID[_middle(places)],
        lowest=GRID[places[0]],
        highest=GRID[places[-1]],
        miou=float(curve.max()),
        miou_at_global=float(curve[GRID.index(at)]),
        distance=round(GRID[nearest] - at, 2),
    )


def _classes(names: Sequence[str], whole: ThresholdSweep, images: Sequence[ImageOptimum]) -> list[ClassOptimum]:
    """The optimum of each class of the split that has images; its IoU counts the pixels of all images."""
    found = []
    for column, iou in enumerate(whole.ious()[:, 1:].T):
        mine = [image for image in images if column in image.tags]
        if mine:
            at = GRID[int(np.nanargmax(iou))]
            found.append(ClassOptimum(names[column], Threshold(at, "oracle"), float(np.nanmax(iou)), spread(mine)))
    return found
