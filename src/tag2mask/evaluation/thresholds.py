"""Thresholds and their kinds, and seeds cut from maps at one.

A threshold t acts like a background map that is t everywhere: a pixel is of the present class whose map is largest,
if that value is above t, else background. Ties go to background first, then to the lower class column. The comparison
is in float32, the precision of the maps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.evaluation.confusion import LabelImage

KINDS = ("fixed", "published", "rule", "few-masks", "oracle", "none")
"""Where a threshold comes from: the recipe; the authors' tuning on VOC's train masks; the maps alone; a few hand-made
masks; the truth of the evaluated split itself; there is none (masks, predictions)."""

_FEW = re.compile(r"few-masks\((\d+)\)")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A threshold that says where it comes from.

    Attributes:
        value: 0..1, or None for the kind ``none``.
        kind: one of `KINDS`.
        n: number of hand-made masks it was chosen on, for the kind ``few-masks`` only.

    Raises:
        ConfigError: an unknown kind, a value outside 0..1, or ``n`` where there is no room for it.
    """

    value: float | None
    kind: str = "fixed"
    n: int | None = None

    def __post_init__(self) -> None:
        """Check that value, kind and n fit each other."""
        if self.kind not in KINDS:
            raise ConfigError(unknown("kind of threshold", self.kind, KINDS))
        if (self.kind == "few-masks") != (self.n is not None) or (self.n is not None and self.n < 1):
            raise ConfigError(
                f"threshold of kind '{self.kind}' with n = {self.n}; n, 1 or more, is the number of masks of "
                "'few-masks' and of no other kind"
            )
        if (self.kind == "none") != (self.value is None):
            raise ConfigError(f"threshold {self.value} of kind '{self.kind}'; only the kind 'none' has no value")
        if self.value is not None and not 0 <= self.value <= 1:
            raise ConfigError(f"threshold {self.value} is outside 0..1, the range of the maps")

    @property
    def kind_text(self) -> str:
        """The kind as it stands in files and tables, such as ``few-masks(10)``."""
        return self.kind if self.n is None else f"{self.kind}({self.n})"

    @classmethod
    def parse(cls, value: float | None, kind_text: str) -> Self:
        """The threshold of a value and a `kind_text`.

        Raises:
            ConfigError: they do not make a threshold.
        """
        few = _FEW.fullmatch(kind_text)
        return cls(value, "few-masks", int(few[1])) if few else cls(value, kind_text)


def check_same_kind(kinds: Iterable[str], what: str) -> str:
    """The one kind that all compared numbers share.

    Args:
        kinds: `Threshold.kind_text` of each number.
        what: what is compared, for the error text.

    Raises:
        ConfigError: there are several kinds, or none.
    """
    found = sorted(set(kinds))
    if len(found) != 1:
        raise ConfigError(
            f"{what} would mix thresholds of kinds {', '.join(found) or '(nothing given)'}; "
            "compare numbers of one kind, such as threshold_kind=oracle"
        )
    return found[0]


def cut(maps: NDArray[np.float32], classes: Sequence[int], threshold: float) -> LabelImage:
    """Cut seeds from maps: the class of the largest map where it is above the threshold, else background.

    Args:
        maps: (K, H, W) in [0, 1], one for each present class.
        classes: K class columns, 0-based, ascending; column c becomes label c + 1.
        threshold: 0..1.

    Returns:
        (H, W) uint8 labels.
    """
    if not len(classes):
        return np.zeros(maps.shape[1:], dtype=np.uint8)
    labels = (np.asarray(classes) + 1).astype(np.uint8)
    return np.where(maps.max(axis=0) > np.float32(threshold), labels[maps.argmax(axis=0)], np.uint8(0))
