"""What killed processes leave half-written in a folder, and when it may be removed."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tag2mask.core.files import is_temporary

LOG = logging.getLogger("tag2mask")


@contextmanager
def at_work(folder: Path, below: bool = True) -> Iterator[None]:
    """Be at work in a folder, first removing what killed processes left half-written, unless others are at work there.

    Each process holds a lock on the folder itself, shared, which ends with it however it ends; who can have it alone
    for a moment knows that nobody else is writing.

    Args:
        folder: is there.
        below: also what is in the folders below it; links are not followed.
    """
    with ExitStack() as stack:
        try:
            held = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, held)
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder, below)
            fcntl.flock(held, fcntl.LOCK_SH)
        except BlockingIOError:  # others are at work
            fcntl.flock(held, fcntl.LOCK_SH)
        except OSError:  # the folder may not be read, or its file system has no locks
            LOG.debug("%s: what was left half-written there stays", folder)
        yield


def _remove(folder: Path, below: bool) -> None:
    for parent, folders, names in os.walk(folder):
        for name in filter(is_temporary, names):
            with suppress(OSError):
                Path(parent, name).unlink()
        if not below:
            folders.clear()
