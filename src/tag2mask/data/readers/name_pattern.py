"""Matches file names against a user's regular expression in a process of its own, with a time limit."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import IO

from tag2mask.core.errors import DataError
from tag2mask.core.stopping import on_stop

LIMIT = 5.0
"""Seconds that a pattern may take for one name. A sound one takes microseconds; one that tries every way to part a name
doubles its time with every letter."""
_START = 60.0
"""Seconds that starting Python may take on a busy machine."""
_CHILD = """
import json, re, sys
pattern, names = json.load(sys.stdin)
pattern = re.compile(pattern)
print("ready", flush=True)
for name in names:
    match = pattern.fullmatch(name)
    print(json.dumps(None if match is None else match["tags"] or ""), flush=True)
"""


@lru_cache(maxsize=4)
def tags_in_names(pattern: str, names: tuple[str, ...]) -> tuple[str | None, ...]:
    """What the group ``tags`` of a pattern holds in each file name without ending: empty where it matches nothing.

    None for a name that does not match. Python's own matching cannot be interrupted by a thread, so a process of its
    own does it and is ended where a name takes longer than `LIMIT`.
    """
    words = [sys.executable, "-I", "-S", "-c", _CHILD]
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child,
        on_stop(child.kill),  # or it could match for ever after this process
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        reader = threading.Thread(target=_read, args=(child.stdout, lines), daemon=True)
        reader.start()
        try:
            with contextlib.suppress(OSError), child.stdin as stdin:  # where the child is gone, its silence is named
                json.dump([pattern, names], stdin)
            return _results(lines, pattern, names)
        finally:
            child.kill()
            reader.join()


def _results(lines: queue.SimpleQueue[str], pattern: str, names: Sequence[str]) -> tuple[str | None, ...]:
    found: list[str | None] = []
    for name in [None, *names]:
        try:
            line = lines.get(timeout=_START if name is None else LIMIT)
        except queue.Empty:
            raise DataError(
                f"data.pattern = {pattern}: no end after {LIMIT:g} s with the file name '{name}'. Repetitions inside "
                "repetitions, such as (a+)+, try every way to part a name: write them so that only one fits, or give "
                "the tags in a tags.csv"
            ) from None
        if not line:
            raise DataError(f"data.pattern = {pattern}: the process that matches names ended at '{name}'; run again")
        if name is not None:
            found.append(json.loads(line))
    return tuple(found)


def _read(stream: IO[str], lines: queue.SimpleQueue[str]) -> None:
    """Pass lines on as they come, and an empty one at the end."""
    for line in stream:
        lines.put(line)
    lines.put("")
