"""``tag2mask report`` as a user meets it: one line with the file and its size, one line for a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from tag2mask.pipeline.run_result import RunResult
from tests.helpers.tiny import tag2mask, tiny_run
from tests.report.pages import Page, check_alone_and_accessible


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return tiny_run(tmp_path_factory.mktemp("report"))


def test_a_report_of_a_trained_run_with_its_prototypes(done: RunResult, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    made = tag2mask("report", str(done.path), "-o", str(out), "--each", "1", "--random", "0")
    assert made.returncode == 0, made.stderr
    assert made.stdout == f"report: {out} ({max(1, round(out.stat().st_size / 1e6))} MB)\n"
    page = Page(out.read_text(encoding="utf-8"))
    check_alone_and_accessible(page)
    assert len(page.all("article")) == 3
    assert "Prototypes" in page.text("h2")
    assert page.all("div", class_="card")
    assert page.text("option") == ["cam", "lpcam-f", "lpcam"]


def test_mistakes_are_one_line(done: RunResult, tmp_path: Path) -> None:
    missing = tag2mask("report", str(tmp_path / "nowhere"), "-o", str(tmp_path / "x.html"))
    assert missing.returncode == 2
    assert missing.stderr.startswith(f"error: {tmp_path / 'nowhere'} is not a run (it has no recipe.yaml).")
    wrong = tag2mask("report", str(done.path), "-o", str(tmp_path / "x.html"), "--image", "nobody")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: --image 'nobody': the run has no such image")
    assert not (tmp_path / "x.html").exists()
