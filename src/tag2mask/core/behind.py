"""Files written behind the work, in a thread, so that waiting for the disk overlaps computing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

Later = Callable[..., None]
"""Called with a function and its arguments, which is called soon."""


@contextmanager
def behind(most: int = 8) -> Iterator[Later]:
    """A function that calls others in one thread, one after the other, in the order in which they were given.

    All are done at the end, whatever ends the work. An error in one is raised at a later call, or at the end.

    Args:
        most: how many may wait; further ones are waited for.
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
