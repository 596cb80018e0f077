"""The chart's geometry: every point inside, larger values higher, lines told apart without colour."""

import math

import pytest

from tag2mask.report.curves import chart


def points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (p.split(",") for p in text.split())]


def test_points_are_placed_on_the_axes() -> None:
    found = chart([("cam", [(0.0, 0.0), (0.5, 60.0), (1.0, 30.0)])])
    assert found is not None
    (line,) = found.lines
    assert points(line.points)[0] == (found.left, found.bottom)
    assert points(line.points)[1] == ((found.left + found.right) / 2, found.top)
    assert points(line.points)[2] == (found.right, (found.top + found.bottom) / 2)
    assert line.best == points(line.points)[1]
    assert line.note == "best 60.0 at 0.50"
    assert [tick.text for tick in found.x] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.text for tick in found.y] == ["0", "20", "40", "60"]
    assert (found.y[0].at, found.y[-1].at) == (found.bottom, found.top)


def test_twelve_lines_are_told_apart() -> None:
    found = chart([(str(i), [(0.1, 5.0), (0.2, i)]) for i in range(12)])
    assert found is not None
    assert len({(line.colour, line.dash) for line in found.lines}) == 12
    assert len({line.dash for line in found.lines[:6]}) == 6


def test_undefined_points_are_left_out() -> None:
    found = chart([("a", [(0.1, math.nan), (0.2, 7.0)]), ("b", []), ("c", [(0.3, math.nan)])])
    assert found is not None
    assert [line.name for line in found.lines] == ["a"]
    assert len(points(found.lines[0].points)) == 1
    assert chart([("a", []), ("b", [(0.1, math.nan)])]) is None


@pytest.mark.parametrize(("value", "top"), [(0.0, "10"), (9.9, "10"), (50.0, "50"), (50.1, "60"), (100.0, "100")])
def test_the_axis_ends_above_the_largest_value(value: float, top: str) -> None:
    found = chart([("a", [(0.5, value)])])
    assert found is not None
    assert found.y[-1].text == top
    assert found.top <= found.lines[0].best[1] <= found.bottom
