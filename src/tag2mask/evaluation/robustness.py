"""How much the choice of a threshold matters: two numbers from a curve of mIoU over thresholds (AMN, Figure 6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.evaluation.seeds import Pair, SeedEvaluation, pairs
from tag2mask.evaluation.threshold_sweep import CurvePoint, best
from tag2mask.evaluation.thresholds import Threshold

WITHIN = 2.0
"""Points of mIoU below the best that still belong to the plateau."""

LOW, HIGH = 0.05, 0.60
"""First and last threshold of `Robustness.mean`: those that people choose from."""

MEAN = f"mean_miou_{LOW:.2f}-{HIGH:.2f}"
"""Name of `Robustness.mean` in CSV."""

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Robustness:
    """What a curve says about robustness.

    Attributes:
        threshold: of the best mIoU; it was found on the truth, so its kind is ``oracle``.
        miou: the best, percent.
        low: first threshold of the plateau: the unbroken range around the best where mIoU is at most `WITHIN` less.
        high: last threshold of the plateau.
        mean: mean mIoU over the curve's thresholds from `LOW` to `HIGH`, percent.
    """

    threshold: Threshold
    miou: float
    low: float
    high: float
    mean: float

    @property
    def width(self) -> float:
        """Width of the plateau, 0..1."""
        return round(self.high - self.low, _DIGITS)

    def results(self, method: str, split: str, n_images: int, seed: int, command: str) -> tuple[ResultRow, ...]:
        """The numbers as lines of ``results/``: all but the mean hang on the oracle threshold."""
        at = {"miou": self.miou, "plateau_width": self.width, "plateau_low": self.low, "plateau_high": self.high}
        oracle, none = self.threshold, Threshold(None, "none")
        numbers = [(oracle, metric, value) for metric, value in at.items()]
        return tuple(
            ResultRow(method, split, n_images, t.kind_text, t.value, metric, round(value, _DIGITS), seed, command)
            for t, metric, value in (*numbers, (none, MEAN, self.mean))
        )


@dataclass(frozen=True, slots=True)
class CurveLine:
    """One point of a curve as a line of CSV; the columns are as in `CurvePoint` and `ResultRow`."""

    stage: str
    split: str
    n_images: int
    seed: int
    threshold: float
    miou: float
    fp: float
    fn: float
    precision: float
    recall: float


def curve_lines(found: SeedEvaluation, stage: str, seed: int) -> tuple[CurveLine, ...]:
    """The whole curve of an evaluation as lines of CSV."""
    return tuple(
        CurveLine(stage, found.split, found.n_images, seed, p.threshold, *(round(v, _DIGITS) for v in astuple(p)[1:]))
        for p in found.curve
    )


def robustness(curve: Sequence[CurvePoint]) -> Robustness:
    """The robustness of a whole curve.

    Args:
        curve: ascending thresholds, some of them from `LOW` to `HIGH`; mIoU defined.
    """
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
TAIL = 0.1
"""Share of the pixels that `ImageImbalance.margin` leaves aside, at either side."""


@dataclass(frozen=True, slots=True)
class ImageImbalance:
    """One image's activation inside and outside of its objects: means over the classes that its truth and maps share.

    Attributes:
        id: the sample's.
        spread: standard deviation of a class's map over the object's pixels, 0..0.5 (condition c1: small).
        inside: mean of the class's map over the object's pixels, 0..1.
        outside: mean of the same map over the truth's background, 0..1.
        gap: ``inside - outside``, -1..1 (condition c2: large).
        margin: value that nine tenths of the object's pixels exceed, less the value that nine tenths of the
            background's stay below, -1..1; where it is positive, the thresholds between cut both well.
    """

    id: str
    spread: float
    inside: float
    outside: float
    gap: float
    margin: float


@dataclass(frozen=True, slots=True)
class ImbalanceLine:
    """An image's numbers as a line of CSV; the columns are as in `ImageImbalance` and `ResultRow`."""

    stage: str
    split: str
    seed: int
    image: str
    spread: float
    inside: float
    outside: float
    gap: float
    margin: float


@dataclass(frozen=True, slots=True)
class ImbalanceAnalysis:
    """What `analyse_imbalance` found.

    Attributes:
        split: the split.
        n_without_truth: images left out because they have none.
        n_without_object: images left out because truth and maps share no class, or the truth has no background.
        images: of each other image.
    """

    split: str
    n_without_truth: int
    n_without_object: int
    images: tuple[ImageImbalance, ...]

    def mean(self, measure: str) -> float:
        """Mean of one of `MEASURES` over the images."""
        return fmean(getattr(image, measure) for image in self.images)

    def results(self, *, method: str, seed: int, command: str) -> tuple[ResultRow, ...]:
        """The means as lines of ``results/``; there is no threshold in them."""
        return tuple(
            ResultRow(
                method, self.split, len(self.images), "none", None, m, round(self.mean(m), _DIGITS), seed, command
            )
            for m in MEASURES
        )  # fmt: skip

    def lines(self, *, stage: str, seed: int) -> tuple[ImbalanceLine, ...]:
        """The numbers of each image as lines of CSV."""
        return tuple(
            ImbalanceLine(stage, self.split, seed, i.id, *(round(getattr(i, m), _DIGITS) for m in MEASURES))
            for i in self.images
        )


def analyse_imbalance(
    dataset: Dataset,
    read_maps: Callable[[Sample], ActivationMaps],
    *,
    samples: Sequence[Sample] | None = None,
    threads: int = 2,
    advance: Callable[[], None] | None = None,
) -> ImbalanceAnalysis:
    """Measure both conditions on every image of a split that has a truth; arguments as for `evaluate_seeds`."""
    chosen = dataset.samples if samples is None else samples
    found = [_measure(pair) for pair in pairs(dataset, read_maps, chosen, threads=threads, advance=advance)]
    images = tuple(image for image in found if image is not None)
    if not images:
        raise DataError(
            f"no image of split '{dataset.split}' has both an object of its tags and background in its truth, so "
            "there is no gap to measure. Check tags and masks with tag2mask doctor"
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
