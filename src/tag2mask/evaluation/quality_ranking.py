"""Ranks the masks of a split by their quality signals, and measures the order by Spearman's rank correlation.

The size of a signal says nothing, its order does: signals are combined by ranks. Used by ``analyse quality``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tag2mask.core.arrays import nan_mean
from tag2mask.core.errors import DataError
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.mask_quality import SIGNALS, MaskEvidence
from tag2mask.evaluation.metrics import SegmentationMetrics, SegmentationScores
from tag2mask.evaluation.result_tables import Origin, ResultRow
from tag2mask.evaluation.thresholds import Threshold

Floats = NDArray[np.float64]


def ranks(values: ArrayLike) -> Floats:
    """Ranks 1..n of (n,) values, ascending; equal ones share the mean of their ranks, NaN stays NaN and has no rank."""
    from scipy.stats import rankdata

    found: Floats = rankdata(values, nan_policy="omit")
    return found


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation of (n,) with (n,), -1..1: Pearson's correlation of the ranks.

    A pair with a NaN is left out. NaN where fewer than two pairs are left, or all values on one side are equal.
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (one, other))
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"a rank correlation of values of shapes {a.shape} and {b.shape}; expected (n,) twice")
    known = ~(np.isnan(a) | np.isnan(b))
    x, y = a[known], b[known]
    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return math.nan
    return float(np.corrcoef(ranks(x), ranks(y))[0, 1])


def rank_average(columns: Sequence[ArrayLike]) -> Floats:
    """One score from several (n,): the mean of each item's ranks, each scaled to 0 (lowest) .. 1 (highest).

    An item's mean is over the scores it has, NaN without any; a column without two different values is left out.
    """
    given = [np.asarray(c, dtype=np.float64) for c in columns]
    if not given or len({c.shape for c in given}) > 1 or given[0].ndim != 1:
        raise DataError(f"cannot average the ranks of columns of shapes {[c.shape for c in given]}; expected (n,) each")
    telling = [c for c in given if len(np.unique(c[~np.isnan(c)])) > 1]
    if not telling:
        return np.full(given[0].shape, np.nan)
    return nan_mean(np.stack([(ranks(c) - 1) / (np.count_nonzero(~np.isnan(c)) - 1) for c in telling]), axis=0)


SCORE = "score"
"""Name of the combined score: the mean of the signals' ranks, 0 (worst) .. 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Assessed:
    """One image to assess; its (H, W) ground truth, if there is any, is used for the correlation alone."""

    id: str
    evidence: MaskEvidence
    truth: LabelImage | None = None


@dataclass(frozen=True, slots=True)
class ImageQuality:
    """What the signals say of one image."""

    id: str
    score: float  # combined, 0 (worst of the split) .. 1; NaN where no signal says anything
    signals: tuple[float, ...]  # in the order of `QualityAnalysis.names`; NaN where one says nothing
    miou: float  # percent, over the labels in ground truth or mask; NaN without ground truth


@dataclass(frozen=True, slots=True)
class QualityAnalysis:
    """What `assess` found: the names of the signals that said something of any image, and the images in their order."""

    split: str
    names: tuple[str, ...]
    images: tuple[ImageQuality, ...]

    @property
    def n_with_truth(self) -> int:
        """Images with ground truth."""
        return sum(not math.isnan(image.miou) for image in self.images)

    def worst(self, count: int) -> tuple[ImageQuality, ...]:
        """The images of the lowest scores, lowest first; those without a score come last."""
        order = sorted(self.images, key=lambda i: (math.isnan(i.score), i.score, i.id))
        return tuple(order[:count])

    def correlation(self, name: str) -> float:
        """Spearman's correlation of a signal, or of `SCORE`, with the images' mIoU; NaN without ground truth."""
        values = [i.score if name == SCORE else i.signals[self.names.index(name)] for i in self.images]
        return spearman(values, [image.miou for image in self.images])

    def results(self, threshold: Threshold, origin: Origin, *, worst: int) -> tuple[ResultRow, ...]:
        """Numbers against ground truth as lines of ``results/``; empty without any.

        ``spearman/<signal>`` is -1..1. ``image_miou`` is the mean of the images' own mIoU in percent (not the split's
        mIoU), ``image_miou_worst`` that of the ``worst`` images of the lowest scores.
        """
        known = [i.miou for i in self.images if not math.isnan(i.miou)]
        if not known:
            return ()
        low = [i.miou for i in self.worst(worst) if not math.isnan(i.miou)]
        numbers = [(f"spearman/{name}", self.correlation(name)) for name in (SCORE, *self.names)]
        numbers += [("image_miou", fmean(known)), ("image_miou_worst", fmean(low) if low else math.nan)]
        return origin.rows(numbers, threshold, self.split, len(known))


def assess(images: Iterable[Assessed], classes: tuple[str, ...], split: str) -> QualityAnalysis:
    """Assess the masks of a split by every signal; of ``images``, which may be a generator, one is held at a time."""
    ids: list[str] = []
    table: list[list[float]] = []
    true: list[float] = []
    for image in images:
        ids.append(image.id)
        table.append([s.measure(image.evidence) for s in SIGNALS.values()])
        true.append(_miou(image, classes))
    if not ids:
        raise DataError(f"no image of split '{split}' has a mask to assess")
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
    """Percent; NaN without ground truth, or where all of it is ignored."""
    if image.truth is None:
        return math.nan
    metrics = SegmentationMetrics(classes)
    metrics.update(image.evidence.mask, image.truth, image.id)
    one = metrics.matrix
    return SegmentationScores.from_matrix(one, classes).miou if one.any() else math.nan
