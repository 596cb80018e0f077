"""A pool of processes with one thread each, for work on images that one thread does best."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from types import ModuleType
from typing import TypeVar

from tag2mask.config.engine import Engine
from tag2mask.core.errors import StageError
from tag2mask.core.processes.ranks import world_size
from tag2mask.core.resources import note_workers, usable_cores

Tag = TypeVar("Tag")
Argument = TypeVar("Argument")
Result = TypeVar("Result")


def workers(engine: Engine) -> int:
    """Processes that a pool of this process may have: ``engine.threads``, else its share of the usable cores."""
    if engine.threads is not None:
        return engine.threads
    return max(1, len(usable_cores()) // world_size())


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread, as in a worker: sums are then added in the same order, here and there."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_pool(
    function: Callable[[Argument], Result], items: Iterable[tuple[Tag, Argument]], n_workers: int
) -> Iterator[tuple[Tag, Result]]:
    """Results of ``function`` in the order of ``items``, computed by worker processes.

    Args:
        function: pickles, as its arguments and results do; what it raises is raised where its result would have come.
        items: what a result belongs to, and the argument; taken a few at a time.
        n_workers: number of processes.
    """
    # Spawned, not forked: a fork of a process whose torch has used threads can hang.
    pool = ProcessPoolExecutor(n_workers, get_context("spawn"), _begin)
    waiting: deque[tuple[Tag, Future[Result]]] = deque()
    try:
        for tag, argument in items:
            with _without_main():
                waiting.append((tag, pool.submit(function, argument)))
            if len(waiting) > 2 * n_workers:
                yield _first(waiting)
        while waiting:
            yield _first(waiting)
    except BrokenProcessPool as error:
        raise StageError(
            "a worker process was killed, perhaps for want of memory. What was made so far is kept; run the same "
            "command again, with fewer workers: engine.threads=1 computes in one process"
        ) from error
    finally:
        note_workers()
        pool.shutdown(cancel_futures=True)


def _first(waiting: deque[tuple[Tag, Future[Result]]]) -> tuple[Tag, Result]:
    tag, future = waiting.popleft()
    return tag, future.result()


def _begin() -> None:
    """Set up a worker: one thread, Ctrl-C is the parent's to answer, and it ends when the parent was killed."""
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # this runs in a worker
    parent.join()
    os._exit(1)


_MAIN = threading.Lock()
"""Held while ``__main__`` is replaced, so that runs in two threads put back the right one."""


@contextmanager
def _without_main() -> Iterator[None]:
    """Start workers without the user's script: they would run it again, up to its own call of ``tag2mask.run``.

    A spawned process always imports what ``sys.modules`` calls ``__main__``; there is no setting for it.
    """
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main
