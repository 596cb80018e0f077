"""Marks of several stages on one line for each choice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tag2mask.core.errors import DataError
from tag2mask.report.figure_charts import Dots, draw_dots


def test_choices_are_ordered_by_their_mean_and_every_stage_is_named(tmp_path: Path) -> None:
    series = [
        Dots("cam", (("worse", 5.0), ("best", 0.5), ("middle", 2.0))),
        Dots("lpcam", (("worse", 4.0), ("best", 1.5))),
    ]
    draw_dots(series, "points lost", "Losses", tmp_path / "dots.svg")
    svg = (tmp_path / "dots.svg").read_text()
    assert all(f">{name}<" in svg for name in ("cam", "lpcam"))
    order = [svg.index(f">{name}<") for name in ("worse", "middle", "best")]
    assert order == sorted(order), "the axis goes up: the best is written last, on top"
    assert ">points lost<" in svg
    draw_dots(series, "points lost", "Losses", tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == svg


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a figure needs at least one choice"):
        draw_dots([], "x", "y", tmp_path / "dots.svg")
