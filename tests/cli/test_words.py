"""Words of a command that fit no verb: one message and exit code 2, never a traceback, a hang or another folder."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tag2mask.cli import app as cli
from tag2mask.cli.tables import print_summary
from tag2mask.config.recipe import load_recipe
from tag2mask.core import stopping
from tag2mask.core.progress import progress
from tag2mask.evaluation.result_tables import MetricRow
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.run_result import RunResult

Call = Callable[..., tuple[int, str]]
LONG = "n" * 5000


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in a folder with one odd thing of each sort; gives its exit code and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stopping, "listen", lambda _: None)
    Path("file.txt").write_text("x")
    Path("empty").mkdir()
    os.mkfifo("pipe")
    begun = RunFolder(Path("runs/begun"))
    begun.prepare()
    begun.begin(make_plan(load_recipe("demo", ["data.images=8"])).recipe, threads=1)

    def called(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tag2mask", *words])
        signal.alarm(20)  # a pipe must not be waited for
        try:
            cli.main()
        except SystemExit as left:
            return int(left.code or 0), capsys.readouterr().err
        finally:
            signal.alarm(0)
        return 0, capsys.readouterr().err

    return called


@pytest.mark.parametrize("odd", ["missing", "file.txt", "empty", "pipe", "runs/begun", LONG, "a\0b", "caf\udce9", ""])
def test_odd_names_of_runs_files_and_stages_are_mistakes(call: Call, odd: str) -> None:
    for words in (
        ["report", odd, "-o", "r.html"],
        ["eval", odd],
        ["eval", "runs/begun", "--stage", odd],
        ["export", odd, "--format", "coco", "--out", "made"],
        ["export", "empty", "--format", odd, "--out", "made"],
        ["compare", odd, "runs/begun"],
        ["prototypes", odd],
        ["prototypes", "runs/begun", "drop", odd, odd],
        ["cp", odd, "new.yaml"],
        ["show", odd],
        ["show", "demo", odd],
        ["run", "demo", "--only", odd],
        ["sweep", odd, "cam.scales=[1.0],[0.5]"],
        ["ls", odd],
        ["experiment", "show", odd],
        ["experiment", "run", odd],
        ["analyse", "quality", odd],
        ["analyse", "few-masks", "runs/begun", "--n", odd],
    ):
        code, text = call(*words)
        assert (code, text[:7]) == (2, "error: "), (words, text)
        assert len(text) < 2000, words
        text.encode("utf-8")
    assert not Path("r.html").exists()
    assert not Path("made").exists()
    assert not Path("new.yaml").exists()


def test_an_out_that_cannot_be_written_to(call: Call) -> None:
    for words in (["report", "runs/begun", "-o", "pipe"], ["cp", "demo", "pipe"], ["cp", "demo", f"{LONG}.yaml"]):
        code, text = call(*words)
        assert (code, text[:7]) == (2, "error: "), (words, text)


def test_an_empty_word_is_named_by_its_place(call: Call) -> None:
    assert "word 4 of the command, '', has no value" in call("run", "demo", "--out", "")[1]
    assert "word 3 of the command, '--out=', has no value" in call("run", "demo", "--out=")[1]


def test_no_right_to_a_folder(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "is_file", refused)
    code, text = call("eval", "runs/begun")
    assert (code, text.splitlines()) == (
        2,
        ["error: Permission denied: 'runs/begun/recipe.yaml'; check the name and the rights of what is named"],
    )


def test_a_report_that_was_not_written_is_not_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(RunResult(tmp_path, (), ()))
    print_summary(RunResult(tmp_path, (), (), reported=True))
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("report:"))
    assert "none: neither seeds nor masks were measured" in first
    assert second == f"report:     {tmp_path / 'report.html'}"


def test_a_number_that_seeds_share_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        MetricRow(
            stage=name, method="tags", split="val", n_images=3, metric="map", value=50.0, seed=seed,
            threshold=None, threshold_kind="none", time="",
        )
        for name, seed in (("classifier", 0), ("classifier", 1), ("other@0", 0))
    ]  # fmt: skip
    print_summary(RunResult(tmp_path, tuple(rows), ()))
    lines = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines() if "mean average" in line]
    assert lines == ["classifier", "other@0"]


def test_a_bar_shows_names_and_obeys_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("[bold]a\x1b]0;b", 1) as counter:
        counter.advance(note="[/red]\x07")
    said = capsys.readouterr()
    assert r"[bold]a\x1b]0;b" in said.out + said.err
    assert r"[/red]\x07" in said.out + said.err
