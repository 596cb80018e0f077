"""Histograms of thresholds: bins, heights, words."""

import pytest

from tag2mask.report.histogram import bin_of, histogram


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
    assert heights == [found.bottom - found.top, pytest.approx(heights[0] / 4), pytest.approx(heights[0] / 4)]
    assert found.note == "6 images, mean 0.29, standard deviation 0.32; measured at 0.30"
    assert found.line == pytest.approx(found.left + 0.3 * (found.right - found.left))
    assert [tick.text for tick in found.y] == ["0", "2", "4"]
    assert found.bars[-1].x + found.bars[-1].width < found.right


def test_without_values_there_is_none_and_without_a_threshold_no_line() -> None:
    assert histogram("cam", [], 0.3) is None
    found = histogram("cam", [0.5], None)
    assert found is not None
    assert found.line is None
    assert found.note == "1 image, mean 0.50, standard deviation 0.00"
