"""Thresholds and their kinds, and seeds cut from maps at one, by a background rule (`evaluation.background`)."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.background import CONSTANT, NO_SIDES, Background, Level, Sides
from tag2mask.evaluation.confusion import LabelImage

THRESHOLD_KINDS = ("fixed", "published", "rule", "few-masks", "oracle", "none")
"""Where a threshold comes from: the recipe; the authors' tuning on VOC's train masks; the maps alone; a few hand-made
masks; the ground truth of the evaluated split itself; there is none (masks, predictions)."""

SCOPES = ("data", "class", "image")
"""What one threshold of a rule is for: all images, the maps of a class, the maps of an image."""

ScoreForm = Literal["normalised", "raw"]
"""Which form of stored maps is cut: each divided by its own maximum, or raw scores, whose scale all images share."""

_FEW = re.compile(r"few-masks\((\d+)\)")
_RULE = re.compile(r"rule\(([a-z0-9/-]+)\)")


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """Thresholds of single classes or single images."""

    whole: float  # of the data set, 0..1: for a class or an image that has none of its own
    classes: tuple[float | None, ...] = ()  # by class column; empty where they are not per class
    images: Mapping[str, float] = field(default_factory=dict)  # by sample id
    spreads: tuple[float | None, ...] = ()  # by class column, how far its scores spread; empty where that is not known

    def of(self, sample_id: str, columns: Sequence[int]) -> Level:
        """What the maps of an image are cut at, its maps being of these class columns."""
        if not self.classes:
            return self.images.get(sample_id, self.whole)
        return _level([self.whole if t is None else t for t in (self.classes[c] for c in columns)])

    def spread(self, columns: Sequence[int]) -> Level:
        """The standard deviations of the scores of these class columns; the median of all for one without."""
        known = [value for value in self.spreads if value is not None]
        middle = statistics.median(known) if known else 0.0
        return _level([middle if s is None else s for s in (self.spreads[c] for c in columns)])


def _level(values: Sequence[float]) -> Level:
    """One number where one class is asked for; else (K,)."""
    return values[0] if len(values) == 1 else np.array(values, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold that says where it comes from.

    Attributes:
        value: 0..1, or None for the kind ``none``, and for a rule that gives each class or image its own.
        kind: one of `THRESHOLD_KINDS`.
        n: number of hand-made masks it was chosen on, for the kind ``few-masks`` only.
        rule: name of the rule, for the kind ``rule`` only: ``otsu``, or ``otsu/class`` and ``otsu/image`` for a
            threshold of each class or image.
        levels: these thresholds; None where there is one for all, or where only the name is known.
        background: the rule that maps are cut by at the threshold.
        scores: which form of the maps is cut at it.
    """

    value: float | None
    kind: str = "fixed"
    n: int | None = None
    rule: str | None = None
    levels: Levels | None = field(default=None, compare=False, repr=False)
    background: Background = field(default=CONSTANT, repr=False)
    scores: ScoreForm = field(default="normalised", repr=False)

    def __post_init__(self) -> None:
        """Check that value, kind, n and rule fit each other."""
        if self.kind not in THRESHOLD_KINDS:
            raise ConfigError(unknown("kind of threshold", self.kind, THRESHOLD_KINDS))
        if (self.kind == "few-masks") != (self.n is not None) or (self.n is not None and self.n < 1):
            raise ConfigError(
                f"n = {self.n} with kind '{self.kind}': the kind 'few-masks', and no other, requires a number of masks "
                "n, 1 or more"
            )
        if self.rule is not None and (self.kind != "rule" or not _RULE.fullmatch(f"rule({self.rule})")):
            raise ConfigError(
                f"rule = '{self.rule}' requires the kind 'rule' and a name of a-z, 0-9, '-' and '/' "
                f"(got kind '{self.kind}')"
            )
        several = self.rule is not None and self.rule.endswith(("/class", "/image"))
        if (self.kind == "none" or several) != (self.value is None):
            expected = "a number in 0..1" if self.value is None else "no value"
            raise ConfigError(
                f"threshold {self.value} of kind '{self.kind_text}'; expected {expected}: the kind 'none', and a rule "
                "for each class or image (such as 'otsu/image'), have no value, all others have one"
            )
        if self.value is not None and not 0 <= self.value <= 1:
            raise ConfigError(f"threshold {self.value} is outside 0..1, the range of the maps")

    @property
    def kind_text(self) -> str:
        """The kind as it stands in files and tables, such as ``few-masks(10)`` or ``rule(otsu)``."""
        more = self.rule if self.n is None else self.n
        return self.kind if more is None else f"{self.kind}({more})"

    @property
    def text(self) -> str:
        """The value in words: ``0.3``, or what there is one of each for, such as ``one per image``."""
        if self.value is not None:
            return f"{self.value:g}"
        return f"one per {self.rule.rpartition('/')[2]}" if self.rule else "none"

    def of(self, sample_id: str, columns: Sequence[int]) -> Level:
        """What the maps of an image are cut at, its maps being of these class columns."""
        if self.levels is not None:
            return self.levels.of(sample_id, columns)
        if self.value is None:
            raise ConfigError(f"nothing can be cut at a threshold of kind '{self.kind_text}' without a value")
        return self.value

    def spread(self, columns: Sequence[int]) -> Level:
        """How far the scores of these class columns spread: standard deviations, where a rule has measured them."""
        if self.levels is None or not self.levels.spreads:
            raise ConfigError(
                f"margin_in = 'spread' with a threshold of kind '{self.kind_text}', which has not measured how far "
                "scores spread: read a threshold of kind rule with scores=raw and per=class, or set margin_in=scores"
            )
        return self.levels.spread(columns)

    def cut(
        self, maps: NDArray[np.float32], classes: Sequence[int], sample_id: str, sides: Sides = NO_SIDES
    ) -> LabelImage:
        """The seeds of an image, (H, W); see `Background.labels`."""
        return self.background.labels(maps, classes, self.of(sample_id, classes), sides)

    def seeds(self, dataset: Dataset, sample: Sample, maps: NDArray[np.float32], classes: Sequence[int]) -> LabelImage:
        """As `cut`, with the sidecars that the background rule looks at."""
        return self.cut(maps, classes, sample.id, self.background.read(dataset, sample, maps.shape[1:]))

    @classmethod
    def parse(cls, value: float | None, kind_text: str) -> Self:
        """The threshold of a value and a `kind_text`."""
        few, rule = _FEW.fullmatch(kind_text), _RULE.fullmatch(kind_text)
        if few:
            return cls(value, "few-masks", int(few[1]))
        return cls(value, "rule", rule=rule[1]) if rule else cls(value, kind_text)


def cut(maps: NDArray[np.float32], classes: Sequence[int], threshold: Level) -> LabelImage:
    """Cut seeds from maps against a constant background, (H, W) uint8; arguments as of `Background.labels`."""
    return CONSTANT.labels(maps, classes, threshold)
