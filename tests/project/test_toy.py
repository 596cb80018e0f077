"""The toy of AMN's Figure 2: its published numbers are those of today's code, and say what the paper says."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.make_toy import COMMAND
from tag2mask.papers.steps.toy_figures import draw, one_peak, rows, two_levels
from tests.helpers.results import read_results
from tests.project.source import ROOT


def test_the_published_numbers_are_computed_by_this_code() -> None:
    stored = {(r.method, r.metric): r for r in read_results(ROOT / "results" / "toy.csv")}
    now = {(r.method, r.metric): r for r in rows(COMMAND)}
    assert stored.keys() == now.keys()
    for key, row in now.items():
        assert stored[key].value == pytest.approx(row.value, abs=2e-4)
        assert (stored[key].threshold, stored[key].command) == (row.threshold, row.command)


def test_two_levels_are_cut_alike_between_them_and_the_peak_nowhere() -> None:
    found = {(r.method, r.metric): r.value for r in rows(COMMAND)}
    assert found["two-levels", "iou/object"] == 100
    assert found["two-levels", "plateau_width"] == pytest.approx(0.89)  # 0.10 to 0.99
    assert (found["two-levels", "spread"], found["two-levels", "gap"]) == pytest.approx((0, 0.9))
    peak = found["one-peak", "miou"]
    assert peak is not None
    assert peak < 60  # at its very best
    assert two_levels().max() == one_peak().max() == 1


def test_the_figure_is_drawn_with_its_text(tmp_path: Path) -> None:
    draw(tmp_path / "toy.svg")
    text = (tmp_path / "toy.svg").read_text(encoding="utf-8")
    for words in ("two-levels: map and object", "one-peak: map and object", "IoU of the object (%)", "threshold 0.25"):
        assert text.count(words) == (2 if "map" not in words else 1)
