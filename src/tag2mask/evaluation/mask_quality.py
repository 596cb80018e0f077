"""Quality of a mask without ground truth: signals of one image, each 0 (bad) .. 1 (good), in one registry.

A signal is a function of a `MaskEvidence` and gives NaN where what it needs is not there. Whether its order is that of
the true IoU is measured, not assumed: see `tag2mask.evaluation.quality_ranking`. Used by ``analyse quality``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError
from tag2mask.core.types import IGNORE
from tag2mask.evaluation.background import CONSTANT, Background, Level, Sides
from tag2mask.evaluation.confusion import LabelImage

STEP = 0.1
"""How far the threshold is moved down and up for the signal ``stability``."""


@dataclass(frozen=True, slots=True)
class ClassProbabilities:
    """The classifier's probabilities of each class that is tagged and in the mask, by ascending column."""

    whole: tuple[float, ...]  # of the image, 0..1
    kept: tuple[float, ...]  # with everything outside the class's mask painted over
    erased: tuple[float, ...]  # with the class's mask painted over


@dataclass(frozen=True, slots=True, eq=False)
class MaskEvidence:
    """Ground-truth-free evidence about one mask."""

    mask: LabelImage  # (H, W) labels, the mask that is assessed; class column c is label c + 1, 0 is background
    classes: tuple[int, ...]  # class columns of the image's tags, ascending
    maps: NDArray[np.float32] | None = None  # (K, H, W) in [0, 1], of the classes; None where there are none
    threshold: Level | None = None  # that the maps are cut at, or one for each of them
    others: tuple[LabelImage, ...] = ()  # (H, W) labels by other methods
    refined: LabelImage | None = None  # (H, W) labels after CRF, 255 where not confident
    scales: tuple[LabelImage, ...] = ()  # (H, W) labels from the maps of single scales
    classifier: ClassProbabilities | None = None
    background: Background = CONSTANT  # by which the maps are cut
    sides: Sides = field(default_factory=dict)

    def masked(self) -> list[tuple[int, NDArray[np.bool_]]]:
        """Place among ``classes`` and pixels of each tagged class that the mask shows."""
        found = [(place, self.mask == column + 1) for place, column in enumerate(self.classes)]
        return [(place, inside) for place, inside in found if inside.any()]


@dataclass(frozen=True, slots=True)
class Signal:
    """One way to assess a mask: a column in CSV, a line of text, and a measure, 0 (bad) .. 1 (good).

    A measure is NaN where the evidence lacks what is needed; what is not ``combined`` is a baseline.
    """

    name: str
    text: str
    measure: Callable[[MaskEvidence], float]
    combined: bool = True


SIGNALS: dict[str, Signal] = {}
"""Every signal by name; `signal` adds one."""


def signal(
    name: str, text: str, *, combined: bool = True
) -> Callable[[Callable[[MaskEvidence], float]], Callable[[MaskEvidence], float]]:
    """Register a function of a `MaskEvidence` as a signal; arguments as in `Signal`."""

    def register(measure: Callable[[MaskEvidence], float]) -> Callable[[MaskEvidence], float]:
        if name in SIGNALS:
            raise ConfigError(f"signal '{name}' is registered already; choose another name")
        SIGNALS[name] = Signal(name, text, measure, combined)
        return measure

    return register


def mask_iou(one: LabelImage, other: LabelImage) -> float:
    """Mean IoU, 0..1, of two label images over the labels in either; 255 in one takes no part; NaN without a pixel."""
    confident = (one != IGNORE) & (other != IGNORE)
    a, b = one[confident], other[confident]
    if not a.size:
        return math.nan
    counts = [np.bincount(v, minlength=IGNORE) for v in (a, b, a[a == b])]
    union = counts[0] + counts[1] - counts[2]
    return float(np.mean(counts[2][union > 0] / union[union > 0]))


def _agreement(mask: LabelImage, others: Sequence[LabelImage]) -> float:
    """Mean `mask_iou` of a mask with each of several; NaN without any."""
    values = [value for value in (mask_iou(mask, other) for other in others) if not math.isnan(value)]
    return fmean(values) if values else math.nan


@signal("found", "share of the image's tags that the mask shows")
def found(evidence: MaskEvidence) -> float:
    """A tag without a pixel is an object that was missed; NaN without tags."""
    return len(evidence.masked()) / len(evidence.classes) if evidence.classes else math.nan


@signal("agreement", "mean IoU with the masks of the other methods of the run")
def agreement(evidence: MaskEvidence) -> float:
    """What several methods agree on is more often right."""
    return _agreement(evidence.mask, evidence.others)


@signal("scales", "mean IoU with the masks from single scales of the maps")
def scales(evidence: MaskEvidence) -> float:
    """A mask that hangs on one scale is doubtful."""
    return _agreement(evidence.mask, evidence.scales)


@signal("crf", "IoU with the mask after CRF, where that is confident")
def crf(evidence: MaskEvidence) -> float:
    """A mask that the image's own edges move much does not lie on them."""
    return math.nan if evidence.refined is None else mask_iou(evidence.mask, evidence.refined)


@signal("sure", "share of the refined seeds' object that is confident: class / (class + ignored)")
def sure(evidence: MaskEvidence) -> float:
    """Refined seeds are not confident where two thresholds disagree; NaN where they show background alone."""
    if evidence.refined is None:
        return math.nan
    ignored, objects = np.count_nonzero(evidence.refined == IGNORE), np.count_nonzero(evidence.refined)  # 255 in both
    return 1 - ignored / objects if objects else math.nan


@signal("gap", "mean activation inside each class's mask less that outside")
def gap(evidence: MaskEvidence) -> float:
    """AMN's second condition, with the mask in place of the ground truth; NaN without maps or masked class."""
    if evidence.maps is None:
        return math.nan
    pairs = [(evidence.maps[place], inside) for place, inside in evidence.masked() if not inside.all()]
    gaps = [float(m[inside].mean(dtype=np.float64) - m[~inside].mean(dtype=np.float64)) for m, inside in pairs]
    return min(1.0, max(0.0, fmean(gaps))) if gaps else math.nan


@signal("stability", f"IoU of the masks at a threshold {STEP} lower and {STEP} higher")
def stability(evidence: MaskEvidence) -> float:
    """A mask that moves much with its threshold has no edge in its maps; NaN without maps, threshold or tags."""
    if evidence.maps is None or evidence.threshold is None or not evidence.classes:
        return math.nan
    cut = partial(evidence.background.labels, evidence.maps, evidence.classes, sides=evidence.sides)
    low, high = (cut(np.clip(evidence.threshold + by, 0, 1)) for by in (-STEP, STEP))
    return mask_iou(low, high)


@signal("kept", "classifier's probability of each class where only its mask is kept")
def kept(evidence: MaskEvidence) -> float:
    """A right mask holds what makes the classifier say the class."""
    return fmean(evidence.classifier.kept) if evidence.classifier and evidence.classifier.kept else math.nan


@signal("erased", "share of the classifier's probability that is lost where the class's mask is painted over")
def erased(evidence: MaskEvidence) -> float:
    """A whole mask leaves nothing of the class behind."""
    if not evidence.classifier or not evidence.classifier.whole:
        return math.nan
    pairs = zip(evidence.classifier.whole, evidence.classifier.erased, strict=True)
    return fmean(min(1.0, max(0.0, 1 - rest / whole)) if whole else 0.0 for whole, rest in pairs)


@signal("whole", "classifier's probability of the masked classes in the whole image")
def whole(evidence: MaskEvidence) -> float:
    """An image that the classifier does not understand has poor maps."""
    return fmean(evidence.classifier.whole) if evidence.classifier and evidence.classifier.whole else math.nan


@signal("area", "share of the image that the mask covers (a baseline: large objects have higher IoU)", combined=False)
def area(evidence: MaskEvidence) -> float:
    """Size alone; a signal that is not better adds nothing."""
    return float(np.count_nonzero(evidence.mask) / evidence.mask.size)
