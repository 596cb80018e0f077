"""Paired bootstrap over images: the confidence interval of a difference of two mIoUs, for ``tag2mask compare``.

mIoU is not a mean over images but a ratio of pixel sums, so an interval has to come from resampled images: n images are
drawn with replacement from the n there are, the pixel counts of the drawn ones are summed on both sides alike, and the
difference is worked out anew (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13). IoU
needs three counts of each label, so (n, L) arrays of these stand for n confusion matrices: exact, and L / 3 times
smaller. The interval is about the choice of images alone; how training differs from seed to seed is not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import nan_mean, percent
from tag2mask.core.errors import ConfigError, DataError, nothing_shown
from tag2mask.evaluation.confusion import Matrix
from tag2mask.evaluation.metrics import shows_background

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

RESAMPLES = 10_000
LEVEL = 95.0
"""Percent of the resamples that an interval holds."""

_ROOM = 1 << 21
"""Numbers of images drawn at a time."""
_FOREGROUND = -2
"""Column of the mean over the classes in what `_means` gives, behind the labels."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageCounts:
    """What the IoUs of n images come from: the `label_counts` of each side by side, ignored pixels in none of them."""

    flat: Floats  # (n, 3 L) whole numbers: in both, in the ground truth, in the prediction

    @classmethod
    def of(cls, images: Sequence[Counts]) -> ImageCounts:
        """Put the `label_counts` of some images together."""
        if not len(images):
            raise DataError("no image was counted: give the counts of at least one")
        return cls(np.asarray(images, dtype=np.float64).reshape(len(images), -1))

    @property
    def true(self) -> Floats:
        """(n, L) pixels of each label in the ground truth, background first."""
        return np.split(self.flat, 3, axis=1)[1]

    def ious(self) -> Floats:
        """IoU of each label over all images: (L,) percent, NaN where it is in neither ground truth nor prediction."""
        found: Floats = _ious(self.flat.sum(axis=0)[None])[0]
        return found

    def miou(self) -> float:
        """Mean of `ious`, as `SegmentationScores.miou`."""
        return float(_means(self.flat.sum(axis=0)[None], shows_background(self.true.sum(axis=0)))[0, -1])

    def foreground(self) -> float:
        """Mean of `ious` over the classes, as ``miou_foreground``."""
        return float(_means(self.flat.sum(axis=0)[None], has_background=False)[0, -1])

    def f1_foreground(self) -> float:
        """As `SegmentationScores.f1_foreground`."""
        if not self.true[:, 1:].any():
            return math.nan
        both, true, predicted = np.split(self.flat.sum(axis=0), 3)
        return float(nan_mean(percent(2 * both, true + predicted)[1:]))

    def image_mious(self) -> Floats:
        """Each image's own mIoU: (n,) percent over the labels in either; NaN where its ground truth shows no class."""
        found: Floats = np.where(self.true[:, 1:].any(axis=1), nan_mean(_ious(self.flat)), np.nan)
        return found


def label_counts(matrix: Matrix) -> Counts:
    """What IoUs need of one confusion matrix (L, L): (3, L) pixels of each label in both, ground truth, prediction."""
    return np.stack([np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)])


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference and how far it changes with the images drawn."""

    value: float  # of the images as they are, points
    low: float  # lower end of the interval that holds `LEVEL` percent of the resamples
    high: float  # its upper end
    # Share of the resamples, 0..1, whose difference is 0 or has the other sign; 1 where the difference itself is 0.
    sign_changes: float


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What `paired_bootstrap` found, in points of percent, second side minus first."""

    miou: Difference  # of the means over all labels
    foreground: Difference  # of the means over the classes
    # The second side's mean over the classes in percent of the first's, which is not a difference: its sign changes
    # are the share of the resamples on the other side of 100 percent. NaN where the first side's mean is 0.
    share: Difference
    labels: tuple[Difference, ...]  # NaN where a side has no IoU of a label, here or in every resample
    resamples: int


def paired_bootstrap(
    first: Sequence[ImageCounts], second: Sequence[ImageCounts], *, resamples: int = RESAMPLES, seed: int = 0
) -> Bootstrap:
    """Resample images, the same ones for both sides, and look how the difference of their IoUs changes.

    A side is one `ImageCounts` for each of its seeds, of the same images in the same order; each resample counts with
    the mean over the seeds.
    """
    if resamples < 1:
        raise ConfigError(f"resamples = {resamples}; expected at least 1, such as {RESAMPLES}")
    _check_paired(first, second)
    sides = [[counts.flat for counts in side] for side in (first, second)]
    n_images, has_background = len(first[0].true), shows_background(first[0].true.sum(axis=0))
    before, after = (_mean_ious(side, np.ones((1, n_images)), has_background)[0] for side in sides)
    rng = np.random.default_rng(seed)
    step = max(1, _ROOM // n_images)
    parts, shares = [], []
    for start in range(0, resamples, step):
        weights = _drawn(rng, n_images, min(step, resamples - start))
        one, other = (_mean_ious(side, weights, has_background) for side in sides)
        parts.append(other - one)
        shares.append(percent(other[:, _FOREGROUND], one[:, _FOREGROUND]))
    drawn = np.concatenate(parts)
    found = [_difference(float(value), drawn[:, i]) for i, value in enumerate(after - before)]
    share = _difference(float(percent(after[_FOREGROUND], before[_FOREGROUND])), np.concatenate(shares), 100)
    return Bootstrap(found[-1], found[_FOREGROUND], share, tuple(found[:_FOREGROUND]), resamples)


def _check_paired(first: Sequence[ImageCounts], second: Sequence[ImageCounts]) -> None:
    if not first or not second:
        raise DataError("a side of the comparison has no counts; give one for each of its seeds")
    truth = first[0].true
    for counts in (*first, *second):
        if counts.true.shape != truth.shape or not np.array_equal(counts.true, truth):
            raise DataError(
                f"the sides are not of the same images: {truth.shape[0]} images of {truth.shape[1]} labels, and "
                f"{counts.true.shape[0]} of {counts.true.shape[1]} with other pixels in their ground truth"
            )
    if not truth[:, 1:].any():
        raise nothing_shown()


def _drawn(rng: np.random.Generator, n_images: int, rows: int) -> Floats:
    """(rows, n) how often each image is drawn, every row n images with replacement."""
    codes = rng.integers(0, n_images, (rows, n_images)) + np.arange(rows)[:, None] * n_images
    return np.bincount(codes.ravel(), minlength=rows * n_images).reshape(rows, n_images).astype(np.float64)


def _mean_ious(seeds: Sequence[Floats], weights: Floats, has_background: bool) -> Floats:
    """`_means`, averaged over the seeds, for (rows, n) weights of images.

    Sums of whole numbers below 2^53 are exact in float64, whose product is far faster than that of integers.
    """
    mean: Floats = np.mean([_means(weights @ flat, has_background) for flat in seeds], axis=0)
    return mean


def _means(sums: Floats, has_background: bool) -> Floats:
    """IoU of each label, their mean over the classes and over all labels: (rows, L + 2) from (rows, 3 L) sums."""
    ious = _ious(sums)
    n_labels = ious.shape[1]
    shown = sums[:, n_labels + 1 : 2 * n_labels].any(axis=1)  # the ground truth of the images drawn shows a class
    means = (nan_mean(ious[:, 1:]), nan_mean(ious if has_background else ious[:, 1:]))
    return np.concatenate([ious, *(np.where(shown, mean, np.nan)[:, None] for mean in means)], axis=1)


def _ious(sums: Floats) -> Floats:
    """(rows, L) percent from (rows, 3 L) sums; NaN for 0/0."""
    both, true, predicted = np.split(sums, 3, axis=1)
    return percent(both, true + predicted - both)


def _difference(value: float, drawn: Floats, equal: float = 0.0) -> Difference:
    """A value, which is ``equal`` where the sides do not differ, and those of the resamples."""
    known = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not known.size:
        return Difference(value, math.nan, math.nan, math.nan)
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    kept = np.sign(known - equal) == np.sign(value - equal) if value != equal else np.zeros(known.shape, dtype=np.bool_)
    return Difference(value, float(low), float(high), float(1 - kept.mean()))
