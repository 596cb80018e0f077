"""The threshold curve as SVG that follows the page: light or dark, and readable without colour."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

WIDTH, HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 48
_DASHES = ("", "7 4", "2 3", "10 3 2 3", "1 4", "14 4")
N_COLOURS = 6
"""Line colours ``--line-0`` to ``--line-5`` of the style sheet; more methods reuse them with other dashes."""


@dataclass(frozen=True, slots=True)
class Line:
    """One method's curve, in the picture's own units.

    Attributes:
        name: of the method.
        colour: CSS value.
        dash: SVG dash pattern, empty for a solid line.
        points: SVG points ``x,y x,y ...``.
        best: (x, y) of the largest value.
        note: the largest value in words.
    """

    name: str
    colour: str
    dash: str
    points: str
    best: tuple[float, float]
    note: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: its place in the picture and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All curves and both axes, ready for the template.

    Attributes:
        lines: one for each method that has a curve.
        x: ticks of the threshold, 0..1.
        y: ticks of mIoU in percent.
        left: x of the vertical axis.
        right: x of the right border.
        top: y of the upper border.
        bottom: y of the horizontal axis.
        width: of the view box.
        height: of the view box.
    """

    lines: tuple[Line, ...]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def chart(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> Chart | None:
    """Lay curves out.

    Args:
        curves: name and (threshold 0..1, mIoU in percent) points of each method; NaN points are left out.

    Returns:
        The chart, or None where no curve has a point.
    """
    known = [(name, [(t, v) for t, v in points if not math.isnan(v)]) for name, points in curves]
    known = [(name, points) for name, points in known if points]
    if not known:
        return None
    top = _round_up(max(v for _, points in known for _, v in points))
    lines = tuple(_line(i, name, points, top) for i, (name, points) in enumerate(known))
    x = tuple(Tick(_x(i / 5), f"{i / 5:.1f}") for i in range(6))
    y = tuple(Tick(_y(v, top), str(v)) for v in range(0, top + 1, 20 if top > 50 else 10))
    return Chart(lines, x, y)


def _round_up(value: float) -> int:
    """The next multiple of 10, at least 10."""
    return max(10, math.ceil(value / 10) * 10)


def _line(index: int, name: str, points: Sequence[tuple[float, float]], top: int) -> Line:
    threshold, value = max(points, key=lambda point: point[1])
    return Line(
        name,
        f"var(--line-{index % N_COLOURS})",
        _DASHES[(index + index // N_COLOURS) % len(_DASHES)],
        " ".join(f"{_x(t):.1f},{_y(v, top):.1f}" for t, v in points),
        (round(_x(threshold), 1), round(_y(value, top), 1)),
        f"best {value:.1f} at {threshold:.2f}",
    )


def _x(threshold: float) -> float:
    return _LEFT + threshold * (WIDTH - _LEFT - _RIGHT)


def _y(value: float, top: int) -> float:
    return _TOP + (1 - value / top) * (HEIGHT - _TOP - _BOTTOM)


HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT = 320, 180
_HISTOGRAM_LEFT, _HISTOGRAM_RIGHT, _HISTOGRAM_TOP, _HISTOGRAM_BOTTOM = 40, 10, 10, 40
BINS = 20


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin: its rectangle in the picture, and its share of the axis in words."""

    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True, slots=True)
class Bins:
    """A histogram, ready for the template.

    Attributes:
        name: of the method.
        note: count, mean, spread and threshold in words.
        bars: of the bins that are not empty.
        x: ticks of the threshold, 0..1.
        y: ticks of the number of images.
        line: x of the threshold that was measured at; None where there is none.
        left: x of the vertical axis.
        right: x of the right border.
        top: y of the upper border.
        bottom: y of the horizontal axis.
        width: of the view box.
        height: of the view box.
    """

    name: str
    note: str
    bars: tuple[Bar, ...]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    line: float | None
    left: int = _HISTOGRAM_LEFT
    right: int = HISTOGRAM_WIDTH - _HISTOGRAM_RIGHT
    top: int = _HISTOGRAM_TOP
    bottom: int = HISTOGRAM_HEIGHT - _HISTOGRAM_BOTTOM
    width: int = HISTOGRAM_WIDTH
    height: int = HISTOGRAM_HEIGHT


def histogram(name: str, values: Sequence[float], threshold: float | None) -> Bins | None:
    """Lay a histogram out.

    Args:
        name: of the method.
        values: thresholds on hundredths, 0..1.
        threshold: that was measured at.

    Returns:
        The histogram, or None where there is no value.
    """
    if not values:
        return None
    counts = Counter(bin_of(value) for value in values)
    top = max(counts.values())
    at = "" if threshold is None else f"; measured at {threshold:.2f}"
    count = f"{len(values)} image{'s' if len(values) > 1 else ''}"
    note = f"{count}, mean {fmean(values):.2f}, standard deviation {pstdev(values):.2f}{at}"
    bars = tuple(_bar(place, counts[place], top) for place in sorted(counts))
    x = tuple(Tick(_histogram_x(i / 5), f"{i / 5:.1f}") for i in range(6))
    y = tuple(Tick(_histogram_y(count, top), str(count)) for count in sorted({0, top // 2, top}))
    return Bins(name, note, bars, x, y, None if threshold is None else _histogram_x(threshold))


def bin_of(value: float) -> int:
    """The bin of a threshold: twentieths, 1.00 in the last one."""
    return min(round(value * 100) * BINS // 100, BINS - 1)


def _bar(place: int, count: int, top: int) -> Bar:
    left, y = _histogram_x(place / BINS), _histogram_y(count, top)
    last = "1.00" if place == BINS - 1 else f"{(place + 1) / BINS - 0.01:.2f}"
    text = f"{place / BINS:.2f} to {last}: {count}"
    return Bar(
        round(left + 0.75, 2),
        y,
        round(_histogram_x(1 / BINS) - _HISTOGRAM_LEFT - 1.5, 2),
        HISTOGRAM_HEIGHT - _HISTOGRAM_BOTTOM - y,
        text,
    )


def _histogram_x(threshold: float) -> float:
    return round(_HISTOGRAM_LEFT + threshold * (HISTOGRAM_WIDTH - _HISTOGRAM_LEFT - _HISTOGRAM_RIGHT), 2)


def _histogram_y(count: int, top: int) -> float:
    return round(_HISTOGRAM_TOP + (1 - count / top) * (HISTOGRAM_HEIGHT - _HISTOGRAM_TOP - _HISTOGRAM_BOTTOM), 2)
