"""A figure of one number for each of several choices, a mark for each stage: what a choice loses where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.report.figures import COLOURS, make_panels, save_figure

_MARKS = "os^Dv*P<"
_ROW = 0.26


@dataclass(frozen=True, slots=True)
class Dots:
    """The marks of one stage.

    Attributes:
        name: for the legend.
        values: (choice, number); a choice that is not there has no mark.
    """

    name: str
    values: tuple[tuple[str, float], ...]


def draw_dots(series: Sequence[Dots], label: str, title: str, out: Path) -> None:
    """Draw a line for each choice, the one with the smallest mean on top, and a mark on it for each stage.

    Args:
        series: at least one, with at least one value.
        label: of the horizontal axis.
        title: of the figure.
        out: an SVG or a PNG.
    """
    found: dict[str, list[float]] = {}
    for one in series:
        for choice, value in one.values:
            found.setdefault(choice, []).append(value)
    order = sorted(found, key=lambda choice: (-sum(found[choice]) / len(found[choice]), choice))
    figure, (axes,) = make_panels(min(len(order), 1), (7.0, 1.6 + _ROW * len(order)), "choice")
    for i, one in enumerate(series):
        places = [order.index(choice) for choice, _ in one.values]
        axes.plot(
            [value for _, value in one.values], places, linestyle="none", marker=_MARKS[i % len(_MARKS)],
            color=COLOURS[i % len(COLOURS)], fillstyle="none" if i >= len(_MARKS) else "full", label=one.name,
        )  # fmt: skip
    axes.set_yticks(range(len(order)), order)
    axes.set_xlabel(label)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, title, out)


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
