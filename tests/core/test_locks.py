"""Locks between processes and threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tag2mask.core.errors import StageError
from tag2mask.core.locks import at_work, exclusive, is_leftover
from tests.helpers.refused import refused

LONG = 10**7


@contextmanager
def elsewhere(block: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has entered ``with block`` and stays there."""
    code = "import sys, time\nfrom pathlib import Path\nfrom tag2mask.core.locks import exclusive\n"
    code += "from tag2mask.core.locks import at_work\npath = Path(sys.argv[1])\n"
    code += f"with {block}:\n    print('held', flush=True)\n    time.sleep(600)\n"
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def test_who_holds_a_lock_is_named_until_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(f"\n{LONG}{LONG}\nof a process that has ended")
    with elsewhere("exclusive(path, 'it')", str(path)) as holder:
        for _ in range(2):  # to be refused leaves the holder's words
            with refused(StageError, "it is in use", f"by process {holder.pid};", "wait", "--out"):
                exclusive(path, "it").__enter__()
        holder.kill()
        with exclusive(path, "it", wait=True):
            assert path.read_text().strip("\0\n") == str(os.getpid())
    with exclusive(path, "it"):
        pass


@pytest.mark.parametrize("wait", [False, True])
def test_a_thread_that_holds_a_lock_does_not_wait_for_itself(wait: bool, tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "lock", "it", wait=wait),
        refused(StageError, "it is in use", f"by process {os.getpid()};"),
    ):
        exclusive(tmp_path / "lock", "it", wait=wait).__enter__()


def test_a_thread_waits_for_another(tmp_path: Path) -> None:
    order: list[str] = []

    def other() -> None:
        with exclusive(tmp_path / "lock", "it", wait=True):
            order.append("other")

    thread = threading.Thread(target=other)
    with exclusive(tmp_path / "lock", "it"):
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_a_signal_is_heard_while_waiting(tmp_path: Path) -> None:
    class Heard(Exception):
        """What a handler may raise."""

    def stop(*_: object) -> None:
        raise Heard

    with elsewhere("exclusive(path, 'it')", str(tmp_path / "lock")):
        before = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with pytest.raises(Heard):
                exclusive(tmp_path / "lock", "it", wait=True).__enter__()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_half_written_files_of_others_stay_until_they_are_killed(tmp_path: Path) -> None:
    left = tmp_path / "deep" / ".7-0.tmp"
    left.parent.mkdir()
    left.write_text("half")
    with elsewhere("at_work(path)", str(tmp_path)) as other:
        assert not left.exists()
        left.write_text("half")
        for _ in range(2):
            with at_work(tmp_path):
                assert left.exists()
        present = [p.name for p in tmp_path.glob(".*")]
        assert len(present) == 1
        assert is_leftover(present[0])
        other.kill()
        other.wait()
        with at_work(tmp_path):
            assert not left.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]


def test_who_is_at_work_on_a_disk_without_locks_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError("no locks")

    (tmp_path / ".7-0.tmp").write_text("half")
    monkeypatch.setattr("fcntl.flock", none)
    with at_work(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [".7-0.tmp"]
