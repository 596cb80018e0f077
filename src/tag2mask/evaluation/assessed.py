"""The signals of `tag2mask.evaluation.quality` over a split: one score an image, the worst, and how right that is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from tag2mask.core.errors import DataError
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.quality import SIGNALS, Look
from tag2mask.evaluation.rank import rank_average, spearman
from tag2mask.evaluation.rows import ResultRow
from tag2mask.evaluation.thresholds import Threshold

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

    Raises:
        DataError: there is no image, or a mask and its truth do not fit.
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
