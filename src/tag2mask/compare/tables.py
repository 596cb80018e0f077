"""Tables of a comparison: the difference of two sides, of each label and of each image."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tag2mask.compare.image_counts import Counted
from tag2mask.core.arrays import rounded
from tag2mask.core.errors import DataError
from tag2mask.evaluation.bootstrap import Bootstrap, Floats, ImageCounts, paired_bootstrap
from tag2mask.evaluation.measures import tolerance
from tag2mask.evaluation.measures.trivial import ALL_BACKGROUND, RANDOM_TAG, TrivialAnswers
from tag2mask.evaluation.metrics import BACKGROUND
from tag2mask.evaluation.result_tables import METRICS, read_metrics


@dataclass(frozen=True, slots=True)
class CompareLine:
    """Two sides at one kind of threshold; a line of ``compare.csv``. Percent, and points for differences.

    Columns ``second_…`` are as ``first_…``. Several values of one cell are separated by spaces.
    """

    first: str  # name of the reference side
    second: str  # name of the side compared with it
    split: str
    n_images: int  # images with ground truth, the same for both
    threshold_kind: str  # of both sides
    first_threshold: str  # of each seed; empty for kind none
    second_threshold: str
    first_seeds: str
    second_seeds: str
    first_miou: float  # mean over the seeds
    first_sd: float | None  # sample standard deviation over the seeds; None for one seed
    second_miou: float
    second_sd: float | None
    difference: float  # second minus first
    difference_sd: float | None  # over the seeds, paired; None if the sides have different seeds
    low: float  # 95 % interval over images, as ``high``
    high: float
    sign_changes: float  # share of the resamples whose difference has not the sign of ``difference``
    resamples: int  # of the bootstrap
    first_ledger: str  # supervision behind the number
    second_ledger: str
    command: str  # repeats the comparison
    first_miou_foreground: float  # mean over the classes without the background, and over the seeds
    second_miou_foreground: float
    difference_foreground: float
    low_foreground: float  # 95 % interval of that difference, as ``high_foreground``
    high_foreground: float
    first_f1_foreground: float  # mean F1 over the classes
    second_f1_foreground: float
    all_background_miou: float  # trivial answers on the same images, for scale
    random_tag_miou: float
    random_tag_miou_foreground: float
    random_tag_f1_foreground: float
    first_iou_2px: float | None  # of thin classes, as its stage measured it on these very images; None without
    second_iou_2px: float | None


@dataclass(frozen=True, slots=True)
class LabelLine:
    """One label; a line of ``compare-classes.csv``. IoUs in percent, means over seeds."""

    first: str
    second: str
    threshold_kind: str
    label: str
    first_iou: float
    second_iou: float
    difference: float
    low: float
    high: float
    sign_changes: float


@dataclass(frozen=True, slots=True)
class ImageLine:
    """One image; a line of ``compare-images.csv``. Its own mIoU in percent, mean over seeds."""

    first: str
    second: str
    threshold_kind: str
    image: str
    first_miou: float
    second_miou: float
    difference: float


@dataclass(frozen=True, slots=True)
class PairLines:
    """Two sides at one kind of threshold."""

    line: CompareLine  # the difference of their mIoUs
    classes: tuple[LabelLine, ...]  # background first
    images: tuple[ImageLine, ...]  # largest gain first, ties by id; those all ignored last


def pair_lines(first: Counted, second: Counted, kind: str, command: str, resamples: int) -> PairLines:
    """Compare two sides, the first the reference, at one kind of threshold."""
    if first.ids != second.ids or not np.array_equal(first.counts[0].true, second.counts[0].true):
        raise DataError(
            f"{first.side.name} and {second.side.name} cannot be compared: their ground truth differs, in "
            f"{_differing(first, second)}. Compare runs on the same masks"
        )
    found = paired_bootstrap(first.counts, second.counts, resamples=resamples)
    (mean, sd), (other_mean, other_sd) = (_over_seeds(c.counts) for c in (first, second))
    names = first.side.name, second.side.name
    seen, other_seen = (" ".join(one.side.ledger(kind, len(first.ids))) for one in (first, second))
    line = CompareLine(
        *names, first.side.dataset.split, len(first.ids), kind, _thresholds(first), _thresholds(second),
        _seeds(first), _seeds(second), rounded(mean), sd, rounded(other_mean), other_sd,
        rounded(found.miou.value), _paired_sd(first, second), rounded(found.miou.low), rounded(found.miou.high),
        rounded(found.miou.sign_changes), resamples, seen, other_seen, command,
        *map(rounded, _foreground(first, second, found)), *map(rounded, _trivial(first)),
        *(_tolerance(side, kind) for side in (first, second)),
    )  # fmt: skip
    before, after = _mean_ious(first.counts), _mean_ious(second.counts)
    classes = [
        LabelLine(*names, kind, label, *map(rounded, (before[i], after[i], d.value, d.low, d.high, d.sign_changes)))
        for i, (label, d) in enumerate(zip((BACKGROUND, *first.side.dataset.classes), found.labels, strict=True))
    ]
    return PairLines(line, tuple(classes), tuple(_images(first, second, kind)))


def _foreground(first: Counted, second: Counted, found: Bootstrap) -> tuple[float, ...]:
    """The columns of a line about the classes without the background."""
    mious = (statistics.fmean(c.foreground() for c in side.counts) for side in (first, second))
    f1s = (statistics.fmean(c.f1_foreground() for c in side.counts) for side in (first, second))
    return (*mious, found.foreground.value, found.foreground.low, found.foreground.high, *f1s)


def _trivial(side: Counted) -> tuple[float, ...]:
    """The columns of a line about trivial answers on the images of both sides."""
    dataset = side.side.dataset
    answers = TrivialAnswers(dataset.classes)
    samples = {sample.id: sample for sample in dataset.samples}
    for name, pixels in zip(side.ids, side.counts[0].true, strict=True):
        answers.add(pixels.astype(np.int64), samples[name])
    known = dict(answers.scores())
    tag = known[RANDOM_TAG]
    return known[ALL_BACKGROUND].miou, tag.miou, tag.mean("iou"), tag.f1_foreground


def _tolerance(counted: Counted, kind: str) -> float | None:
    """IoU of the thin classes with a tolerance, mean over the seeds; None where it was not measured on these images."""
    values: list[float] = []
    for one in counted.side.seeds:
        path = one.measuring.path / METRICS
        rows = read_metrics(path) if path.is_file() else []
        values += [
            row.value
            for row in rows
            if row.metric == tolerance.METRIC and row.threshold_kind == kind and row.n_images == len(counted.ids)
            if row.value is not None
        ][:1]
    return rounded(statistics.fmean(values)) if len(values) == len(counted.side.seeds) else None


def _differing(first: Counted, second: Counted) -> str:
    """An image whose ground truth differs between the sides, in words."""
    known = dict(zip(second.ids, second.counts[0].true, strict=True))
    for name, pixels in zip(first.ids, first.counts[0].true, strict=True):
        if name not in known or not np.array_equal(pixels, known[name]):
            return f"image '{name}'"
    return "images that only one of them has masks of"


def _images(first: Counted, second: Counted, kind: str) -> list[ImageLine]:
    before, after = (np.mean([c.image_mious() for c in side.counts], axis=0) for side in (first, second))
    lines = [
        ImageLine(first.side.name, second.side.name, kind, name, *map(rounded, (a, b, b - a)))
        for name, a, b in zip(first.ids, before, after, strict=True)
    ]
    return sorted(lines, key=lambda i: (i.difference != i.difference, -i.difference, i.image))  # NaN is not itself


def _mean_ious(seeds: Sequence[ImageCounts]) -> Floats:
    mean: Floats = np.mean([counts.ious() for counts in seeds], axis=0)
    return mean


def _over_seeds(seeds: Sequence[ImageCounts]) -> tuple[float, float | None]:
    values = [counts.miou() for counts in seeds]
    return statistics.fmean(values), _sd(values)


def _paired_sd(first: Counted, second: Counted) -> float | None:
    """Deviation of the differences seed by seed; None if the sides have different seeds."""
    if _seeds(first) != _seeds(second):
        return None
    return _sd([b.miou() - a.miou() for a, b in zip(first.counts, second.counts, strict=True)])


def _sd(values: Sequence[float]) -> float | None:
    return rounded(statistics.stdev(values)) if len(values) > 1 else None


def _seeds(counted: Counted) -> str:
    return " ".join(str(one.seed) for one in counted.side.seeds)


def _thresholds(counted: Counted) -> str:
    return " ".join(t.text for t in counted.thresholds if t.kind != "none")
