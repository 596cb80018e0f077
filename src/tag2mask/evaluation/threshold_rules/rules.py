"""Rules that choose a threshold from maps alone: a new one is one function and one line in `RULES`.

A rule reads one kind of evidence (`evidence`) and turns its sum into a threshold: over all images for the data
set, over the images of a class for the class, of one image for the image. It never sees ground truth, and its
threshold is of kind ``rule``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import rounded
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.evaluation.threshold_rules.evidence import PROBED, ImageEvidence
from tag2mask.evaluation.threshold_rules.histogram import (
    OTSU,
    cross_entropy,
    entropy,
    minimum_error,
    moments,
    plateau,
    splitting,
    triangle,
)  # fmt: skip
from tag2mask.evaluation.threshold_rules.mixture import beta_mixture, gaussian_mixture
from tag2mask.evaluation.threshold_sweep import GRID
from tag2mask.evaluation.thresholds import SCOPES, Levels, Threshold

EVIDENCE = ("histogram", "agreement", "erasure")
"""Kinds of evidence: of one stage of maps; of two; of maps and a classifier."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to choose a threshold."""

    name: str  # as in recipes and tables
    evidence: str  # one of `EVIDENCE`
    choose: Callable[[NDArray[Any]], float | None]  # summed evidence to a threshold in 0..1, if it says anything
    about: str  # one line for lists


def best_agreement(evidence: NDArray[Any]) -> float | None:
    """The threshold of `GRID` at which two views agree most beyond chance; None where they never do."""
    ratio = np.divide(evidence[:, 0], evidence[:, 1], out=np.zeros(len(evidence)), where=evidence[:, 1] > 1e-9)
    return _middle(ratio, GRID) if ratio.max() > 0 else None


def best_region(evidence: NDArray[Any]) -> float | None:
    """The threshold of `PROBED` at which the classifier gains most beyond what the area alone is worth."""
    gains = evidence[:, 0] - evidence[:, 1]
    return _middle(gains, PROBED) if gains.max() > 0 else None


def largest_gain(evidence: NDArray[Any]) -> float | None:
    """The threshold of `PROBED` with the largest gain as it is, which favours large regions."""
    return _middle(evidence[:, 0], PROBED) if np.ptp(evidence[:, 0]) > 0 else None


def _middle(scores: NDArray[np.float64], thresholds: Sequence[float]) -> float:
    """The threshold of the largest score; the middle one of equal ones that follow each other."""
    start, top = plateau(scores)
    return (thresholds[start] + thresholds[top]) / 2


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("otsu", "histogram", OTSU, "largest variance between background and object"),
        Rule("gaussian-mixture", "histogram", gaussian_mixture, "where two normal distributions cross"),
        Rule("beta-mixture", "histogram", beta_mixture, "where two beta distributions cross"),
        Rule("minimum-error", "histogram", splitting(minimum_error), "two normal distributions least confused"),
        Rule("cross-entropy", "histogram", splitting(cross_entropy), "least cross entropy to two values"),
        Rule("entropy", "histogram", splitting(entropy), "largest entropy of both sides"),
        Rule("triangle", "histogram", triangle, "the corner of a long tail"),
        Rule("moments", "histogram", moments, "the first three moments are kept"),
        Rule("agreement", "agreement", best_agreement, "two views agree most beyond chance"),
        Rule("classifier", "erasure", best_region, "kept or erased, the region matters most for its area"),
        Rule("classifier-plain", "erasure", largest_gain, "the same without regard to the area"),
    )
}
"""Every rule by name."""


def rules_of(evidence: str) -> list[Rule]:
    """The rules that read one kind of evidence."""
    return [rule for rule in RULES.values() if rule.evidence == evidence]


def find_rule(name: str, evidence: str | None = None) -> Rule:
    """The rule of that name, of one kind of evidence where that is given."""
    known = {r.name: r for r in RULES.values() if evidence in (None, r.evidence)}
    if name not in known:
        raise ConfigError(unknown("rule", name, known))
    return known[name]


@dataclass(frozen=True, slots=True, eq=False)
class RuleChoice:
    """What a rule has chosen: a threshold for the data set, and those of class columns and sample ids that were wanted.

    A class without evidence has None; an image without any is left out.
    """

    rule: str
    whole: float
    classes: tuple[float | None, ...] = ()
    images: Mapping[str, float] = field(default_factory=dict)

    def threshold(self, per: str) -> Threshold:
        """The threshold of the requested scope, one of `SCOPES`."""
        if per == "data":
            return Threshold(self.whole, "rule", rule=self.rule)
        levels = Levels(self.whole, self.classes) if per == "class" else Levels(self.whole, images=self.images)
        return Threshold(None, "rule", rule=f"{self.rule}/{per}", levels=levels)


def choose_thresholds(
    rules: Sequence[Rule],
    images: Iterable[ImageEvidence],
    n_classes: int,
    per: Collection[str] = SCOPES,
) -> dict[str, RuleChoice]:
    """Let rules of one kind of evidence choose from images, each taken once and not kept; thresholds are `rounded`.

    Scopes ``per`` are of `SCOPES`; that of the data set is always there. The choices come by name of the rule; a rule
    for which the whole evidence says nothing is left out.
    """
    whole: NDArray[Any] | float = 0
    classes: dict[int, NDArray[Any]] = {}
    own: dict[str, dict[str, float]] = {rule.name: {} for rule in rules}
    for image in images:
        whole = whole + image.whole
        for column, evidence in zip(image.columns, image.classes, strict=True) if "class" in per else ():
            classes[column] = classes.get(column, 0) + evidence
        for rule in rules if "image" in per else ():
            value = _rounded(rule.choose(image.whole))
            if value is not None:
                own[rule.name][image.id] = value
    found = {}
    for rule in rules if isinstance(whole, np.ndarray) else ():
        value = _rounded(rule.choose(np.asarray(whole)))
        if value is not None:
            each = [_rounded(rule.choose(classes[c])) if c in classes else None for c in range(n_classes)]
            found[rule.name] = RuleChoice(rule.name, value, tuple(each) if "class" in per else (), own[rule.name])
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else rounded(value)
