"""A square table of shares as a heat map, each number in its cell, for readers with and without colour vision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.report.figures import make_panels, save_figure

WRITTEN = 30
"""Up to so many classes the numbers are written in the cells; more would not be legible."""

_CELL, _FRAME = 0.42, 2.2


def draw_shares(names: Sequence[str], shares: NDArray[np.float64], title: str, out: Path) -> None:
    """Draw which share of a class's images shows another class.

    Args:
        names: of C classes.
        shares: (C, C) in 0..1, row = the class whose images are looked at; NaN is left blank, and so is the diagonal.
        title: of the figure.
        out: an SVG.

    Raises:
        DataError: the table has not a row and a column for each name, or there is no name.
        StageError: the file cannot be written.
    """
    count = len(names)
    if shares.shape != (count, count):
        raise DataError(f"a table of shape {shares.shape} for {count} names; expected ({count}, {count})")
    side = _CELL * count + _FRAME
    figure, (axes,) = make_panels(min(count, 1), (side, side), "class")
    shown = np.where(np.eye(count, dtype=np.bool_), np.nan, shares)
    picture = axes.imshow(shown, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(count), names, rotation=90)
    axes.set_yticks(range(count), names)
    axes.set(xlabel="… also show", ylabel="of the images of …")
    figure.colorbar(picture, ax=axes, shrink=0.7, label="share of the images")
    for (row, column), share in np.ndenumerate(shown):
        if count <= WRITTEN and not math.isnan(share):
            ink = "black" if share > 0.5 else "white"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7, color=ink)
    save_figure(figure, title, out)
