"""The page of errors is right: what it tells to type is typed in the state that it cures, and cures it."""

from __future__ import annotations

import logging
import shlex
import shutil
from pathlib import Path

import pytest

from tag2mask.cli.app import app
from tag2mask.core.errors import Tag2MaskError
from tag2mask.training import fit
from tests.pipeline.old_store import unpack
from tests.project.cures import CURES, NOT_TRIED, ROWS, Begun, Row, Said, Words
from tests.project.source import ROOT

SLOW = ("is in use by process", "nothing to report", "nothing to sweep", "is not a metric row", "files of stage '…'")
"""Rows of which the test takes longest: runs that write their page, and a sweep that looks at data for each point."""


class Shell:
    """The command line, in this process.

    Args:
        tiny: what ``TINY`` stands for.
        capsys: catches what is printed.
        log: catches what is logged.
    """

    def __init__(self, tiny: Words, capsys: pytest.CaptureFixture[str], log: pytest.LogCaptureFixture) -> None:
        self._tiny, self._capsys, self._log = tiny, capsys, log

    def words(self, command: str) -> Words:
        """The words behind ``tag2mask`` of a command as one types it."""
        return [word for part in shlex.split(command)[1:] for word in (self._tiny if part == "TINY" else [part])]

    def __call__(self, words: Words) -> tuple[int, str]:
        """Exit status of a command, and all that it printed; one that would train ends with 0."""
        self._log.clear()
        last = ""
        try:
            status = int(app(words, standalone_mode=False) or 0)
        except Begun:
            status = 0
        except Tag2MaskError as error:
            status, last = error.exit_code, str(error)
        printed = self._capsys.readouterr()
        return status, "\n".join([printed.out, *(record.getMessage() for record in self._log.records), last])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Words]:
    """A folder with photos and a finished run, and the settings of that run without its data."""
    root = tmp_path_factory.mktemp("finished")
    old = unpack(root)
    words = [word for word in old.words if not word.startswith("data.root=")]
    path = root / "runs" / "old"
    app(["run", str(path / "recipe.yaml"), f"data.root={root / 'photos'}", "--out", str(path)], standalone_mode=False)
    return root, words


@pytest.fixture
def shell(
    finished: tuple[Path, Words],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Shell:
    """A command line in a copy of that folder."""
    root, words = finished
    shutil.copytree(root, tmp_path, symlinks=True, dirs_exist_ok=True)
    recipe = tmp_path / "runs" / "old" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(root), str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO, "tag2mask")
    return Shell(words, capsys, caplog)


def of(words: str) -> list[Row]:
    return [row for row in ROWS if any(words in f"{text}`" for text in row.texts)]


@pytest.mark.parametrize("words", [pytest.param(w, marks=pytest.mark.slow if w in SLOW else ()) for w in CURES])
def test_what_the_page_tells_to_type_cures(words: str, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    cure, (row,) = CURES[words], of(words)
    leave = cure.state(monkeypatch)
    if "run light" in cure.command:  # the finished run is made again in no time
        monkeypatch.setattr(fit, "fit", begun)
    typed = shell.words(cure.command)
    status, output = shell(typed)
    assert row.said_in(output), output[-800:]
    assert status in {1, 2} or "warning" in row.advice.lower()
    if leave is not None:
        leave()
    for command in cure.take(Said(row, typed, output)):
        status, output = shell(command)
    if cure.shows:
        assert [name for name in cure.shows if name not in output] == [], output[-800:]
    else:
        assert status == 0, output[-800:]
        assert not row.said_in(output), output[-800:]


def begun(*args: object, **named: object) -> None:
    raise Begun


def test_every_row_that_tells_what_to_type_is_tried_or_says_why_not() -> None:
    named = [row.name for words in (*CURES, *NOT_TRIED) for row in of(words)]
    assert sorted(named) == sorted(row.name for row in ROWS if row.cures)


def test_rows_that_are_not_tried_name_a_test_of_their_text() -> None:
    assert [reason for reason in NOT_TRIED.values() if not (ROOT / reason.rpartition("; ")[2]).is_file()] == []


def test_a_row_that_only_explains_needs_no_cure() -> None:
    explains = Row(("x",), "`cat` is a class, and `a.png` its photo.")
    types = [Row(("x",), advice) for advice in ("`data.val=null` is it.", "`--tile 512`", "The command in the text.")]
    assert [row.cures for row in (explains, *types)] == [False, True, True, True]


def test_commands_and_settings_are_read_out_of_a_text_as_a_shell_reads_them() -> None:
    text = "no masks: tag2mask run 'my runs/recipe.yaml' --out 'my runs' (the first is x). Set \"data.separator=','\""
    said = Said(ROWS[0], (), text)
    assert said.commands == [["run", "my runs/recipe.yaml", "--out", "my runs"]]
    assert said.settings == [["data.separator=','"]]
    assert Said(ROWS[0], (), "add it: allow_supervision=[tags,x]").settings == [["allow_supervision=[tags,x]"]]
    assert Said(ROWS[0], (), "allow it with --max-pixels 30.").settings == [["--max-pixels", "30"]]
