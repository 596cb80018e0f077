"""Ctrl-C, SIGTERM and a closed terminal end every verb at once, with one line; other exits stay what they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tag2mask.core.locks import exclusive
from tests.helpers.tiny import alive, launch

ROOT = Path(__file__).resolve().parents[2]
RESUMES = "stopped; the same command resumes\n"

STOPPED = "stopped; what was made is kept, the same command resumes\n"


def program(body: str) -> list[str]:
    """The command line with a verb ``try`` of that body."""
    code = "import os, signal, sys, time, typer\nfrom tag2mask.cli.app import app, main\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job has it ignored
    code += f"from tag2mask.core.errors import DataError\n@app.command('try')\ndef verb() -> None:\n    {body}\n"
    code += "sys.argv = ['tag2mask', 'try']\nmain()\n"
    return [sys.executable, "-c", code]


@contextmanager
def started(words: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process that is killed where a test fails."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send a signal; status and error text of what follows."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [(signal.SIGINT, 130, STOPPED), (signal.SIGTERM, 143, RESUMES), (signal.SIGHUP, 129, RESUMES)],
)
def test_a_signal_ends_with_a_line_and_its_own_status(number: signal.Signals, status: int, text: str) -> None:
    with started(program("print('ready', flush=True); time.sleep(600)")) as process:
        assert line(process) == "ready"
        assert end(process, number) == (status, text)


def test_a_verb_that_does_not_resume_does_not_say_so() -> None:
    body = "sys.argv[1] = 'export'; print('ready', flush=True); time.sleep(600)"
    with started(program(body)) as process:
        assert line(process) == "ready"
        status, text = end(process, signal.SIGTERM)
    assert status == 143
    assert text == "stopped; nothing is half-written, the same command begins anew\n"


def test_nohup_outlives_its_terminal() -> None:
    ignoring = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    words = program("\n    while True: print(sys.stdin.readline(), end='', flush=True)")
    words[-1] = ignoring + words[-1]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        for _ in range(2):
            process.stdin.write("here\n")
            process.stdin.flush()
            assert line(process) == "here"
            process.send_signal(signal.SIGHUP)
        process.kill()


def test_a_library_that_holds_the_main_thread_does_not_hold_the_end() -> None:
    body = "import hashlib, signal, threading; threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
    body += "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    done = launch(program(body), timeout=60)
    assert (done.returncode, done.stderr) == (143, RESUMES)


def test_waiting_for_the_lock_of_another_run_ends(tmp_path: Path) -> None:
    body = "from pathlib import Path; from tag2mask.core.locks import exclusive\n"
    body += f"    with exclusive(Path({str(tmp_path / 'lock')!r}), 'it', wait=True): print('never', flush=True)"
    with exclusive(tmp_path / "lock", "it"), started(program(body)) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"it is being made by process {os.getpid()}: waiting for it to end\n"
        assert end(process, signal.SIGTERM) == (143, RESUMES)


HALF_MADE = """
    import subprocess
    from pathlib import Path
    from tag2mask.core.files import atomic_path
    from tag2mask.core.stopping import on_stop
    from tag2mask.export.output import atomic_folder
    from tag2mask.methods.lpcam.vectors import temporary_folder
    from tag2mask.pipeline.worker_pool import in_pool
    from tests.pipeline.pool_work import forever
    out = Path({out!r})
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with on_stop(child.terminate), atomic_path(out / "a" / "file") as file, atomic_folder(out / "export") as folder:
        with temporary_folder(out / "b") as vectors:
            for path in (file, folder / "mask", vectors / "foreground"):
                path.write_text("half")
            print(child.pid, flush=True)
            list(in_pool(forever, ((i, i) for i in range(2)), 1))
"""


@pytest.mark.slow
def test_nothing_half_made_and_no_child_is_left(tmp_path: Path) -> None:
    with started(program(HALF_MADE.format(out=str(tmp_path)))) as process:
        pids = [int(line(process)) for _ in range(2)]
        assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 3
        assert end(process, signal.SIGTERM) == (143, RESUMES)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b"]
    assert ended(pids)


def ended(pids: Sequence[int]) -> bool:
    """Whether processes end within half a minute."""
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(alive(pid) for pid in pids)


def of_trainings(*words: object) -> list[str]:
    """The command line of `tests.training.stopped`."""
    return [sys.executable, "-m", "tests.training.stopped", *map(str, words)]


@pytest.mark.slow
def test_a_training_ends_within_its_step(tmp_path: Path) -> None:
    done = launch(of_trainings("training", tmp_path, 0), cwd=ROOT)
    assert (done.returncode, done.stderr) == (143, RESUMES)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.ckpt"]


@pytest.mark.slow
def test_a_training_of_a_script_ends_as_the_script_would(tmp_path: Path) -> None:
    """Without the command line nothing says what SIGTERM means, so it kills: never status 0."""
    code = "import sys; from pathlib import Path; from tests.training.stopped import train; "
    code += f"train(Path({str(tmp_path)!r}), signalled=0)"
    done = launch([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == -signal.SIGTERM


@pytest.mark.slow
def test_what_a_decoder_is_sent_is_not_for_the_run(tmp_path: Path) -> None:
    """It is a fork, and would have the run's own handler."""
    done = launch(of_trainings("decoding", tmp_path, int(signal.SIGTERM)), cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("error: a process that decodes images for the training was killed")
    assert "engine.workers=0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_decoders_end_with_a_training_that_is_stopped(tmp_path: Path) -> None:
    with started(of_trainings("decoding", tmp_path, 0)) as process:
        pid = int(line(process))
        assert end(process, signal.SIGTERM) == (143, RESUMES)
    assert ended([pid])


@pytest.mark.parametrize(
    ("body", "status", "errors"),
    [
        ("raise KeyboardInterrupt", 130, STOPPED),
        (
            "\n    try: raise KeyboardInterrupt\n    except KeyboardInterrupt: sys.exit(1)",
            130,
            STOPPED,
        ),  # as a library may
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
