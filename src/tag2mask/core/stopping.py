"""Stopping on a signal (Ctrl-C, SIGTERM, a closed terminal): the process leaves at once, with a line and a status.

Nothing waits then: not for other processes, which may never answer, nor for threads and workers. What a kill at any
moment leaves is good to resume from, so all that is done before is to remove what is half-made, and to end children.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from types import FrameType

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that stop a process; one that was ignored when it began (``nohup``) stays ignored."""
_GRACE = 1.0
"""Seconds for the main thread to leave by itself; it cannot while a library holds it, as waiting for a process does."""
_NUMBERS = itertools.count()
_TIDY: dict[int, Callable[[], object]] = {}
_LEAVING: list[int] = []
"""The threads that were to leave; the first one does."""


@contextmanager
def on_stop(tidy: Callable[[], object]) -> Iterator[None]:
    """Have ``tidy`` called where a signal stops the process within the block. It must not wait for anything."""
    number = next(_NUMBERS)
    _TIDY[number] = tidy
    try:
        yield
    finally:
        _TIDY.pop(number, None)


def listen(words: Callable[[int], str]) -> None:
    """From now on leave at once on a signal, with the line of ``words``; nothing changes but in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return

    def handle(number: int, frame: FrameType | None) -> None:
        _leave(number, words)

    def watch() -> None:
        number = next(n for n in iter(lambda: reader.recv(1)[0], None) if n in STOPS)
        time.sleep(_GRACE)
        _leave(number, words)
        time.sleep(5 * _GRACE)  # the main thread is leaving, but the disk or who reads its output does not answer
        os._exit(128 + number)

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)
    # Multiprocessing has a process that removes semaphores after this one; that it had to is nothing to report.
    quiet = [os.environ.get("PYTHONWARNINGS", ""), "ignore:resource_tracker:UserWarning"]
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, quiet))
    threading.Thread(target=watch, name="watch for signals", daemon=True).start()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def _leave(number: int, words: Callable[[int], str]) -> None:
    """Leave because of a signal."""
    leave(128 + number, words(number))


def leave(status: int, text: str) -> None:
    """Tidy up, say so, end with a status, from any thread; nothing where another thread is doing so."""
    _LEAVING.append(threading.get_ident())  # atomic, unlike a lock safe in a handler within a handler
    if len(_LEAVING) > 1:
        return
    for tidy in reversed(list(_TIDY.values())):
        with suppress(Exception):
            tidy()
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(OSError):  # the terminal is gone
        os.write(2, text.encode())
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own would call the end of a worker an error
    for child in active_children():
        child.kill()
    os._exit(status)


def _forget() -> None:
    """A forked child (a worker that decodes images) is its parent's to stop; nothing half-made is its own."""
    _TIDY.clear()
    signal.set_wakeup_fd(-1)
    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
