"""The threshold curve as SVG that follows the page: light or dark, and readable without colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
