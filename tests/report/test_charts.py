"""The chart's geometry: every point inside, larger values higher, lines distinguished without colour."""

import math

import pytest

from tag2mask.report.charts import bin_of, chart, histogram


def points(text: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (p.split(",") for p in text.split())]


def test_points_are_placed_on_the_axes() -> None:
    found = chart([("cam", [(0.0, 0.0), (0.5, 60.0), (1.0, 30.0)])])
    assert found is not None
    (line,) = found.lines
    assert points(line.points)[0] == (found.frame.left, found.frame.bottom)
    assert points(line.points)[1] == ((found.frame.left + found.frame.right) / 2, found.frame.top)
    assert points(line.points)[2] == (found.frame.right, (found.frame.top + found.frame.bottom) / 2)
    assert line.best == points(line.points)[1]
    assert line.note == "best 60.0 at 0.50"
    assert [tick.text for tick in found.frame.x_ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.text for tick in found.y] == ["0", "20", "40", "60"]
    assert (found.y[0].at, found.y[-1].at) == (found.frame.bottom, found.frame.top)


def test_twelve_lines_are_distinguished() -> None:
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
    assert found.frame.top <= found.lines[0].best[1] <= found.frame.bottom


@pytest.mark.parametrize(
    ("value", "place"), [(0.0, 0), (0.04, 0), (0.05, 1), (0.29, 5), (0.35, 7), (0.99, 19), (1.0, 19)]
)
def test_twentieths_and_the_last_one_closed(value: float, place: int) -> None:
    assert bin_of(value) == place


def test_bars_are_as_high_as_their_counts() -> None:
    found = histogram("cam", [0.1, 0.1, 0.12, 0.14, 0.3, 1.0], 0.3)
    assert found is not None
    assert [bar.text for bar in found.bars] == ["0.10 to 0.14: 4", "0.30 to 0.34: 1", "0.95 to 1.00: 1"]
    heights = [bar.height for bar in found.bars]
    assert heights == [
        found.frame.bottom - found.frame.top,
        pytest.approx(heights[0] / 4),
        pytest.approx(heights[0] / 4),
    ]
    assert found.note == "6 images, mean 0.29, standard deviation 0.32; measured at 0.30"
    assert found.line == pytest.approx(found.frame.left + 0.3 * (found.frame.right - found.frame.left))
    assert [tick.text for tick in found.y] == ["0", "2", "4"]
    assert found.bars[-1].x + found.bars[-1].width < found.frame.right


def test_without_values_there_is_none_and_without_a_threshold_no_line() -> None:
    assert histogram("cam", [], 0.3) is None
    found = histogram("cam", [0.5], None)
    assert found is not None
    assert found.line is None
    assert found.note == "1 image, mean 0.50, standard deviation 0.00"
