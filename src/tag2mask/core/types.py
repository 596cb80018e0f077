"""The values that travel between the parts of tag2mask, small and frozen; the ledger of supervision."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tag2mask.core.errors import ConfigError, DataError, LedgerError, unknown

if TYPE_CHECKING:  # torch is slow to import and needed only once a method runs
    from torch import Tensor

IGNORE = 255
"""Label of ignored pixels: void in VOC's masks, not confident in refined seeds, padding in training."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and its tags.

    Attributes:
        id: unique in its data set, a safe file name without extension.
        tags: 0-based columns of the classes present, ascending; empty for a verified negative.
        image: the image file, or None where the data set draws or decodes it itself.
        truth: the mask file, or None where there is none or the data set makes it from annotations.
        sidecars: further files by role, such as ``saliency``.
    """

    id: str
    tags: tuple[int, ...]
    image: Path | None = None
    truth: Path | None = None
    sidecars: Mapping[str, Path] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class ActivationMaps:
    """Activation maps of the classes present in one image.

    Attributes:
        classes: 0-based columns of the tags, ascending, one for each map.
        maps: (K, h, w) in [0, 1]. Each map's maximum is exactly 1, or the map is all zero; after a random walk the
            maximum of all the image's maps together is 1. AMN's maps of the normalisations ``background-prior`` and
            ``learned`` are probabilities where these say so, with any maximum.
        raw: (K, h, w) raw scores in [0, 1], not normalised: a value means the same in every image and class; None where
            a method keeps none.
        absent: (C, 251) int64 beside these: for each class column that is not present how many cells, at half
            the rows and columns, have a raw score that rounds to 0, 0.004, ..., 1; zero in the rows of present classes.
    """

    classes: tuple[int, ...]
    maps: Tensor
    raw: Tensor | None = None
    absent: Tensor | None = None

    def resize(self, height: int, width: int) -> ActivationMaps:
        """The same maps, bilinearly resized (corners not aligned) to ``(K, height, width)``.

        Raises:
            DataError: a side below 1.
        """
        from tag2mask.core.resize import bilinear

        if height < 1 or width < 1:
            raise DataError(f"maps cannot be resized to height = {height}, width = {width}: expected 1 or more each")

        raw = None if self.raw is None else bilinear(self.raw, height, width)
        return ActivationMaps(self.classes, bilinear(self.maps, height, width), raw, self.absent)


@dataclass(frozen=True, slots=True)
class PrototypeSet:
    """All cluster centres of one class on one side (foreground or context), kept or dropped.

    Attributes:
        centres: (K, D) raw (not normalised) mean feature of each cluster, F_i or B_i of LPCAM.
        scores: (K,) in [0, 1], the classifier's probability z_i of the class (LPCAM eqs. 3, 4).
        sizes: (K,) int64, feature vectors in each cluster.
        kept: (K,) bool, which centres serve as prototypes.
        reasons: why each was kept or dropped, in words.
    """

    centres: Tensor
    scores: Tensor
    sizes: Tensor
    kept: Tensor
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prototypes:
    """Class and context prototypes of every class (LPCAM section 3.1).

    Attributes:
        all_foreground: every foreground centre by class column, dropped ones included.
        all_context: every context centre by class column, dropped ones included.
    """

    all_foreground: Mapping[int, PrototypeSet]
    all_context: Mapping[int, PrototypeSet]

    @property
    def foreground(self) -> dict[int, Tensor]:
        """Kept foreground prototypes by class column: (K', D)."""
        return {c: p.centres[p.kept] for c, p in self.all_foreground.items()}

    @property
    def context(self) -> dict[int, Tensor]:
        """Kept context prototypes by class column: (K', D)."""
        return {c: p.centres[p.kept] for c, p in self.all_context.items()}


SUPERVISION = (
    "tags",
    "saliency",
    "foreground",
    "self-supervised",
    "text",
    "promptable-masks",
    "pixel-masks",
    "pixel-masks:init",
    "pixel-masks:threshold",
)
_THRESHOLD = re.compile(r"pixel-masks:threshold\((\d+)\)")


def parse_ledger(entries: Iterable[str]) -> frozenset[str]:
    """Check ledger entries such as ``tags`` or ``pixel-masks:threshold(100)`` and return them as a set."""
    found = frozenset(entries)
    for entry in sorted(found):
        if entry not in SUPERVISION[:-1] and not _THRESHOLD.fullmatch(entry):
            raise ConfigError(unknown("supervision", entry, (*SUPERVISION[:-1], "pixel-masks:threshold(n)")))
    return found


def check_ledger(ledger: Iterable[str], allowed: Iterable[str], stage: str) -> None:
    """Refuse an entry of the ledger that is not allowed."""
    extra = sorted(parse_ledger(ledger) - parse_ledger(allowed))
    if extra:
        raise LedgerError(
            f"stage '{stage}' would use {', '.join(extra)}, but the recipe's allow_supervision is "
            f"[{', '.join(sorted(allowed))}]. If that is meant, add it: "
            f"allow_supervision=[{','.join(sorted({*allowed, *extra}))}]"
        )
