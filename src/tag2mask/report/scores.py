"""Compares methods' scores within one kind of threshold only: the best of each, and means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.core.names import base_name


@dataclass(frozen=True, slots=True)
class Score:
    """One method's means at one threshold, in percent; NaN where undefined."""

    threshold_kind: str  # such as fixed, oracle or few-masks(10)
    threshold: float | None  # 0..1; None of kind none
    miou: float  # over all labels, background included
    fp: float  # over the foreground classes, as the next three
    fn: float  # missed share of the union
    precision: float
    recall: float
    n_images: int = 0  # images with ground truth that were counted
    ledger: tuple[str, ...] = ("tags",)  # supervision behind the number
    miou_foreground: float = math.nan  # mean IoU over the foreground classes, as is the next
    f1_foreground: float = math.nan
    tolerance: float = math.nan  # mean IoU of the thin classes, two pixels aside allowed; NaN where none is thin


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label's numbers, in percent, as in `Score`; NaN where undefined."""

    name: str
    iou: float
    fp: float
    fn: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True, eq=False)
class MethodResult:
    """What one method reached on one split."""

    name: str  # as shown, such as lpcam-f or lpcam@1
    scores: tuple[Score, ...]  # one for each threshold; pictures and details are at the first
    curve: tuple[tuple[float, float], ...] = ()  # (threshold, mIoU in percent), empty where there is no sweep
    labels: tuple[LabelScore, ...] = ()  # at the first threshold, background first
    confusion: NDArray[np.int64] | None = None  # (L, L) pixel counts at the first threshold, row = truth
    optima: tuple[float, ...] = ()  # best threshold of each image to which the threshold makes a difference
    images: str = ""  # hash of the classes and the measured images: equal for what may be compared

    @property
    def at(self) -> str:
        """Kind and value of the first threshold in words."""
        first = self.scores[0]
        if first.threshold is not None:
            return f"{first.threshold_kind} threshold {first.threshold:.2f}"
        if first.threshold_kind == "none":
            return "no threshold"
        several = first.threshold_kind.rpartition("/")[2].rstrip(")")  # of rule(otsu/class)
        return f"{first.threshold_kind} threshold, one per {several}"


@dataclass(frozen=True, slots=True)
class Mean:
    """MIoU of one method over ``n`` seeds, at one kind of threshold: mean, and standard deviation (NaN for one).

    The name has no seed where there are several.
    """

    name: str
    n: int
    value: float
    sd: float

    @property
    def text(self) -> str:
        """The number as it is shown."""
        return percent(self.value) if self.n == 1 else f"{percent(self.value)} ± {percent(self.sd)} ({self.n} seeds)"


def percent(value: float) -> str:
    """A percentage as it stands in a table; a dash where it is undefined."""
    return "–" if math.isnan(value) else f"{value:.1f}"


@dataclass(frozen=True, slots=True)
class Group:
    """Scores that may be compared: one kind of threshold, the same ``images`` as in `MethodResult`."""

    kind: str
    n_images: int
    images: str
    scores: tuple[tuple[str, Score], ...]


def groups(methods: Sequence[MethodResult]) -> tuple[Group, ...]:
    """The scores of all methods by what they may be compared with, in order of first appearance."""
    found: dict[tuple[str, int, str], list[tuple[str, Score]]] = {}
    for method in methods:
        for score in method.scores:
            found.setdefault((score.threshold_kind, score.n_images, method.images), []).append((method.name, score))
    return tuple(Group(*key, tuple(scores)) for key, scores in found.items())


def means(scores: Sequence[tuple[str, Score]]) -> tuple[Mean, ...]:
    """MIoU of each method over its seeds, which are what follows ``@`` in its name; undefined ones are left out."""
    grouped: dict[str, list[tuple[str, float]]] = {}
    for name, score in scores:
        if not math.isnan(score.miou):
            grouped.setdefault(base_name(name), []).append((name, score.miou))
    return tuple(_mean(base, found) for base, found in grouped.items())


def _mean(base: str, found: Sequence[tuple[str, float]]) -> Mean:
    values = [value for _, value in found]
    one = len(values) == 1
    return Mean(found[0][0] if one else base, len(values), fmean(values), math.nan if one else stdev(values))


@dataclass(frozen=True, slots=True)
class Headline:
    """The best of one `Group`, as it stands at the top of a page."""

    number: str  # its mIoU, with the deviation between seeds; a dash where nothing is defined
    name: str  # of the method, or of all that reach the same number to one decimal
    at: str  # kind of threshold and how many images were counted
    lead: str  # how far it is ahead, and of what
    ledger: tuple[str, ...]  # supervision behind the number
    bound: bool  # whether the threshold was chosen on the ground truth that it is measured on
    beside: str = ""  # the same method's means over the foreground classes


def headlines(methods: Sequence[MethodResult]) -> tuple[Headline, ...]:
    """The best for each kind of threshold and set of images, upper bounds last; equal to one decimal is a draw."""
    found = groups(methods)
    if not found:
        raise DataError(
            "a page needs at least one method with a score; give the recipe a stage of kind seeds or masks, and run it"
        )
    return tuple(_headline(group) for group in sorted(found, key=lambda group: group.kind == "oracle"))


def _headline(group: Group) -> Headline:
    kind = "masks, no threshold" if group.kind == "none" else f"{group.kind} threshold"
    at = f"{kind}, {group.n_images} image{'' if group.n_images == 1 else 's'}"
    ranked = sorted(means(group.scores), key=lambda mean: -mean.value)
    bound = group.kind == "oracle"
    if not ranked:
        return Headline("–", "nothing defined", at, "", (), bound)
    level = [mean for mean in ranked if percent(mean.value) == percent(ranked[0].value)]
    names, rest = [mean.name for mean in level], ranked[len(level) :]
    ledger = _ledger(group, names)
    number = percent(ranked[0].value) if len(level) > 1 else ranked[0].text
    lead, beside = _lead(group, ranked[0], rest, ledger), _beside(group, ranked[0].name)
    return Headline(number, " and ".join(names), at, lead, ledger, bound, beside)


def _beside(group: Group, name: str) -> str:
    """A method's means over the foreground classes, each over its seeds; empty where they were not measured."""
    mine = [score for other, score in group.scores if name in (other, base_name(other))]
    values = [[getattr(score, metric) for score in mine] for metric in ("miou_foreground", "f1_foreground")]
    if any(math.isnan(value) for each in values for value in each):
        return ""
    miou, f1 = (percent(fmean(each)) for each in values)
    return f"the classes alone: {miou} mIoU, F1 {f1}"


def _lead(group: Group, first: Mean, rest: Sequence[Mean], ledger: tuple[str, ...]) -> str:
    """How far the first is ahead of the next, whose supervision is named where it is another one."""
    if not rest:
        return ""
    second = rest[0]
    points = percent(round(first.value, 1) - round(second.value, 1))  # of the numbers as they are shown
    other = _ledger(group, [second.name])
    seen = "" if other == ledger else f", supervision {', '.join(other) or 'none'}"
    return f"{points} points ahead of {second.name} ({second.text}{seen})"


def _ledger(group: Group, names: Sequence[str]) -> tuple[str, ...]:
    """Supervision behind the scores of some methods, all their seeds together."""
    mine = [score.ledger for name, score in group.scores if name in names or base_name(name) in names]
    return tuple(sorted(set().union(*mine)))
