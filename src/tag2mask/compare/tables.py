"""Numbers of a comparison, as lines of its tables: the difference, the labels, the images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tag2mask.compare.image_counts import Counted
from tag2mask.core.errors import DataError
from tag2mask.evaluation.bootstrap import Floats, ImageCounts, paired_bootstrap
from tag2mask.evaluation.metrics import BACKGROUND

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class CompareLine:
    """Two sides at one kind of threshold: a line of ``compare.csv``; percent, and points for what is a difference.

    Attributes:
        first: name of the side that others are held against.
        second: name of the other side.
        split: the measured split.
        n_images: images with a truth, the same for both.
        threshold_kind: of both sides.
        first_threshold: of each seed, with spaces between; empty of kind ``none``.
        second_threshold: as the one before.
        first_seeds: with spaces between.
        second_seeds: with spaces between.
        first_miou: mean over the seeds.
        first_sd: sample standard deviation over the seeds, None for one.
        second_miou: mean over the seeds.
        second_sd: as ``first_sd``.
        difference: second minus first.
        difference_sd: over the seeds, each against the same seed of the other side; None where these differ.
        low: lower end of the 95 % interval over images.
        high: its upper end.
        sign_changes: share of the resamples without the sign of the difference.
        resamples: how many.
        first_ledger: supervision seen, with spaces between.
        second_ledger: as the one before.
        command: makes the comparison again.
    """

    first: str
    second: str
    split: str
    n_images: int
    threshold_kind: str
    first_threshold: str
    second_threshold: str
    first_seeds: str
    second_seeds: str
    first_miou: float
    first_sd: float | None
    second_miou: float
    second_sd: float | None
    difference: float
    difference_sd: float | None
    low: float
    high: float
    sign_changes: float
    resamples: int
    first_ledger: str
    second_ledger: str
    command: str


@dataclass(frozen=True, slots=True)
class ClassLine:
    """One label of a comparison, a line of ``compare-classes.csv``: IoUs in percent, means over seeds."""

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
    """One image of a comparison, a line of ``compare-images.csv``: its own mIoU, percent, mean over seeds."""

    first: str
    second: str
    threshold_kind: str
    image: str
    first_miou: float
    second_miou: float
    difference: float


@dataclass(frozen=True, slots=True)
class PairLines:
    """Everything about two sides at one kind of threshold.

    Attributes:
        line: the difference of their mIoUs.
        classes: of each label, background first.
        images: largest gain of the second side first, equal ones by id; those whose truth is all void at the end.
    """

    line: CompareLine
    classes: tuple[ClassLine, ...]
    images: tuple[ImageLine, ...]


def pair_lines(first: Counted, second: Counted, kind: str, command: str, resamples: int) -> PairLines:
    """Work two sides out.

    Args:
        first: the side that the other is held against.
        second: the other side.
        kind: of the threshold of both.
        command: makes the comparison again.
        resamples: of the bootstrap.

    Raises:
        DataError: the images differ, or the masks that they are measured against.
    """
    if first.ids != second.ids or not np.array_equal(first.counts[0].true, second.counts[0].true):
        raise DataError(
            f"{first.side.name} and {second.side.name} cannot be compared: their truth differs, in "
            f"{_differing(first, second)}. Compare runs on the same masks"
        )
    found = paired_bootstrap(first.counts, second.counts, resamples=resamples)
    (mean, sd), (other_mean, other_sd) = (_over_seeds(c.counts) for c in (first, second))
    names = first.side.name, second.side.name
    seen, other_seen = (" ".join(one.side.ledger(kind, len(first.ids))) for one in (first, second))
    line = CompareLine(
        *names, first.side.dataset.split, len(first.ids), kind, _thresholds(first), _thresholds(second),
        _seeds(first), _seeds(second), _round(mean), sd, _round(other_mean), other_sd,
        _round(found.miou.value), _paired_sd(first, second), _round(found.miou.low), _round(found.miou.high),
        _round(found.miou.sign_changes), resamples, seen, other_seen, command,
    )  # fmt: skip
    before, after = _mean_ious(first.counts), _mean_ious(second.counts)
    classes = [
        ClassLine(*names, kind, label, *map(_round, (before[i], after[i], d.value, d.low, d.high, d.sign_changes)))
        for i, (label, d) in enumerate(zip((BACKGROUND, *first.side.dataset.classes), found.labels, strict=True))
    ]
    return PairLines(line, tuple(classes), tuple(_images(first, second, kind)))


def _differing(first: Counted, second: Counted) -> str:
    """An image whose truth is not the same on both sides, in words."""
    known = dict(zip(second.ids, second.counts[0].true, strict=True))
    for name, pixels in zip(first.ids, first.counts[0].true, strict=True):
        if name not in known or not np.array_equal(pixels, known[name]):
            return f"image '{name}'"
    return "images that one of them alone has masks of"


def _images(first: Counted, second: Counted, kind: str) -> list[ImageLine]:
    before, after = (np.mean([c.image_mious() for c in side.counts], axis=0) for side in (first, second))
    lines = [
        ImageLine(first.side.name, second.side.name, kind, name, *map(_round, (a, b, b - a)))
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
    """Deviation of the differences seed by seed, where both sides have the same seeds."""
    if _seeds(first) != _seeds(second):
        return None
    return _sd([b.miou() - a.miou() for a, b in zip(first.counts, second.counts, strict=True)])


def _sd(values: Sequence[float]) -> float | None:
    return _round(statistics.stdev(values)) if len(values) > 1 else None


def _seeds(counted: Counted) -> str:
    return " ".join(str(one.seed) for one in counted.side.seeds)


def _thresholds(counted: Counted) -> str:
    return " ".join(t.text for t in counted.thresholds if t.kind != "none")


def _round(value: float) -> float:
    return round(float(value), _DIGITS)
