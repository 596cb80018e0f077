"""``tag2mask experiment``: the list, one shown, one run, mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tag2mask.cli import experiment as verb
from tag2mask.papers.catalogue import experiments
from tests.helpers.refused import lacking
from tests.helpers.results import read_results
from tests.helpers.tiny import tag2mask


def test_ls_has_every_experiment_and_its_state() -> None:
    done = tag2mask("experiment", "ls")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[2:]}
    assert list(lines) == list(experiments())
    assert lines["L2"].endswith("partly: not yet EDAM, MCTformer")
    assert lines["A4"].endswith("ready")
    assert "AMN, Table 1" in lines["A4"]


def test_show_tells_question_values_sources_settings_and_commands() -> None:
    done = tag2mask("experiment", "show", "A5")
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert text.startswith("A5: where the tags enter (AMN, Table 2; ready)")
    assert "layer 4 miou 62.1 VOC train AMN, Table 2" in text
    assert "layer 3: stage amn-maps of light-amn with amn.condition=[3]" in text
    assert "layer 3: stage amn-maps of voc12-amn with amn.condition=[3]" in text
    assert "tag2mask experiment run A5 data=voc data.root=FOLDER --seeds 3" in text
    swept = " ".join(tag2mask("experiment", "show", "L8").stdout.split())
    assert "sweep prototypes.tau over 0.05, 0.1" in swept
    assert "With AMN as host: tag2mask sweep light-amn amn-prototypes.tau=0.05,0.1" in swept


def test_show_names_the_added_stages_that_its_rows_need_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    verb.show("A10")
    lines = [line.split("=")[0].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  adds ")]
    assert list(dict.fromkeys(lines)) == ["adds segmenter", "adds predictions", "adds predictions-score"]


@pytest.mark.parametrize("name", ["ls", "show", "run"])
def test_help_has_an_example(name: str) -> None:
    assert f"Example: tag2mask experiment {name}" in " ".join(tag2mask("experiment", name, "--help").stdout.split())


def test_run_prints_the_table_and_the_files(tmp_path: Path) -> None:
    done = tag2mask("experiment", "run", "l6", "--out", str(tmp_path / "toy"))
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["tail", "cam_normalised", "0.27", "0.269"] in lines
    assert [str(tmp_path / "toy" / "toy.svg")] in lines
    rows = read_results(tmp_path / "toy" / "results.csv")
    assert {r.command for r in rows} == {f"tag2mask experiment run L6 --out {tmp_path / 'toy'}"}


def test_mistakes_end_with_their_text() -> None:
    wrong = tag2mask("experiment", "run", "L14")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: unknown experiment 'L14'; did you mean 'L4'?")
    wrong = tag2mask("experiment", "run", "L1", "--seeds", "0")
    assert not lacking(wrong.stderr, "error: --seeds 0 … at least 1 … such as --seeds 3")
    assert tag2mask("experiment", "run", "L1", "--size", "tiny").returncode == 2
