"""The page's charts as SVG that follows its style: curves over thresholds, and histograms of best thresholds.

Both are laid out here in the picture's own units and drawn by ``charts.html``; they can be read without colour.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

_DASHES = ("", "7 4", "2 3", "10 3 2 3", "1 4", "14 4")
N_COLOURS = 6
"""Line colours ``--line-0`` to ``--line-5`` of the style sheet; more methods reuse them with other dashes."""
BINS = 20


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: its place in the picture and its text."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class ChartFrame:
    """A picture of ``width`` x ``height`` and the edges of the area between its axes; x is a threshold in 0..1."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int

    def x(self, threshold: float) -> float:
        """Place of a threshold."""
        return round(self.left + threshold * (self.right - self.left), 2)

    def y(self, share: float) -> float:
        """Place of a share of the largest value."""
        return round(self.bottom + share * (self.top - self.bottom), 2)

    @property
    def x_ticks(self) -> tuple[Tick, ...]:
        """0.0, 0.2, ..., 1.0."""
        return tuple(Tick(self.x(i / 5), f"{i / 5:.1f}") for i in range(6))

    def y_ticks(self, values: Sequence[int]) -> tuple[Tick, ...]:
        """Ascending values, the last at the top."""
        return tuple(Tick(self.y(value / values[-1]), str(value)) for value in values)


CURVES = ChartFrame(640, 320, 56, 628, 12, 272)
HISTOGRAM = ChartFrame(320, 180, 40, 310, 10, 140)


@dataclass(frozen=True, slots=True)
class Line:
    """One method's curve: CSS colour, SVG dash pattern (empty: solid), SVG points ``x,y x,y ...``.

    ``best`` is the place of the largest value, ``note`` says it in words.
    """

    name: str
    colour: str
    dash: str
    points: str
    best: tuple[float, float]
    note: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A line for each method that has a curve, and the ticks of mIoU in percent."""

    lines: tuple[Line, ...]
    y: tuple[Tick, ...]
    frame: ChartFrame = CURVES


def chart(curves: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> Chart | None:
    """Lay out the (threshold 0..1, mIoU in percent) points of methods; None where none has a point that is not NaN."""
    known = [(name, [(t, v) for t, v in points if not math.isnan(v)]) for name, points in curves]
    known = [(name, points) for name, points in known if points]
    if not known:
        return None
    top = max(10, math.ceil(max(v for _, points in known for _, v in points) / 10) * 10)
    lines = tuple(_line(i, name, points, top) for i, (name, points) in enumerate(known))
    return Chart(lines, CURVES.y_ticks(range(0, top + 1, 20 if top > 50 else 10)))


def _line(index: int, name: str, points: Sequence[tuple[float, float]], top: int) -> Line:
    threshold, value = max(points, key=lambda point: point[1])
    return Line(
        name,
        f"var(--line-{index % N_COLOURS})",
        _DASHES[(index + index // N_COLOURS) % len(_DASHES)],
        " ".join(f"{CURVES.x(t):.1f},{CURVES.y(v / top):.1f}" for t, v in points),
        (round(CURVES.x(threshold), 1), round(CURVES.y(value / top), 1)),
        f"best {value:.1f} at {threshold:.2f}",
    )


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
    """A histogram of one method; bins that are not empty have a bar."""

    name: str
    note: str  # count, mean, spread and threshold in words
    bars: tuple[Bar, ...]
    y: tuple[Tick, ...]  # ticks of the number of images
    line: float | None  # x of the threshold that was measured at, if any
    frame: ChartFrame = HISTOGRAM


def histogram(name: str, values: Sequence[float], threshold: float | None) -> Bins | None:
    """Lay out the best thresholds of images, on hundredths, and the one measured at; None where there is no value."""
    if not values:
        return None
    counts = Counter(bin_of(value) for value in values)
    top = max(counts.values())
    at = "" if threshold is None else f"; measured at {threshold:.2f}"
    count = f"{len(values)} image{'s' if len(values) > 1 else ''}"
    note = f"{count}, mean {fmean(values):.2f}, standard deviation {pstdev(values):.2f}{at}"
    bars = tuple(_bar(place, counts[place], top) for place in sorted(counts))
    line = None if threshold is None else HISTOGRAM.x(threshold)
    return Bins(name, note, bars, HISTOGRAM.y_ticks(sorted({0, top // 2, top})), line)


def bin_of(value: float) -> int:
    """The bin of a threshold: twentieths, 1.00 in the last one."""
    return min(round(value * 100) * BINS // 100, BINS - 1)


def _bar(place: int, count: int, top: int) -> Bar:
    left, y, width = HISTOGRAM.x(place / BINS), HISTOGRAM.y(count / top), (HISTOGRAM.right - HISTOGRAM.left) / BINS
    last = "1.00" if place == BINS - 1 else f"{(place + 1) / BINS - 0.01:.2f}"
    text = f"{place / BINS:.2f} to {last}: {count}"
    return Bar(round(left + 0.75, 2), y, round(width - 1.5, 2), HISTOGRAM.bottom - y, text)
