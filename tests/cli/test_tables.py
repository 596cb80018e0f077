"""The terminal's table of seeds and masks: what stands beside mIoU, and what is said below."""

from __future__ import annotations

import pytest

from tag2mask.cli.tables import print_refined, print_seeds
from tag2mask.evaluation.result_tables import MetricRow


def row(stage: str, metric: str, value: float | None, kind: str = "fixed", at: float | None = 0.3) -> MetricRow:
    threshold = None if kind == "none" else at
    return MetricRow(stage, stage, "train", 9, metric, value, threshold, kind, 0, "2026-01-01T00:00:00Z")


ROWS = [
    row("cam", "miou", 41.2), row("cam", "miou_foreground", 12.3), row("cam", "f1_foreground", 21.9),
    row("cam", "fp", 50.0), row("cam", "precision", 33.3),
    row("all background", "miou", 49.4, "none"), row("all background", "miou_foreground", 0.0, "none"),
    row("all background", "f1_foreground", 0.0, "none"),
]  # fmt: skip


def test_the_classes_means_stand_beside_and_trivial_answers_below(capsys: pytest.CaptureFixture[str]) -> None:
    print_seeds(ROWS)
    header, _, cam, trivial, legend = capsys.readouterr().out.splitlines()
    assert header.split() == [
        "stage", "split", "images", "threshold", "at", "miou", "fg", "f1", "fp", "fn", "precision", "recall",
    ]  # fmt: skip
    assert cam.split()[5:] == ["41.2", "12.3", "21.9", "50.0", "-", "33.3", "-"]
    assert trivial.split() == ["all", "background", "train", "9", "none", "-", "49.4", "0.0", "0.0", *["-"] * 4]
    assert legend.startswith("fg, f1: miou_foreground and f1_foreground")


def test_thin_classes_have_a_column_and_rows_of_older_runs_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    print_seeds([*ROWS, row("cam", "iou@2px", 44.4), row("old", "miou", 40.0)])
    header, _, cam, _, old, _ = capsys.readouterr().out.splitlines()
    assert header.split()[8] == "iou@2px"
    assert cam.split()[8] == "44.4"
    assert old.split()[5:9] == ["40.0", "-", "-", "-"]


def test_data_without_background_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    none = [row("cam", "miou", 80.0), row("all background", "miou", 0.0, "none")]
    print_seeds(none)
    assert "no ground truth shows background" in capsys.readouterr().out
    print_seeds(ROWS)
    assert "no ground truth shows background" not in capsys.readouterr().out


def test_refined_seeds_have_the_classes_means_too(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"coverage": 60.0, "precision_sure": 99.0, "miou_sure": None, "miou_foreground_sure": 5.0}
    print_refined([row("refined", metric, value, "none") for metric, value in values.items()])
    _, header, _, line = capsys.readouterr().out.splitlines()
    assert header.split()[-5:] == ["coverage", "precision_sure", "miou_sure", "fg_sure", "f1_sure"]
    assert line.split()[-5:] == ["60.0", "99.0", "-", "5.0", "-"]
