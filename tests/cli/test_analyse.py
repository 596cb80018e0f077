"""``tag2mask analyse`` on a tiny run: what is printed, what is written, mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tag2mask.cli import analyse
from tag2mask.evaluation.rows import read_results
from tag2mask.pipeline.api import RunResult
from tests.helpers.tiny import tag2mask, tiny_run

VERBS = [str(command.name) for command in analyse.app.registered_commands if command.name != "absent-classes"]
"""The analyses of any maps; that of absent classes is of AMN's alone."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return tiny_run(tmp_path_factory.mktemp("analyse"))


def test_every_analysis_of_the_design_is_there_with_an_example() -> None:
    assert [*VERBS, "absent-classes"] == ["optimum-threshold", "threshold-curve", "imbalance", "absent-classes"]
    shown = tag2mask("analyse", "--help")
    assert shown.returncode == 0
    assert "Example: tag2mask analyse" in " ".join(shown.stdout.split())
    for verb in [*VERBS, "absent-classes"]:
        assert verb in shown.stdout
        assert f"Example: tag2mask analyse {verb}" in " ".join(tag2mask("analyse", verb, "--help").stdout.split())


@pytest.mark.parametrize("verb", VERBS)
def test_an_analysis_prints_its_numbers_and_its_files(run: RunResult, tmp_path: Path, verb: str) -> None:
    words = ["--stage", "cam", "--stage", "lpcam", "--split", "train", "--out", str(tmp_path / "out")]
    done = tag2mask("analyse", verb, str(run.path), *words)
    assert done.returncode == 0, done.stderr
    table, files = done.stdout.strip().split("\n\n")
    header, _, *lines = (line.split() for line in table.splitlines())
    assert header[:6] == ["stage", "split", "images", "seed", "threshold", "at"]
    assert [line[:4] for line in lines] == [["cam", "train", "8", "0"], ["lpcam", "train", "8", "0"]]
    kind = "none" if verb == "imbalance" else "oracle"
    assert {line[4] for line in lines} == {kind}
    assert all(Path(path).is_file() for path in files.splitlines())
    assert Path(files.splitlines()[0]) == tmp_path / "out" / f"{verb}.csv"
    rows = {(row.method, row.metric): row for row in read_results(tmp_path / "out" / f"{verb}.csv")}
    for line in lines:
        for metric, shown in zip(header[6:], line[6:], strict=True):
            value = rows[line[0], metric].value
            assert value is not None
            assert float(shown) == pytest.approx(value, rel=6e-3, abs=0.05 if abs(value) >= 1 else 1e-3)


def test_mistakes_end_with_their_text(run: RunResult) -> None:
    wrong = tag2mask("analyse", "imbalance", str(run.path), "--stage", "cum")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: unknown stage of maps 'cum'; did you mean 'cam'? Known: cam, lpcam, lpcam-f\n"
    wrong = tag2mask("analyse", "threshold-curve", str(run.path), "--stage", "cam-seeds")
    assert "error: stage 'cam-seeds' makes metrics, but maps are needed. Stages of maps: cam, lpcam" in wrong.stderr
    wrong = tag2mask("analyse", "optimum-threshold", str(run.path), "--split", "val")
    assert "stage 'cam' has no maps of image" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    wrong = tag2mask("analyse", "absent-classes", str(run.path))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "has no stage of kind amn-maps; use one that has: tag2mask run own-data-amn" in wrong.stderr
