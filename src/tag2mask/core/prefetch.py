"""Prefetching and background work in threads, so that reading and writing files overlap computing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def prefetch(work: Callable[[Item], Result], items: Iterable[Item], threads: int = 1) -> Generator[Result]:
    """Results of ``work`` in the order of ``items``, computed by threads at most ``2 * threads`` items ahead.

    An error in ``work`` is raised where its result would have come; later items are not begun then.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def prefetch_known(
    work: Callable[[Item], Result | None],
    items: Iterable[Item],
    threads: int = 1,
    advance: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """As `prefetch`, without results that are None; ``advance`` is called after each item, once its result was used."""
    for result in prefetch(work, items, threads):
        if result is not None:
            yield result
        if advance is not None:
            advance()


Later = Callable[..., None]
"""Called with a function and its arguments, which is called soon."""


@contextmanager
def in_background(most: int = 8) -> Iterator[Later]:
    """A function that calls others in one thread, one after the other, in the order in which they were given.

    All are done at the end, whatever ends the work; more than ``most`` never wait. An error in one is raised at a later
    call, or at the end.
    """
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1) as pool:

        def later(work: Callable[..., Any], *arguments: Any) -> None:
            while waiting and (len(waiting) >= most or waiting[0].done()):
                waiting.popleft().result()
            waiting.append(pool.submit(work, *arguments))

        yield later
        while waiting:
            waiting.popleft().result()
