"""Uncertainty of a threshold that was chosen on n hand-made masks: resampled masks, and draws of other n.

An image is kept as its counts at every threshold of the sweep, of the labels that it has: then a choice on any set of
images is a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import nan_mean, percent, rounded
from tag2mask.core.errors import DataError, nothing_shown
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.background import CONSTANT, Background
from tag2mask.evaluation.best_thresholds import image_sweep
from tag2mask.evaluation.seeds import pairs
from tag2mask.evaluation.threshold_sweep import GRID, ThresholdSweep

Counts = NDArray[np.int64]

DRAWS = 1000
"""Times that masks are resampled."""

LEVEL = 0.95
"""Share of the resampled thresholds inside an interval."""

_TRIES = 100
"""Draws at most for each that counts."""


@dataclass(frozen=True, slots=True, eq=False)
class SweepCounts:
    """Pixels of one image of the labels that its ground truth or its maps have, background first.

    ``pixels`` is (3, 101, k): in ground truth and seeds, in the seeds, in the ground truth, at each of `GRID`.
    """

    labels: list[int]
    pixels: Counts


def together(images: Sequence[SweepCounts], n_labels: int, times: Iterable[int] | None = None) -> Counts:
    """(3, 101, C + 1) pixels of several images, each counted once or that many times."""
    sums: Counts = np.zeros((3, len(GRID), n_labels), dtype=np.int64)
    for image, count in zip(images, [1] * len(images) if times is None else times, strict=True):
        if count:
            sums[..., image.labels] += int(count) * image.pixels
    return sums


def shows_classes(sums: Counts) -> bool:
    """Whether the ground truth of any of the images shows a class."""
    return bool(sums[2, 0, 1:].any())


def curve(sums: Counts) -> NDArray[np.float64]:
    """(101,) mIoU in percent, as `SegmentationScores.miou`."""
    if not shows_classes(sums):
        raise nothing_shown("the ground truth of the images that a threshold is to be chosen on")
    both, seeds, truth = sums
    return nan_mean(percent(both, truth + seeds - both))


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How a threshold that was chosen on n masks varies when these are resampled with replacement."""

    n: int
    draws: int  # times that n of them were drawn, with repetition
    level: float  # share of the thresholds from low to high
    low: float
    high: float
    sd: float  # of the thresholds
    # Mean points of mIoU that a threshold of such a draw loses on the n masks to their best one: what the choice is
    # expected to lose to the oracle elsewhere, seen from the n masks alone.
    expected_loss: float


@dataclass(frozen=True, slots=True)
class FewDraw:
    """A threshold chosen on n images drawn at random, its mIoU (percent) on all others and loss to their oracle."""

    n: int
    threshold: float
    miou: float
    loss: float


def count_images(
    dataset: Dataset,
    read_maps: Callable[[Sample], ActivationMaps],
    samples: Sequence[Sample],
    advance: Callable[[], None] | None = None,
    background: Background = CONSTANT,
) -> list[SweepCounts]:
    """The counts of every sample that has ground truth; errors as of `pairs`."""
    found = pairs(dataset, read_maps, samples, background=background, advance=advance)
    return [_counted(*image_sweep(pair, background)) for pair in found]


def resample(images: Sequence[SweepCounts], n_labels: int, draws: int = DRAWS, seed: int = 0) -> Uncertainty:
    """Draw as many images as there are, with repetition, and choose a threshold on each draw (bootstrap)."""
    full = curve(together(images, n_labels))
    rng = np.random.default_rng((seed, len(images)))
    chosen: list[int] = []
    while len(chosen) < draws:
        times = np.bincount(rng.integers(0, len(images), len(images)), minlength=len(images))
        drawn = together(images, n_labels, times)
        if shows_classes(drawn):  # else the draw holds images only that have no mIoU
            chosen.append(int(curve(drawn).argmax()))
    thresholds = np.asarray(GRID)[chosen]
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(thresholds, [tail, 100 - tail], method="nearest")
    loss = float((full.max() - full[chosen]).mean())
    return Uncertainty(len(images), draws, LEVEL, *map(rounded, (low, high, thresholds.std(), loss)))


def draw_few(images: Sequence[SweepCounts], n: int, n_labels: int, draws: int, seed: int = 0) -> tuple[FewDraw, ...]:
    """Choose a threshold on n images drawn without repetition, ``draws`` times, and measure it on the others."""
    if not 1 <= n < len(images):
        raise DataError(
            f"n = {n} masks of {len(images)} images with ground truth leave none to measure on; give an n from 1 to "
            f"{len(images) - 1}"
        )
    total = together(images, n_labels)
    if not shows_classes(total):
        raise nothing_shown()
    rng = np.random.default_rng((seed, n))
    found: list[FewDraw] = []
    for _ in range(_TRIES * draws):
        drawn = together([images[i] for i in rng.choice(len(images), n, replace=False)], n_labels)
        if not (shows_classes(drawn) and shows_classes(total - drawn)):
            continue  # no mIoU to choose by, or none to measure
        at, rest = int(curve(drawn).argmax()), curve(total - drawn)
        miou = float(rest[at])
        found.append(FewDraw(n, GRID[at], rounded(miou), rounded(float(rest.max()) - miou)))
        if len(found) == draws:
            return tuple(found)
    raise DataError(
        f"n = {n} masks of {len(images)} images: hardly a draw has an image that shows a class and leaves another; "
        f"measure on images that show classes"
    )


def _counted(labels: list[int], sweep: ThresholdSweep) -> SweepCounts:
    matrices = np.stack([sweep.matrix(t) for t in GRID])
    both = matrices.diagonal(axis1=1, axis2=2)
    return SweepCounts(labels, np.stack([both, matrices.sum(axis=1), matrices.sum(axis=2)]))
