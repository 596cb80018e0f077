"""Figure of a sweep: lines over one setting, heat maps over two; kinds of threshold are never in one panel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tag2mask.report.figures import COLOURS, make_panels, save_figure
from tag2mask.sweep.grid import as_numbers
from tag2mask.sweep.result import Series, SweepResult, image_counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = ("-", "--", ":", "-.")
_DECADES = 20.0
"""Ratio of the largest to the smallest value above which the axis is logarithmic."""

_LEAST_SPAN = 5.0
"""Points that the vertical axis spans at least: a tenth of a point is not a slope."""

_MARKERS = "osD^vX"


def draw_sweep(result: SweepResult, every: Sequence[Series], name: str, out: Path) -> None:
    """Draw the series of a sweep over one or two settings as an SVG; ``name`` is the recipe's."""
    if len(result.keys) == 1:
        _lines(result, every, name, out)
    else:
        _heat_maps(result, every, name, out)


def _lines(result: SweepResult, every: Sequence[Series], name: str, out: Path) -> None:
    """One panel for each kind of threshold and split, a line for each method; bars are deviations over seeds."""
    groups = list(dict.fromkeys((s.split, s.kind) for s in every))
    figure, panels = make_panels(len(groups), (5.2, 3.9), "series", same=True)
    texts = [point.values[0] for point in result.points]
    numbers = as_numbers(texts)
    places = numbers or tuple(range(len(texts)))
    for group, axes in zip(groups, panels, strict=True):
        mine = [s for s in every if (s.split, s.kind) == group]
        for i, series in enumerate(mine):
            _line(axes, series, places, i, joined=numbers is not None)
        axes.set_title(f"{_kind(group[1])}\n{group[0]}, {_images(mine)} images", fontsize=9)
        axes.set(xlabel=result.keys[0], ylabel=result.metric)
        if numbers and min(numbers) > 0 and max(numbers) / min(numbers) > _DECADES:
            axes.set_xscale("log")
        axes.set_xticks(places, texts)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    low, high = panels[0].get_ylim()  # of all panels
    missing = max(0.0, _LEAST_SPAN - (high - low)) / 2
    panels[0].set_ylim(low - missing, high + missing)
    save_figure(figure, f"{name}: {result.metric} over {result.keys[0]}", out)


def _line(axes: Axes, series: Series, places: Sequence[float], number: int, *, joined: bool) -> None:
    """One method; points are joined where the setting is a number."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    cells = [series.cells[i] for i in order]
    deviations = [0.0 if cell is None or cell.sd is None else cell.sd for cell in cells]
    axes.errorbar(
        [places[i] for i in order],
        [math.nan if cell is None else cell.mean for cell in cells],
        yerr=deviations if any(deviations) else None,
        color=COLOURS[number % len(COLOURS)],
        linestyle=_DASHES[(number + number // len(COLOURS)) % len(_DASHES)] if joined else "none",
        marker=_MARKERS[number % len(_MARKERS)],
        linewidth=1.2, markersize=4, capsize=3, label=series.method,
    )  # fmt: skip


def _heat_maps(result: SweepResult, every: Sequence[Series], name: str, out: Path) -> None:
    """One panel for each series, the first setting down, the second across, with the numbers in their cells."""
    figure, panels = make_panels(len(every), (4.6, 3.9), "series")
    down, across = (list(dict.fromkeys(point.values[i] for point in result.points)) for i in range(2))
    for series, axes in zip(every, panels, strict=True):
        means = [math.nan if cell is None else cell.mean for cell in series.cells]
        _heat_map(axes, np.asarray(means).reshape(len(down), len(across)))
        axes.set_xticks(range(len(across)), across)
        axes.set_yticks(range(len(down)), down)
        axes.set(xlabel=result.keys[1], ylabel=result.keys[0])
        title = f"{series.method}, {_kind(series.kind)}\n{series.split}, {_images([series])} images"
        axes.set_title(title, fontsize=9)
    save_figure(figure, f"{name}: {result.metric} over {result.keys[0]} and {result.keys[1]}", out)


def _heat_map(axes: Axes, means: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    axes.imshow(means, cmap="cividis", aspect="auto")
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    for (row, column), value in np.ndenumerate(means):
        if math.isnan(value):
            axes.text(column, row, "failed", ha="center", va="center", fontsize=8, color="black")
        else:
            ink = "black" if value > middle else "white"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8, color=ink)


def _kind(kind: str) -> str:
    return "no threshold" if kind == "none" else f"threshold: {kind}"


def _images(every: Sequence[Series]) -> str:
    """Number of images, ``60–90`` if it differs."""
    counts = image_counts(every)
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
