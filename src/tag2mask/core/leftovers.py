"""What killed processes leave half-written in a folder, and when it may be removed."""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from tag2mask.core.files import is_temporary
from tag2mask.core.locks import file_lock
from tag2mask.core.stopping import on_stop

LOG = logging.getLogger("tag2mask")
_PRESENCE = re.compile(r"\.[0-9a-f]{16}\.work")


@contextmanager
def at_work(folder: Path, below: bool = True) -> Iterator[None]:
    """Be at work in a folder, first removing what killed processes left half-written, unless others are at work there.

    Each process has a file of its own in the folder meanwhile, and holds the lock on it, which ends with the process
    however it ends; where no other such file is locked, nobody else is writing.

    Args:
        folder: is there.
        below: also what is in the folders below it; links are not followed.
    """
    presence = folder / f".{secrets.token_hex(8)}.work"  # not the process's number: on a shared disk it may come twice
    lock = file_lock(presence)
    with ExitStack() as stack:
        stack.enter_context(on_stop(lambda: presence.unlink(missing_ok=True)))
        stack.callback(lock.release)
        stack.callback(_discard, presence)
        try:
            lock.acquire()
            # In this order: whoever writes one of these files was at work before, and still is or has finished.
            found = list(_half_written(folder, below))
            if not _others_at_work(folder, presence):
                for path in found:
                    _discard(path)
        except OSError:  # the folder may not be read or written, or its disk has no locks
            LOG.debug("%s: what was left half-written there stays", folder)
        yield


def is_leftover(name: str) -> bool:
    """Whether a file name is one that is there only while a process of ours is at work, or was killed."""
    return is_temporary(name) or _PRESENCE.fullmatch(name) is not None


def _half_written(folder: Path, below: bool) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if is_temporary(name))
        if not below:
            folders.clear()


def _others_at_work(folder: Path, own: Path) -> bool:
    """Whether another process is at work; the files of those that were killed are removed."""
    others = [p for p in folder.iterdir() if _PRESENCE.fullmatch(p.name) and p.name != own.name]
    held = [_is_held(path) for path in others]  # all of them: each that is of a killed process goes
    return any(held)


def _is_held(presence: Path) -> bool:
    lock = file_lock(presence)
    try:
        with lock.acquire(blocking=False):
            _discard(presence)  # under its lock: who is just beginning sees that it is gone, and makes it again
        return False
    except Timeout:
        return True


def _discard(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
