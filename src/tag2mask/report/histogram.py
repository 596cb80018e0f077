"""Histograms of the best thresholds of images as SVG that follows the page: light, dark or printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from tag2mask.report.curves import Tick

WIDTH, HEIGHT = 320, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 10, 40
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
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


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
    x = tuple(Tick(_x(i / 5), f"{i / 5:.1f}") for i in range(6))
    y = tuple(Tick(_y(count, top), str(count)) for count in sorted({0, top // 2, top}))
    return Bins(name, note, bars, x, y, None if threshold is None else _x(threshold))


def bin_of(value: float) -> int:
    """The bin of a threshold: twentieths, 1.00 in the last one."""
    return min(round(value * 100) * BINS // 100, BINS - 1)


def _bar(place: int, count: int, top: int) -> Bar:
    left, y = _x(place / BINS), _y(count, top)
    last = "1.00" if place == BINS - 1 else f"{(place + 1) / BINS - 0.01:.2f}"
    text = f"{place / BINS:.2f} to {last}: {count}"
    return Bar(round(left + 0.75, 2), y, round(_x(1 / BINS) - _LEFT - 1.5, 2), HEIGHT - _BOTTOM - y, text)


def _x(threshold: float) -> float:
    return round(_LEFT + threshold * (WIDTH - _LEFT - _RIGHT), 2)


def _y(count: int, top: int) -> float:
    return round(_TOP + (1 - count / top) * (HEIGHT - _TOP - _BOTTOM), 2)
