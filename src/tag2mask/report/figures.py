"""Figures of the analyses, drawn by matplotlib: curves, histograms, boxes, dots, shares.

SVG with its text as text, so that it can be searched and read aloud; the same input gives the same bytes. Lines, boxes
and bars are distinguished without colour too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.core.files import atomic_path
from tag2mask.report.fonts import legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#000000")
"""Of lines, in order: those of Okabe and Ito, distinguished by colour-blind eyes."""

_DASHES = ("-", "--", ":", "-.", (0, (1, 3)), (0, (8, 2, 1, 2, 1, 2)))
_MARKS = "os^Dv*P<"
_STEP = 0.05
_PER_ROW = 3
_ROW, _CELL, _MARGIN = 0.26, 0.42, 2.2
"""Inches: the row of a choice, the cell of a table, the room beside a table."""
WRITTEN = 30
"""Up to so many classes the numbers are written in the cells; more would not be legible."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of `draw_curves`: (threshold, mIoU in percent), ascending; the range ``plateau`` is drawn thick."""

    name: str
    points: tuple[tuple[float, float], ...]
    plateau: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Histogram:
    """One panel of `draw_histograms`: thresholds on hundredths, a line at the global one, a note below the title."""

    name: str
    values: tuple[float, ...]
    line: float
    note: str


@dataclass(frozen=True, slots=True)
class Boxes:
    """One panel of `draw_boxes`: its title, the unit of its vertical axis, name and values of each box."""

    name: str
    unit: str
    values: tuple[tuple[str, tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class Dots:
    """The marks of one stage: (choice, number); a choice that is not there has no mark."""

    name: str
    values: tuple[tuple[str, float], ...]


def draw_curves(curves: Sequence[Curve], title: str, out: Path) -> None:
    """Draw mIoU over thresholds, the range of each plateau thick (AMN, Figure 6)."""
    figure, (axes,) = make_panels(min(len(curves), 1), (7.0, 4.2), "curve")
    for i, curve in enumerate(curves):
        colour, dash = COLOURS[i % len(COLOURS)], _DASHES[(i + i // len(COLOURS)) % len(_DASHES)]
        x, y = zip(*curve.points, strict=True)
        axes.plot(x, y, color=colour, linestyle=dash, linewidth=1.2, label=curve.name)
        thick = [(t, v) for t, v in curve.points if curve.plateau[0] <= t <= curve.plateau[1]]
        axes.plot(*zip(*thick, strict=True), color=colour, linewidth=3.5, alpha=0.45, solid_capstyle="butt")
    axes.set(xlabel="threshold", ylabel="mIoU (%)", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save_figure(figure, title, out)


def draw_histograms(panels: Sequence[Histogram], title: str, out: Path) -> None:
    """Draw how the best thresholds of images lie, one panel beside the other on the same axes (AMN, Figure 1a)."""
    figure, grid = make_panels(len(panels), (3.6, 3.2), "histogram", same=True)
    edges = np.arange(22) * _STEP - _STEP / 2  # between hundredths: no threshold lies on an edge
    for panel, axes in zip(panels, grid, strict=True):
        axes.hist(panel.values, bins=list(edges), color=COLOURS[4], edgecolor="black", linewidth=0.6)
        axes.axvline(panel.line, color=COLOURS[1], linestyle="--", label=f"global: {panel.line:.2f}")
        axes.set_title(f"{panel.name}\n{panel.note}", fontsize=9)
        axes.set(xlabel="best threshold of an image", ylabel="images", xlim=(-_STEP / 2, 1 + _STEP / 2))
        axes.legend(frameon=False, fontsize=8)
    save_figure(figure, title, out)


def draw_boxes(panels: Sequence[Boxes], title: str, out: Path) -> None:
    """Draw quartiles of images, a box for each method, a panel for each measure.

    The whiskers end at the 5th and 95th percentile.
    """
    figure, grid = make_panels(len(panels), (3.8, 3.4), "box plot")
    for panel, axes in zip(panels, grid, strict=True):
        axes.boxplot([values for _, values in panel.values], whis=(5, 95), showfliers=False, showmeans=True)
        names = [name for name, _ in panel.values]
        axes.set_xticks(range(1, len(names) + 1), names, rotation=20, ha="right")
        axes.set_title(panel.name, fontsize=10)
        axes.set_ylabel(panel.unit)
        axes.grid(axis="y", alpha=0.3)
    save_figure(figure, title, out)


def draw_dots(series: Sequence[Dots], label: str, title: str, out: Path) -> None:
    """Draw a line for each choice, the one with the smallest mean on top, and a mark on it for each stage."""
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


def draw_shares(names: Sequence[str], shares: NDArray[np.float64], title: str, out: Path) -> None:
    """Draw which share, (C, C) in 0..1, of the images of a class (its row) shows another class.

    NaN is left blank, and so is the diagonal.
    """
    count = len(names)
    if shares.shape != (count, count):
        raise DataError(f"a table of shape {shares.shape} for {count} names; expected ({count}, {count})")
    side = _CELL * count + _MARGIN
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


def make_panels(count: int, size: tuple[float, float], what: str, *, same: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels of ``size`` inches, at most three in a row, all with the ``same`` vertical axis."""
    if not count:
        raise DataError(f"a figure needs at least one {what}")
    from matplotlib.figure import Figure

    columns = min(count, _PER_ROW)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=same)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    return figure, list(grid.flat[:count])


def save_figure(figure: Figure, title: str, out: Path) -> None:
    """Write a figure with a title as SVG or PNG, whole or not at all, without the time of writing."""
    import matplotlib

    figure.suptitle(title, fontsize=10)
    kind = out.suffix.removeprefix(".")
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}[kind]
    with (
        atomic_path(out) as temporary,
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tag2mask"}),
        legible(figure, out, as_text=kind == "svg"),
    ):
        figure.savefig(temporary, format=kind, metadata=metadata)
