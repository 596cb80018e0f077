"""CSV for spreadsheets: names that would be computed are not, and come back as they were."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from tag2mask.core.errors import DataError, StageError
from tag2mask.evaluation.result_tables import csv_text, read_columns, read_csv, write_table
from tests.helpers.refused import refused
from tests.project.source import modules

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
