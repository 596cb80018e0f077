"""A confusion matrix as a table that can be read without colour, or its largest confusions where it is too wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import percent

WIDEST = 22
"""Most labels that are shown as a table."""

SHADES = 4
"""Shades ``--shade-1`` to ``--shade-4`` of the style sheet; the number stands in the cell."""

_LISTED, _SHADED = 25, 5.0


@dataclass(frozen=True, slots=True)
class ConfusionCell:
    """One cell: the share of the ground truth's pixels in words, its shade 0..4, and whether it is on the diagonal."""

    text: str
    shade: int
    right: bool


@dataclass(frozen=True, slots=True)
class Confused:
    """One confusion: pixels of ``truth`` that were taken for ``taken``, as a share of the ground truth's in percent."""

    truth: str
    taken: str
    share: float


@dataclass(frozen=True, slots=True)
class ConfusionView:
    """A matrix, ready for the template."""

    labels: tuple[str, ...]  # background first
    rows: tuple[tuple[ConfusionCell, ...], ...]  # by label of the ground truth; empty where too wide
    largest: tuple[Confused, ...]  # confusions, largest first


def view(matrix: NDArray[np.int64], labels: Sequence[str]) -> ConfusionView:
    """Lay out an (L, L) confusion matrix, row = ground truth, column = prediction, of L labels, background first."""
    shares = percent(matrix, matrix.sum(axis=1, keepdims=True))
    wide = len(labels) > WIDEST
    rows = () if wide else tuple(tuple(_cell(v, i == j) for j, v in enumerate(r)) for i, r in enumerate(shares))
    wrong = [
        Confused(labels[i], labels[j], float(shares[i, j]))
        for i, j in zip(*np.nonzero(matrix), strict=True)
        if i != j and shares[i, j] >= 0.05
    ]
    return ConfusionView(tuple(labels), rows, tuple(sorted(wrong, key=lambda c: -c.share)[:_LISTED]))


def _cell(share: float, right: bool) -> ConfusionCell:
    if np.isnan(share):
        return ConfusionCell("–", 0, right)
    text = f"{share:.1f}"
    shade = int(np.ceil(share / 100 * SHADES)) if share >= _SHADED else 0
    return ConfusionCell("·" if text == "0.0" else text, shade, right)
