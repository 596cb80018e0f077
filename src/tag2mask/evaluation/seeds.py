"""Seeds of a split against ground truth: given thresholds, the whole curve and the oracle in one pass over the maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError, DataError, nothing_shown
from tag2mask.core.prefetch import prefetch_known
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.background import CONSTANT, Background, Sides
from tag2mask.evaluation.confusion import LabelImage, Matrix, confusion_matrix
from tag2mask.evaluation.measures.tolerance import ToleranceMetrics, ToleranceScores
from tag2mask.evaluation.measures.trivial import Beside, TrivialAnswers
from tag2mask.evaluation.metrics import SegmentationScores
from tag2mask.evaluation.result_tables import MetricRow, score_rows
from tag2mask.evaluation.threshold_sweep import GRID, CurvePoint, ThresholdSweep, best
from tag2mask.evaluation.thresholds import Threshold


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The maps and the ground truth of one image, at the size of the ground truth."""

    sample: Sample
    truth: LabelImage  # (H, W) labels 0..C, 255 ignored
    classes: tuple[int, ...]  # K class columns, one for each map
    maps: NDArray[np.float32]  # (K, H, W) float32, bilinearly resized to the ground truth
    sides: Sides = field(default_factory=dict)  # what the background rule looks at, likewise


def pairs(
    dataset: Dataset,
    read_maps: Callable[[Sample], ActivationMaps],
    samples: Sequence[Sample],
    *,
    background: Background = CONSTANT,
    threads: int = 2,
    advance: Callable[[], None] | None = None,
) -> Iterator[Pair]:
    """Maps and ground truth of every sample that has some, in order; arguments as for `evaluate_seeds`."""
    found = False
    for pair in prefetch_known(lambda s: _read(dataset, read_maps, s, background), samples, threads, advance):
        found = True
        yield pair
    if not found:
        raise DataError(
            f"no image of split '{dataset.split}' has ground truth, so its seeds cannot be evaluated. Give masks, or "
            "evaluate a split that has them"
        )


def _read(
    dataset: Dataset, read_maps: Callable[[Sample], ActivationMaps], sample: Sample, background: Background
) -> Pair | None:
    truth = dataset.truth(sample)
    if truth is None:
        return None
    found = read_maps(sample)
    maps = ActivationMaps(found.classes, found.maps.float()).resize(*truth.shape).maps
    sides = background.read(dataset, sample, truth.shape)
    return Pair(sample, truth, found.classes, maps.cpu().numpy(), sides)


@dataclass(frozen=True, slots=True)
class SeedScores:
    """The scores of a whole split's seeds cut at one threshold."""

    threshold: Threshold
    scores: SegmentationScores
    tolerance: ToleranceScores | None = None  # of thin classes; None where there are none

    def values(self) -> tuple[tuple[str, float], ...]:
        """Every metric by the name it has in ``metrics.jsonl``."""
        return (*self.scores.values(), *(self.tolerance.values() if self.tolerance else ()))


@dataclass(frozen=True, slots=True)
class ImageScore:
    """The mIoU of one image's seeds, percent, over the labels in either; to choose examples, not to average."""

    id: str
    miou: float


@dataclass(frozen=True, slots=True)
class SeedEvaluation:
    """What `evaluate_seeds` found."""

    split: str
    n_images: int  # images with ground truth, all counted
    n_without_truth: int  # images left out
    scores: tuple[SeedScores, ...]  # of each threshold given, in that order, then of the oracle
    curve: tuple[CurvePoint, ...]  # the means at 0.00, 0.01, ..., 1.00
    images: tuple[ImageScore, ...]  # scores of each image at the first threshold given; empty where none was
    trivial: TrivialAnswers | None = None  # what trivial answers reach on the same images

    @property
    def shows_classes(self) -> bool:
        """Whether any ground truth shows a class; where none does, every mean is NaN and there is no oracle."""
        return any(not math.isnan(point.miou) for point in self.curve)

    def check(self) -> None:
        """Refuse what is defined only where the ground truth shows a class."""
        if not self.shows_classes:
            raise nothing_shown(f"the ground truth of the {self.n_images} images of split '{self.split}'")

    def rows(self, *, stage: str, method: str, seed: int, time: str) -> tuple[MetricRow, ...]:
        """Every metric at every threshold, as rows of ``metrics.jsonl``."""
        return tuple(
            row
            for at in self.scores
            for row in score_rows(
                at, at.threshold, stage=stage, method=method, split=self.split, n_images=self.n_images,
                seed=seed, time=time,
            )
        )  # fmt: skip


def evaluate_seeds(
    dataset: Dataset,
    read_maps: Callable[[Sample], ActivationMaps],
    thresholds: Sequence[Threshold] = (),
    *,
    oracle: bool = True,
    background: Background | None = None,
    samples: Sequence[Sample] | None = None,
    threads: int = 2,
    advance: Callable[[], None] | None = None,
) -> SeedEvaluation:
    """Score the seeds of every image of a split that has ground truth.

    Maps are resized to the ground truth, never the ground truth to the maps.

    Args:
        dataset: the split.
        read_maps: gives a sample's maps, (K, h, w) of any size; called from several threads.
        thresholds: thresholds of any kind but ``oracle`` and ``none``; a rule may give each class or image its own.
        oracle: whether to add the threshold of `GRID` with the largest mIoU on these very images, if one is defined.
        background: the rule that maps are cut by; None means that of the first threshold, else a constant.
        samples: those of the split to evaluate; all of them where None.
        threads: how many images are read and resized beside the counting.
        advance: called after each image, those without ground truth included.
    """
    rule = background or (thresholds[0].background if thresholds else CONSTANT)
    thresholds = [replace(t, background=rule) for t in thresholds]
    values = [_value(t) for t in thresholds]
    sweep = ThresholdSweep(dataset.classes, {*GRID, *(v for v in values if v is not None)}, rule)
    size = len(dataset.classes) + 1
    own = {place: np.zeros((size, size), np.int64) for place, value in enumerate(values) if value is None}
    images: list[ImageScore] = []
    chosen = dataset.samples if samples is None else samples
    beside = Beside(dataset.classes)
    for pair in pairs(dataset, read_maps, chosen, background=rule, threads=threads, advance=advance):
        sweep.update(pair.maps, pair.classes, pair.truth, pair.sample.id, pair.sides)
        beside.update(pair.truth, pair.sample, dataset.enlargement(pair.sample))
        _count([(thresholds[place], matrix) for place, matrix in own.items()], pair, dataset)
        if values:
            images.append(_image_score(pair, thresholds[0], dataset))
    curve = sweep.curve(GRID)
    scores = [
        SeedScores(t, SegmentationScores.of_split(own[i] if v is None else sweep.matrix(v), dataset.classes))
        for i, (t, v) in enumerate(zip(thresholds, values, strict=True))
    ]
    if oracle and any(not math.isnan(point.miou) for point in curve):
        value = best(curve).threshold
        scores.append(SeedScores(Threshold(value, "oracle", background=rule), sweep.scores(value)))
    if thin := beside.thin():
        again = pairs(dataset, read_maps, chosen, background=rule, threads=threads)
        scores = _with_tolerance(scores, again, dataset, thin)
    n_images = beside.trivial.n_images
    return SeedEvaluation(
        dataset.split, n_images, len(chosen) - n_images, tuple(scores), curve, tuple(images), beside.trivial
    )


def _with_tolerance(
    scores: Sequence[SeedScores], images: Iterable[Pair], dataset: Dataset, thin: Sequence[int]
) -> list[SeedScores]:
    """The same scores with those of thin classes, which need the seeds themselves: in a pass of their own."""
    metrics = [ToleranceMetrics(dataset.classes, thin) for _ in scores]
    for pair in images:
        enlarged = dataset.enlargement(pair.sample)
        for at, counted in zip(scores, metrics, strict=True):
            seeds = at.threshold.cut(pair.maps, pair.classes, pair.sample.id, pair.sides)
            counted.update(seeds, pair.truth, pair.sample.id, enlarged=enlarged)
    return [replace(at, tolerance=counted.compute()) for at, counted in zip(scores, metrics, strict=True)]


def _count(own: Sequence[tuple[Threshold, Matrix]], pair: Pair, dataset: Dataset) -> None:
    """Add an image to the matrix of each threshold that is another one for each class or image.

    On most images such a threshold is one number, and one sweep does for all of these.
    """
    if not own:
        return
    levels = [threshold.of(pair.sample.id, pair.classes) for threshold, _ in own]
    numbers = {level for level in levels if isinstance(level, float)}
    sweep = ThresholdSweep(dataset.classes, numbers or {0.0}, own[0][0].background)
    if numbers:
        sweep.update(pair.maps, pair.classes, pair.truth, pair.sample.id, pair.sides)
    for (threshold, matrix), level in zip(own, levels, strict=True):
        matrix += sweep.matrix(level) if isinstance(level, float) else _matrix(pair, threshold, dataset)


def _matrix(pair: Pair, threshold: Threshold, dataset: Dataset) -> Matrix:
    """The confusion matrix of one image's seeds."""
    seeds = threshold.cut(pair.maps, pair.classes, pair.sample.id, pair.sides)
    return confusion_matrix(seeds, pair.truth, len(dataset.classes) + 1, sample_id=pair.sample.id)


def _image_score(pair: Pair, threshold: Threshold, dataset: Dataset) -> ImageScore:
    matrix = _matrix(pair, threshold, dataset)
    if not matrix.sum():  # the ground truth is ignored everywhere
        return ImageScore(pair.sample.id, float("nan"))
    return ImageScore(pair.sample.id, SegmentationScores.from_matrix(matrix, dataset.classes).miou)


def _value(threshold: Threshold) -> float | None:
    """The one threshold of all images; None where each class or image has its own."""
    if threshold.levels is not None:
        return None
    if threshold.value is None or threshold.kind == "oracle":
        raise ConfigError(
            f"seeds cannot be cut at a given threshold of kind '{threshold.kind}': the oracle is found by the sweep "
            "(oracle=True), and 'none' has no value"
        )
    return threshold.value
