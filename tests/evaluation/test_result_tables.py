"""Rows on disk and CSV: every field back as it was, columns as agreed, no formula, errors that name the line."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError, DataError, StageError
from tag2mask.evaluation.metrics import SegmentationScores
from tag2mask.evaluation.result_tables import (
    MetricRow,
    Origin,
    ResultRow,
    csv_text,
    read_columns,
    read_csv,
    read_metrics,
    score_rows,
    write_metrics,
    write_results,
    write_table,
)
from tag2mask.evaluation.thresholds import Threshold
from tests.helpers.refused import refused
from tests.helpers.results import read_results
from tests.project.source import modules

TIME = "2026-01-02T03:04:05Z"
ROW = MetricRow("lpcam@1", "lpcam", "träin", 900, "iou/dining, table", 58.8731, 0.5, "oracle", 1, TIME)
ROWS = [
    ROW,
    replace(ROW, value=None, threshold=0.25, threshold_kind="few-masks(10)"),
    replace(ROW, threshold=None, threshold_kind="none", value=100.0),
]


def _line(**changed: object) -> str:
    return json.dumps({**asdict(ROW), **changed})


def test_metrics_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, ROWS)
    assert read_metrics(path) == ROWS
    lines = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {
        "stage": "lpcam@1", "method": "lpcam", "split": "träin", "n_images": 900, "metric": "iou/dining, table",
        "value": 58.8731, "threshold": 0.5, "threshold_kind": "oracle", "seed": 1, "time": TIME,
    }  # fmt: skip
    assert json.loads(lines[1])["value"] is None
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_results_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "seeds.csv"
    results = [row.result("tag2mask run own-data data.classes=[cat,cow]") for row in ROWS]
    write_results(path, results)
    assert read_results(path) == results
    text = path.read_text(encoding="utf-8").splitlines()
    assert text[0] == "method,split,n_images,threshold_kind,threshold,metric,value,seed,command"
    assert text[1] == (
        'lpcam,träin,900,oracle,0.5,"iou/dining, table",58.8731,1,"tag2mask run own-data data.classes=[cat,cow]"'
    )
    assert text[3].startswith("lpcam,träin,900,none,,")


def test_scores_become_rows() -> None:
    scores = SegmentationScores.from_matrix(np.array([[5, 0], [0, 0]]), ["cat"])
    rows = score_rows(scores, Threshold(0.3), stage="cam", method="cam", split="val", n_images=1, seed=0, time="t")
    values = {row.metric: row.value for row in rows}
    assert values["iou/background"] == 100.0
    assert values["miou"] is None
    assert values["recall"] is None
    assert len(rows) == len(scores.values())
    assert {(r.threshold, r.threshold_kind, r.n_images) for r in rows} == {(0.3, "fixed", 1)}


def test_numbers_of_an_analysis_are_rounded_and_nan_is_empty() -> None:
    at = Threshold(0.25, "few-masks", 10)
    first, second = Origin("cam", 1, "x").rows([("miou", 58.87316), ("gap", math.nan)], at, "val", 3)
    assert first == ResultRow("cam", "val", 3, "few-masks(10)", 0.25, "miou", 58.8732, 1, "x")
    assert second == replace(first, metric="gap", value=None)


def test_a_row_cannot_hold_a_threshold_of_no_kind() -> None:
    with pytest.raises(ConfigError, match="unknown kind of threshold 'best'"):
        replace(ROW, threshold_kind="best")


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_metrics(tmp_path / "m.jsonl", [replace(ROW, value=math.nan)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "line",
    ['{"stage": "cam"}', "{", "[1]", '{"colour": 1}', "[" * 5000, _line(value="x"), _line(seed=None), _line(split=[1])],
)
def test_a_damaged_line_of_metrics_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, [ROW])
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with refused(StageError, "line 2", "metrics.jsonl", "not a metric row", "Remove it", "the tag2mask run"):
        read_metrics(path)


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="cannot read .*absent.jsonl"):
        read_metrics(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="cannot read .*absent.csv"):
        read_csv(tmp_path / "absent.csv")


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-x", "-"]
PLAIN = ["cat", "it's", "'quoted'", "", "a=b", "-3.5", "+0.25", "1e-3", "'", "a\nb", 'say "x", y', "猫"]


def test_a_formula_gets_an_apostrophe_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(csv_text([FORMULAS, PLAIN]), encoding="utf-8", newline="")
    seen = list(csv.reader(io.StringIO(path.read_bytes().decode())))  # as a spreadsheet has it
    assert seen[0] == [f"'{cell}" for cell in FORMULAS]
    assert seen[1] == PLAIN
    assert read_csv(path) == [FORMULAS, PLAIN]


def test_numbers_stay_numbers() -> None:
    assert csv_text([[-3, -0.5, None, True]]) == "-3,-0.5,,True\n"


@dataclass(frozen=True)
class _Line:
    image: str
    value: float


def test_tables_of_results_are_written_so(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", _Line, [_Line('=HYPERLINK("http://x")', -1.5)])
    text = (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert text == 'image,value\n"\'=HYPERLINK(""http://x"")",-1.5\n'
    assert read_columns(tmp_path / "a.csv", ("value", "image"), numbers=("value",)) == [
        (-1.5, '=HYPERLINK("http://x")')
    ]


@pytest.mark.parametrize(
    "content", [b"", b"image\n", b"image,miou\na,x\n", b"image,miou\na\n", b"\xff", b'image,miou\n"a']
)
def test_a_damaged_table_of_a_stage_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "images.csv").write_bytes(content)
    with refused(StageError, "images.csv is damaged", "Remove it", "run again"):
        read_columns(tmp_path / "images.csv", ("image", "miou"), numbers=("miou",))


def test_a_csv_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*absent\.csv"):
        read_csv(tmp_path / "absent.csv")


def test_csv_is_written_in_one_place() -> None:
    writers = [m.name for m in modules() if "csv.writer" in m.path.read_text(encoding="utf-8")]
    assert writers == ["tag2mask.evaluation.result_tables"]
