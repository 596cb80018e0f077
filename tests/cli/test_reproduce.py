"""``tag2mask reproduce``: what is printed, exit codes, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from tag2mask.cli import reproduce as verb
from tag2mask.evaluation.result_tables import ResultRow, write_results
from tag2mask.experiments import reproduce as module
from tag2mask.experiments.reproduce import Reproduction
from tag2mask.experiments.verdicts import Judged
from tests.helpers.tiny import tag2mask


def judged(line: int, metric: str, made: float | None, verdict: Any, note: str = "") -> Judged:
    difference = None if made is None else made - 50.0
    return Judged(line, "cam", "train", 9, "oracle", metric, 0, 50.0, made, difference, 0.2, verdict, note, "c")


def ended(monkeypatch: pytest.MonkeyPatch, *rows: Judged) -> int:
    monkeypatch.setattr(module, "reproduce", lambda *_, **__: Reproduction(Path("o"), rows, Path("o/reproduce.csv")))
    with pytest.raises(typer.Exit) as exit_:
        verb.command(Path("x.csv"), overrides=None, row=None, out=None, reuse=False, tolerance=0.2)
    return exit_.value.exit_code


def test_numbers_that_agree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = judged(2, "miou", 50.1, "within", "threshold: 0.3 → 0.31"), judged(3, "fp", 50.0, "equal")
    assert ended(monkeypatch, *rows) == 0
    out = capsys.readouterr().out
    assert "50.0000  50.1000" in out
    assert "+0.1000" in out
    assert "threshold: 0.3 → 0.31" in out
    assert "fp" not in out  # no headline, and equal
    assert "2 numbers: 1 within, 1 equal. The table agrees.\n" in out
    assert out.endswith("folder: o\no/reproduce.csv\n")


def test_numbers_that_do_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows = judged(2, "miou", 50.0, "equal"), judged(3, "fp", 60.0, "differs"), judged(4, "fn", None, "missing", "gone")
    assert ended(monkeypatch, *rows) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["3", "4", "2"]  # what does not agree comes first
    assert lines[3].endswith("missing  gone")
    assert "3 numbers: 1 equal, 1 differs, 1 missing. The table does not agree." in lines


def test_mistakes_end_with_their_text(tmp_path: Path) -> None:
    row = ResultRow("cam", "train", 9, "oracle", 0.3, "miou", 50.0, 0, "rm -rf x")
    write_results(tmp_path / "x.csv", [row])
    wrong = tag2mask("reproduce", str(tmp_path / "x.csv"), cwd=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "x.csv: 'rm -rf x' is not run again; only tag2mask run" in wrong.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]
