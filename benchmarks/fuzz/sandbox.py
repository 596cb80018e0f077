"""One attempt in a forked child, with a limit on time and on resident memory."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.errors import Tag2MaskError

SECONDS, MEMORY = 10.0, 2 << 30
_POLL = 0.002
_TEXT = 2_000
FAILURES = ("exception", "signal", "hang", "memory")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of an attempt.

    Attributes:
        outcome: ``accepted``, ``refused`` (a clear error), or one of `FAILURES`.
        detail: text of the error, or where the exception was raised.
    """

    outcome: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether a user would have seen a traceback, a crash or no end."""
        return self.outcome in FAILURES


def attempt(run: Callable[[], object], *, seconds: float = SECONDS, memory: int = MEMORY) -> Verdict:
    """Call ``run`` in a forked child.

    Args:
        run: reads an input.
        seconds: wall seconds until it counts as hanging; the child gets twice of them where the machine is busy.
        memory: bytes that its resident memory may grow by.

    Returns:
        The verdict; POSIX only.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        os.close(reading)
        _child(run, writing)
    os.close(writing)
    try:
        ended = _wait(child, seconds, memory)
    finally:
        with suppress(ProcessLookupError, ChildProcessError):  # it has ended, unless a limit was broken
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as stream:
            said = stream.read().decode(errors="replace")
    if isinstance(ended, str):
        return Verdict(ended)
    if os.WIFSIGNALED(ended):
        return Verdict("signal", signal.Signals(os.WTERMSIG(ended)).name)
    outcome, _, detail = said.partition("\n")
    return Verdict(outcome or "exception", detail or f"exit status {os.WEXITSTATUS(ended)}")


def _child(run: Callable[[], object], writing: int) -> None:
    """Never returns: what the parent's test runner would do at exit is not done here."""
    said = "accepted\n"
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        run()
    except Tag2MaskError as error:
        said = f"refused\n{error}"
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [f for f in where if "tag2mask" in f.filename] or where
        said = f"exception\n{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].name}: {error}"
    with suppress(OSError):
        os.write(writing, said[:_TEXT].encode(errors="replace"))
    os._exit(0)


def _wait(child: int, seconds: float, memory: int) -> int | str:
    """The child's wait status, or the limit that it broke."""
    start, before = time.monotonic(), _resident(child)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if _resident(child) - before > memory:
            return "memory"
        if time.monotonic() - start > seconds and _cpu_seconds(child) > seconds / 2:
            return "hang"
        if time.monotonic() - start > 3 * seconds:  # it waits for something, or the machine does other work
            return "hang"
        time.sleep(_POLL)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
