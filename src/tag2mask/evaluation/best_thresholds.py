"""Optimal thresholds per image, class and split, and the images far from the global one (AMN, Figure 1).

Used by ``analyse optimum-threshold`` and the papers' figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import rounded
from tag2mask.core.types import IGNORE, ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.background import CONSTANT, Background
from tag2mask.evaluation.confusion import Matrix
from tag2mask.evaluation.metrics import SegmentationScores
from tag2mask.evaluation.result_tables import Origin, ResultRow
from tag2mask.evaluation.seeds import Pair, pairs
from tag2mask.evaluation.threshold_sweep import GRID, ThresholdSweep, best
from tag2mask.evaluation.thresholds import Threshold

COLUMNS = (
    "stage", "split", "seed", "image", "tags", "threshold_kind", "threshold", "lowest", "highest", "miou",
    "global_threshold", "miou_at_global", "distance",
)  # fmt: skip
"""Of `OptimumAnalysis.lines`."""
NEAR = 0.1
"""An image is near the global threshold where its optimum is at most this far from it, and far from it otherwise."""


@dataclass(frozen=True, slots=True)
class ImageOptimum:
    """The best threshold of one image. Often several are equally good."""

    id: str
    tags: tuple[int, ...]  # class columns of its tags
    threshold: float  # the middle one of the best
    lowest: float  # of the best
    highest: float  # of the best
    miou: float  # at its best thresholds, percent, over the labels in its ground truth or seeds
    miou_at_global: float  # percent
    # From the global threshold to the nearest of the best; 0 where it is one, negative where the image needs a lower.
    distance: float

    @property
    def loss(self) -> float:
        """Points of mIoU that the global threshold costs this image."""
        return self.miou - self.miou_at_global


@dataclass(frozen=True, slots=True)
class Spread:
    """How the best thresholds of some images lie; NaN where there is no image."""

    n_images: int
    mean: float  # of `ImageOptimum.threshold`
    sd: float  # its standard deviation (of these images, not an estimate for others)
    distance: float  # mean of the distance from the global threshold, without its sign
    near: float  # percent of the images at most `NEAR` from it

    def values(self) -> tuple[tuple[str, float], ...]:
        """The numbers by the names that they have in CSV."""
        names = ("optimum_mean", "optimum_sd", "optimum_distance", "optimum_near")
        return tuple(zip(names, (self.mean, self.sd, self.distance, self.near), strict=True))


@dataclass(frozen=True, slots=True)
class ClassOptimum:
    """The threshold with the best IoU of one class over the split, of kind ``oracle``, and that IoU in percent.

    ``spread`` is of the best thresholds of the images that have the class among their tags.
    """

    name: str
    threshold: Threshold
    iou: float
    spread: Spread


@dataclass(frozen=True, slots=True)
class OptimumAnalysis:
    """What `analyse_optimum` found."""

    split: str
    n_images: int  # images with ground truth; all are in the two mIoUs
    n_without_truth: int  # images left out
    threshold: Threshold  # the global one, best for all images together, of kind oracle
    miou: float  # at it, percent
    miou_foreground: float  # at it, mean over the classes, as the next
    f1_foreground: float
    miou_own: float  # with each image cut at its own best threshold, percent
    spread: Spread  # of ``images``
    # Those to which the threshold matters: not without tags, with empty maps or with all of the ground truth ignored.
    images: tuple[ImageOptimum, ...]
    classes: tuple[ClassOptimum, ...]  # of each class that ``images`` have

    def results(self, origin: Origin) -> tuple[ResultRow, ...]:
        """Overall and per class as lines of ``results/``; a class's lines name its own threshold and image count."""
        names = ("miou", "miou_foreground", "f1_foreground", "miou_own")
        split, numbers = self.split, [(name, getattr(self, name)) for name in names]
        found = origin.rows(numbers, self.threshold, split, self.n_images)
        found += origin.rows(self.spread.values(), self.threshold, split, self.spread.n_images)
        for one in self.classes:
            found += origin.rows([(f"iou/{one.name}", one.iou)], one.threshold, split, self.n_images)
            values = [(f"{metric}/{one.name}", value) for metric, value in one.spread.values()]
            found += origin.rows(values, self.threshold, split, one.spread.n_images)
        return found

    def lines(self, names: Sequence[str], *, stage: str, seed: int) -> list[tuple[Any, ...]]:
        """The best threshold of each image as lines of CSV; ``names`` are those of all classes."""
        return [
            (
                stage, self.split, seed, i.id, ";".join(names[c] for c in i.tags), self.threshold.kind_text,
                i.threshold, i.lowest, i.highest, rounded(i.miou), self.threshold.value, rounded(i.miou_at_global),
                i.distance,
            )
            for i in self.images
        ]  # fmt: skip


def spread(images: Sequence[ImageOptimum]) -> Spread:
    """How the best thresholds of some images lie."""
    if not images:
        return Spread(0, math.nan, math.nan, math.nan, math.nan)
    thresholds, distances = [i.threshold for i in images], [abs(i.distance) for i in images]
    near = 100.0 * sum(d <= NEAR for d in distances) / len(distances)
    return Spread(len(images), fmean(thresholds), pstdev(thresholds), fmean(distances), near)


def far(images: Sequence[ImageOptimum], side: int, count: int = 3) -> list[ImageOptimum]:
    """The far images whose optimum is below (``side`` -1) or above (1) the global threshold, largest loss first."""
    on_side = [image for image in images if side * image.distance > NEAR]
    return sorted(on_side, key=lambda image: (-image.loss, image.id))[:count]


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
    """Find the best threshold of each image, of each class and of all images; arguments as for `evaluate_seeds`."""
    chosen = dataset.samples if samples is None else samples
    whole = ThresholdSweep(dataset.classes)
    own: Matrix = np.zeros((len(dataset.classes) + 1,) * 2, dtype=np.int64)
    curves: list[tuple[Sample, Curve]] = []
    for pair in pairs(dataset, read_maps, chosen, threads=threads, advance=advance):
        whole.update(pair.maps, pair.classes, pair.truth, pair.sample.id)
        labels, sweep = image_sweep(pair)
        curve = sweep.mious()  # NaN where the ground truth shows no class
        own[np.ix_(labels, labels)] += sweep.matrix(GRID[_middle(_optima(curve))])
        curves.append((pair.sample, curve))
    top = best(whole.curve())
    at_top = whole.scores(top.threshold)
    # The threshold matters where the curve is not flat, nor NaN.
    images = tuple(_image(s, curve, top.threshold) for s, curve in curves if curve.max() - curve.min() > _SAME)
    return OptimumAnalysis(
        split=dataset.split,
        n_images=len(curves),
        n_without_truth=len(chosen) - len(curves),
        threshold=Threshold(top.threshold, "oracle"),
        miou=top.miou,
        miou_foreground=at_top.mean("iou"),
        f1_foreground=at_top.f1_foreground,
        miou_own=SegmentationScores.of_split(own, dataset.classes).miou,
        spread=spread(images),
        images=images,
        classes=tuple(_classes(dataset.classes, whole, images)),
    )


def image_sweep(pair: Pair, background: Background = CONSTANT) -> tuple[list[int], ThresholdSweep]:
    """The sweep of one image over the labels that its maps or ground truth have, and these labels."""
    true = {int(label) for label in np.unique(pair.truth)} - {0, IGNORE}
    labels = [0, *sorted(true | {column + 1 for column in pair.classes})]
    place = np.full(256, IGNORE, dtype=np.uint8)
    place[labels] = np.arange(len(labels))
    sweep = ThresholdSweep([str(label) for label in labels[1:]], background=background)
    columns = [labels.index(c + 1) - 1 for c in pair.classes]
    sweep.update(pair.maps, columns, place[pair.truth], pair.sample.id, pair.sides)
    return labels, sweep


def _optima(curve: Curve) -> NDArray[np.intp]:
    """Places in `GRID` of all thresholds that are best; every place where the curve is NaN."""
    if np.isnan(curve).all():
        return np.arange(len(curve))
    return np.flatnonzero(curve >= curve.max() - _SAME)


def _middle(places: NDArray[np.intp]) -> int:
    return int(places[(len(places) - 1) // 2])


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
