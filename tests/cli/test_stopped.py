"""Ctrl-C ends every verb with one line and status 130; other exits stay what they are."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.helpers.tiny import launch

STOPPED = "stopped; what was made is kept, the same command goes on from here\n"


def program(body: str) -> list[str]:
    """The command line with a verb ``try`` of that body."""
    code = "import sys, time, typer\nfrom tag2mask.cli.app import app, main\n"
    code += f"from tag2mask.core.errors import DataError\n@app.command('try')\ndef verb() -> None:\n    {body}\n"
    code += "sys.argv = ['tag2mask', 'try']\nmain()\n"
    return [sys.executable, "-c", code]


def test_a_signal_of_the_terminal_ends_with_a_line() -> None:
    words = program("print('ready', flush=True); time.sleep(60)")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, STOPPED)


@pytest.mark.parametrize(
    ("body", "status", "errors"),
    [
        ("raise KeyboardInterrupt", 130, STOPPED),
        ("\n    try: raise KeyboardInterrupt\n    except KeyboardInterrupt: sys.exit(1)", 130, STOPPED),  # as Lightning
        ("raise DataError('no mask')", 2, "error: no mask\n"),
        ("raise typer.Exit(3)", 3, ""),
        ("raise typer.Exit(1)", 1, ""),
        ("sys.exit(5)", 5, ""),
        ("pass", 0, ""),
    ],
)
def test_status_and_words_of_an_end(body: str, status: int, errors: str) -> None:
    done = launch(program(body))
    assert (done.returncode, done.stderr) == (status, errors)


def test_words_that_no_verb_knows_are_a_mistake_in_usage() -> None:
    for words, text in ((["ls", "--nothing"], "No such option: --nothing"), (["nothing"], "No such command 'nothing'")):
        done = launch([sys.executable, "-m", "tag2mask", *words])
        assert done.returncode == 2
        assert done.stderr.startswith("Usage: ")
        assert text in done.stderr
        assert "stopped" not in done.stderr
