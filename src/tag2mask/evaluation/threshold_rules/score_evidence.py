"""Evidence of raw scores: for each class the cells of images with it and of images without it, and draws of images.

Raw scores mean the same in every image, so images may be compared. An image adds, for each class that it has, how its
cells lie (1001 bins) and the mean of its highest cells; for each class that it lacks the same of those (251 bins). All
is kept as sums: once over all images, and over each of some random draws of as many images with repetition (bootstrap).
Images are read once and not kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.evaluation.threshold_rules.evidence import ABSENT_BINS, BINS, VALUES

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

ABSENT_VALUES: Floats = np.arange(ABSENT_BINS) / (ABSENT_BINS - 1)
"""(251,) raw score of each bin of an absent class."""
DRAWS = 100
"""Times that images are drawn again."""
_AT_ONCE = 32
"""Images that are added together."""
_FEW = 3
"""Images without any tag that count as showing what stands beside a class."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """The raw scores of one image.

    Attributes:
        columns: K class columns present.
        present: (K, 1001) cells of each by score, as `cells`.
        steepness: (K, 1001) how steep scores are at these cells, summed, as `slopes`.
        absent: (C, 251) cells of each class column by score; zero in the rows of those present.
    """

    columns: tuple[int, ...]
    present: Counts
    steepness: Floats
    absent: Counts


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores:
    """What a rule sees of one class.

    Attributes:
        present: (1001,) cells of the images with the class, by score.
        steepness: (1001,) how steep the scores are at these cells, summed.
        absent: (251,) cells of the images without it, by score; all zero where no image is without.
        top_with: mean over the images with the class of the mean of their highest cells; NaN where there is none.
        top_without: the same over the images without it.
        n_with: images with the class.
        n_without: images without it.
        comparable: 0..1, how far images without the class show what stands beside it in images with it.
        probabilities: whether 0.5 is a classifier's probability one half.
    """

    present: Floats
    steepness: Floats
    absent: Floats
    top_with: float
    top_without: float
    n_with: int
    n_without: int
    comparable: float
    probabilities: bool


def cells(maps: NDArray[np.float32]) -> Counts:
    """(K, 1001) cells of raw scores (K, h, w) in [0, 1] that round to each thousandth."""
    bins = np.rint(maps * np.float32(BINS - 1)).astype(np.intp)
    counts = [np.bincount(each.ravel(), minlength=BINS) for each in bins]
    return np.stack(counts) if counts else np.zeros((0, BINS), np.int64)


def slopes(maps: NDArray[np.float32]) -> Floats:
    """(K, 1001) how much raw scores (K, h, w) change from cell to cell, summed over each bin of `cells`."""
    bins = np.rint(maps * np.float32(BINS - 1)).astype(np.intp)
    found = [
        np.bincount(where.ravel(), np.hypot(*(_change(each, axis) for axis in (0, 1))).ravel(), minlength=BINS)
        for each, where in zip(maps, bins, strict=True)
    ]
    return np.stack(found) if found else np.zeros((0, BINS))


def _change(scores: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    return np.gradient(scores, axis=axis) if scores.shape[axis] > 1 else np.zeros_like(scores)


def top_mean(counts: Counts, values: Floats, share: float) -> Floats:
    """Mean score of the highest cells of each row, a ``share`` of them and at least one; NaN for a row without cells.

    Args:
        counts: (..., B) cells of each bin.
        values: (B,) score of each bin, ascending.
        share: of the cells, above 0 and at most 1.
    """
    total = counts.sum(axis=-1)
    wanted = np.maximum(np.rint(share * total), 1)[..., None]
    above = counts[..., ::-1].cumsum(axis=-1)[..., ::-1]  # cells of this bin and all higher ones
    taken = np.clip(wanted - (above - counts), 0, counts)
    with np.errstate(invalid="ignore"):
        found: Floats = (taken * values).sum(axis=-1) / np.where(total > 0, wanted[..., 0], np.nan)
    return found


def spread(present: Floats) -> float | None:
    """Standard deviation of the scores of (1001,) cells; None where there are none."""
    if not present.any():
        return None
    mean = np.average(VALUES, weights=present)
    return round(float(np.sqrt(np.average((VALUES - mean) ** 2, weights=present))), 4)


def comparable(tags: NDArray[np.bool_]) -> Floats:
    """(C,) in 0..1: how far images without a class show what stands beside it in the images with it.

    Beside a class stand the image's other tags, or background alone. A tag is shown where an image without the class
    has it too; background alone by images without any tag, three of them at least. Where each image holds one thing
    and every image one, nothing is: images of a dog say how a dog scores as a cat, which no image of a cat asks.

    Args:
        tags: (images, C), which classes each image has.
    """
    found = np.zeros(tags.shape[1])
    empty = bool((~tags.any(axis=1)).sum() >= _FEW)
    for column in range(tags.shape[1]):
        own = tags[:, column]
        others = np.delete(tags, column, axis=1)
        beside = others[own]
        if not len(beside):
            continue
        shown = (beside & others[~own].any(axis=0)).sum(axis=1)
        count = beside.sum(axis=1)
        found[column] = np.where(count > 0, shown / np.maximum(count, 1), float(empty)).mean()
    return found


def gather(
    images: Iterable[ImageScores],
    tags: NDArray[np.bool_],
    share: float,
    *,
    probabilities: bool,
    draws: int = DRAWS,
    seed: int = 0,
) -> Iterator[list[ClassScores]]:
    """What rules see of every class: first of all images, then of each draw of as many with repetition.

    Args:
        images: in the order of ``tags``.
        tags: (images, C), which classes each image has.
        share: of an image's cells that make its score, see `top_mean`.
        probabilities: whether 0.5 is a classifier's probability one half.
        draws: number of draws.
        seed: of the draws.

    Raises:
        DataError: fewer or more images than rows of ``tags``.
    """
    count, n_classes = tags.shape
    rng = np.random.default_rng((seed, count))
    times = np.ones((draws + 1, count))
    for row in times[1:]:
        row[:] = np.bincount(rng.integers(0, count, count), minlength=count) if count else row
    present, absent = np.zeros((draws + 1, n_classes, 2, BINS)), np.zeros((draws + 1, n_classes, ABSENT_BINS))
    tops = np.full((count, n_classes), np.nan)
    place, given = 0, iter(images)
    for batch in _batches(given):
        if place + len(batch) > count:
            break
        weights = times[:, place : place + len(batch)]
        for offset, image in enumerate(batch):
            columns = list(image.columns)
            tops[place + offset] = top_mean(image.absent, ABSENT_VALUES, share)
            tops[place + offset, columns] = top_mean(image.present, VALUES, share)
            both = np.stack([image.present, image.steepness], axis=1)
            present[:, columns] += weights[:, offset, None, None, None] * both
        stacked = np.stack([image.absent for image in batch]).reshape(len(batch), -1).astype(np.float64)
        absent += (weights @ stacked).reshape(absent.shape)
        place += len(batch)
    if place != count or next(given, None) is not None:
        raise DataError(f"{place} images were read where {count} have tags: give the scores of the same images")
    beside = comparable(tags)
    for draw, weight in enumerate(times):
        yield [
            _of_class(tags[:, c], tops[:, c], weight, present[draw, c], absent[draw, c], beside[c], probabilities)
            for c in range(n_classes)
        ]


def _batches(images: Iterable[ImageScores]) -> Iterator[list[ImageScores]]:
    batch: list[ImageScores] = []
    for image in images:
        batch.append(image)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _of_class(
    has: NDArray[np.bool_],
    tops: Floats,
    weight: Floats,
    present: Floats,
    absent: Floats,
    beside: float,
    probabilities: bool,
) -> ClassScores:
    with_it, without = (_mean(tops[side], weight[side]) for side in (has, ~has))
    n_with, n_without = (int((weight[side] > 0).sum()) for side in (has, ~has))
    return ClassScores(
        present[0], present[1], absent, with_it, without, n_with, n_without, float(beside), probabilities
    )


def _mean(values: Floats, weights: Floats) -> float:
    known = ~np.isnan(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else float("nan")


def tag_table(tags: Sequence[Sequence[int]], n_classes: int) -> NDArray[np.bool_]:
    """(images, C) of the class columns that each image has."""
    found = np.zeros((len(tags), n_classes), dtype=np.bool_)
    for row, columns in zip(found, tags, strict=True):
        row[list(columns)] = True
    return found
