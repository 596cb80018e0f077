"""Ranks, their correlation (Spearman) and their average, for scores whose size says nothing but whose order does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tag2mask.core.arrays import known_mean
from tag2mask.core.errors import DataError
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.mask_quality import SIGNALS, Look
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.evaluation.thresholds import Threshold

Floats = NDArray[np.float64]


def ranks(values: ArrayLike) -> Floats:
    """Ranks 1..n of values, ascending; equal ones share the mean of their ranks, NaN stays NaN and takes no rank.

    Args:
        values: (n,).
    """
    given = np.asarray(values, dtype=np.float64)
    result = np.full(given.shape, np.nan)
    known = np.flatnonzero(~np.isnan(given))
    _, group, sizes = np.unique(given[known], return_inverse=True, return_counts=True)
    last = sizes.cumsum()
    result[known] = ((last - sizes + 1 + last) / 2)[group]
    return result


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation, -1..1: Pearson's correlation of the ranks, which is right with ties too.

    Args:
        one: (n,).
        other: (n,); a pair with a NaN is left out.

    Returns:
        NaN where fewer than two pairs are left, or all values on one side are equal.
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (one, other))
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"a rank correlation of values of shapes {a.shape} and {b.shape}; expected (n,) twice")
    known = ~(np.isnan(a) | np.isnan(b))
    x, y = (ranks(v[known]) for v in (a, b))
    if len(x) < 2:
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    spread = math.sqrt(float(x @ x) * float(y @ y))
    return min(1.0, max(-1.0, float(x @ y) / spread)) if spread else math.nan


def rank_average(columns: Sequence[ArrayLike]) -> Floats:
    """One score from several: the mean of each item's ranks, each scaled to 0 (lowest) .. 1 (highest).

    Args:
        columns: (n,) each, higher is better. A NaN takes no part, so an item's mean is over the scores it has; a column
            with fewer than two different values says nothing and is left out.

    Returns:
        (n,) in 0..1; NaN for an item without any score.
    """
    given = [np.asarray(c, dtype=np.float64) for c in columns]
    if not given or len({c.shape for c in given}) > 1 or given[0].ndim != 1:
        raise DataError(f"cannot average the ranks of columns of shapes {[c.shape for c in given]}; expected (n,) each")
    scaled = [_scaled(ranks(c)) for c in given if len(np.unique(c[~np.isnan(c)])) > 1]
    if not scaled:
        return np.full(given[0].shape, np.nan)
    return known_mean(np.stack(scaled), axis=0)


def _scaled(ranked: Floats) -> Floats:
    """Ranks 1..n as 0..1; n counts what has a rank."""
    return (ranked - 1) / (np.count_nonzero(~np.isnan(ranked)) - 1)


SCORE = "score"
"""Name of the combined score: the mean of the signals' ranks, 0 (worst) .. 1."""

_DIGITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Assessed:
    """One image to judge.

    Attributes:
        id: the sample's.
        look: what is known without the truth.
        truth: (H, W) labels, 255 void; None where there is none. It is used for the correlation alone.
    """

    id: str
    look: Look
    truth: LabelImage | None = None


@dataclass(frozen=True, slots=True)
class ImageQuality:
    """What the signals say of one image.

    Attributes:
        id: the sample's.
        score: combined, 0 (worst of the split) .. 1; NaN where no signal says anything.
        signals: in the order of `QualityAnalysis.names`; NaN where one says nothing.
        miou: percent against the truth, over the labels in truth or mask; NaN without one.
    """

    id: str
    score: float
    signals: tuple[float, ...]
    miou: float


@dataclass(frozen=True, slots=True)
class QualityAnalysis:
    """What `assess` found.

    Attributes:
        split: the split.
        names: of the signals that said something of any image.
        images: in the order given.
    """

    split: str
    names: tuple[str, ...]
    images: tuple[ImageQuality, ...]

    @property
    def n_with_truth(self) -> int:
        """Images whose true IoU is known."""
        return sum(not math.isnan(image.miou) for image in self.images)

    def worst(self, count: int) -> tuple[ImageQuality, ...]:
        """The images of the lowest scores, lowest first; those without a score come last."""
        order = sorted(self.images, key=lambda i: (math.isnan(i.score), i.score, i.id))
        return tuple(order[:count])

    def correlation(self, name: str) -> float:
        """Spearman's correlation of a signal, or of `SCORE`, with the true mIoU of the images; NaN without a truth."""
        values = [i.score if name == SCORE else i.signals[self.names.index(name)] for i in self.images]
        return spearman(values, [image.miou for image in self.images])

    def results(
        self, threshold: Threshold, *, worst: int, method: str, seed: int, command: str
    ) -> tuple[ResultRow, ...]:
        """Numbers against the truth as lines of ``results/``; empty without a truth.

        ``spearman/<signal>`` is -1..1. ``image_miou`` is the mean of the images' own mIoU in percent (not the split's
        mIoU), ``image_miou_worst`` that of the ``worst`` images of the lowest scores.
        """
        known = [i.miou for i in self.images if not math.isnan(i.miou)]
        if not known:
            return ()
        low = [i.miou for i in self.worst(worst) if not math.isnan(i.miou)]
        numbers = [(f"spearman/{name}", self.correlation(name)) for name in (SCORE, *self.names)]
        numbers += [("image_miou", fmean(known)), ("image_miou_worst", fmean(low) if low else math.nan)]
        shared = (method, self.split, len(known), threshold.kind_text, threshold.value)
        return tuple(
            ResultRow(*shared, name, None if math.isnan(value) else round(value, _DIGITS), seed, command)
            for name, value in numbers
        )


def assess(images: Iterable[Assessed], classes: tuple[str, ...], split: str) -> QualityAnalysis:
    """Judge the masks of a split by every signal.

    Args:
        images: may be a generator; one image is held at a time.
        classes: names of the data's classes.
        split: the split's name.
    """
    ids: list[str] = []
    table: list[list[float]] = []
    true: list[float] = []
    for image in images:
        ids.append(image.id)
        table.append([s.measure(image.look) for s in SIGNALS.values()])
        true.append(_miou(image, classes))
    if not ids:
        raise DataError(f"no image of split '{split}' has a mask to judge")
    columns = {name: [row[place] for row in table] for place, name in enumerate(SIGNALS)}
    said = {name: values for name, values in columns.items() if not all(map(math.isnan, values))}
    combined = [values for name, values in said.items() if SIGNALS[name].combined]
    scores = rank_average(combined) if combined else [math.nan] * len(ids)
    rows = zip(*said.values(), strict=True)
    return QualityAnalysis(
        split,
        tuple(said),
        tuple(
            ImageQuality(i, float(s), tuple(row), miou) for i, s, row, miou in zip(ids, scores, rows, true, strict=True)
        ),
    )


def _miou(image: Assessed, classes: tuple[str, ...]) -> float:
    """Percent; NaN without a truth, or where it is void everywhere."""
    if image.truth is None:
        return math.nan
    metrics = SegmentationMetrics(classes)
    metrics.update(image.look.mask, image.truth, image.id)
    return metrics.compute().miou if metrics.matrix.any() else math.nan
