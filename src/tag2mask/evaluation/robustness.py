"""Robustness of maps to the threshold: width of the curve of mIoU (AMN, Figure 6), and activation imbalance.

The imbalance puts AMN section 3's two conditions for maps that any threshold cuts well into numbers of each image:
(c1) little imbalance inside the object; (c2) a large gap between object and background. The two-level map of AMN's
Figure 2(a), 1 on the object and 0 elsewhere, has spread 0, gap 1 and margin 1. Used by ``analyse threshold-curve`` and
``analyse imbalance``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import rounded
from tag2mask.core.errors import DataError
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.result_tables import Origin, ResultRow
from tag2mask.evaluation.seeds import Pair, SeedEvaluation, pairs
from tag2mask.evaluation.threshold_sweep import CurvePoint, best
from tag2mask.evaluation.thresholds import Threshold

WITHIN = 2.0
"""Points of mIoU below the best that still belong to the plateau."""

LOW, HIGH = 0.05, 0.60
"""First and last threshold of `Robustness.mean`: those that people choose from."""

MEAN = f"mean_miou_{LOW:.2f}-{HIGH:.2f}"
"""Name of `Robustness.mean` in CSV."""


@dataclass(frozen=True, slots=True)
class Robustness:
    """What a curve says about robustness."""

    threshold: Threshold  # the oracle
    miou: float  # the best, percent
    low: float  # end of the plateau: the unbroken range around the best where mIoU is at most `WITHIN` less
    high: float  # its other end
    mean: float  # mean mIoU over the curve's thresholds from `LOW` to `HIGH`, percent

    @property
    def width(self) -> float:
        """Width of the plateau, 0..1."""
        return rounded(self.high - self.low)

    def results(self, origin: Origin, split: str, n_images: int) -> tuple[ResultRow, ...]:
        """The numbers as lines of ``results/``: all but the mean belong to the oracle threshold."""
        at = {"miou": self.miou, "plateau_width": self.width, "plateau_low": self.low, "plateau_high": self.high}
        mean = origin.rows([(MEAN, self.mean)], Threshold(None, "none"), split, n_images)
        return origin.rows(at.items(), self.threshold, split, n_images) + mean


CURVE_COLUMNS = ("stage", "split", "n_images", "seed", *(f.name for f in fields(CurvePoint)))
"""Of `curve_lines`."""


def curve_lines(found: SeedEvaluation, stage: str, seed: int) -> list[tuple[Any, ...]]:
    """The whole curve of an evaluation as lines of CSV."""
    return [(stage, found.split, found.n_images, seed, p.threshold, *map(rounded, astuple(p)[1:])) for p in found.curve]


def robustness(curve: Sequence[CurvePoint]) -> Robustness:
    """The robustness of a whole curve of ascending thresholds, some of them from `LOW` to `HIGH`; mIoU is defined."""
    top = best(curve)
    low = high = next(i for i, point in enumerate(curve) if point is top)
    while low > 0 and curve[low - 1].miou >= top.miou - WITHIN:
        low -= 1
    while high < len(curve) - 1 and curve[high + 1].miou >= top.miou - WITHIN:
        high += 1
    usual = [point.miou for point in curve if LOW <= point.threshold <= HIGH]
    mean = sum(usual) / len(usual)
    return Robustness(Threshold(top.threshold, "oracle"), top.miou, curve[low].threshold, curve[high].threshold, mean)


MEASURES = ("spread", "inside", "outside", "gap", "margin")
COLUMNS = ("stage", "split", "seed", "image", *MEASURES)
"""Of `ImbalanceAnalysis.lines`."""
TAIL = 0.1
"""Share of the pixels that `ImageImbalance.margin` leaves aside, at either side."""


@dataclass(frozen=True, slots=True)
class ImageImbalance:
    """One image's activation inside and outside of its objects: means over the classes of ground truth and maps."""

    id: str
    spread: float  # standard deviation of a class's map over the object's pixels, 0..0.5 (condition c1: small)
    inside: float  # mean of the class's map over the object's pixels, 0..1
    outside: float  # mean of the same map over the ground truth's background, 0..1
    gap: float  # inside - outside, -1..1 (condition c2: large)
    # Value that nine tenths of the object's pixels exceed, less that which nine tenths of the background's stay below,
    # -1..1; where it is positive, the thresholds between cut both well.
    margin: float


@dataclass(frozen=True, slots=True)
class ImbalanceAnalysis:
    """What `analyse_imbalance` found: numbers of each image, and how many were left out.

    Images without ground truth are, and those whose ground truth has no background or shares no class with the maps.
    """

    split: str
    n_without_truth: int
    n_without_object: int
    images: tuple[ImageImbalance, ...]

    def results(self, origin: Origin) -> tuple[ResultRow, ...]:
        """The means as lines of ``results/``; there is no threshold in them."""
        means = [(m, fmean(getattr(i, m) for i in self.images)) for m in MEASURES]
        return origin.rows(means, Threshold(None, "none"), self.split, len(self.images))

    def lines(self, *, stage: str, seed: int) -> list[tuple[Any, ...]]:
        """The numbers of each image as lines of CSV."""
        return [(stage, self.split, seed, i.id, *(rounded(getattr(i, m)) for m in MEASURES)) for i in self.images]


def analyse_imbalance(
    dataset: Dataset,
    read_maps: Callable[[Sample], ActivationMaps],
    *,
    samples: Sequence[Sample] | None = None,
    threads: int = 2,
    advance: Callable[[], None] | None = None,
) -> ImbalanceAnalysis:
    """Measure both conditions on every image of a split that has ground truth; arguments as for `evaluate_seeds`."""
    chosen = dataset.samples if samples is None else samples
    found = [_measure(pair) for pair in pairs(dataset, read_maps, chosen, threads=threads, advance=advance)]
    images = tuple(image for image in found if image is not None)
    if not images:
        raise DataError(
            f"no image of split '{dataset.split}' has both an object of its tags and background in its ground truth, "
            "so there is no gap to measure. Check tags and masks with tag2mask doctor"
        )
    return ImbalanceAnalysis(dataset.split, len(chosen) - len(found), len(found) - len(images), images)


def _measure(pair: Pair) -> ImageImbalance | None:
    background = pair.truth == 0
    measured = [
        _compare(values[pair.truth == column + 1], values[background])
        for column, values in zip(pair.classes, pair.maps, strict=True)
        if background.any() and (pair.truth == column + 1).any()
    ]
    if not measured:
        return None
    return ImageImbalance(pair.sample.id, *(fmean(values) for values in zip(*measured, strict=True)))


def _compare(inside: NDArray[np.float32], outside: NDArray[np.float32]) -> tuple[float, float, float, float, float]:
    """`MEASURES` of one class's map, from its values on the object and on the background."""
    within, without = (float(values.mean(dtype=np.float64)) for values in (inside, outside))
    spread = math.sqrt(float(inside.var(dtype=np.float64)))
    margin = float(np.quantile(inside, TAIL)) - float(np.quantile(outside, 1 - TAIL))
    return spread, within, without, within - without, margin
