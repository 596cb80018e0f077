"""Locks between processes, which end with the process that holds them, however it ends; on Linux, macOS and Windows."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from tag2mask.core.errors import StageError
from tag2mask.core.files import cannot_write

LOG = logging.getLogger("tag2mask")
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
"""What systems say of a disk that has no locks."""
_HOLDER = 1
"""Byte of a lock file where the holder's process id begins: Windows lets nobody else read the byte that is locked."""


def file_lock(path: Path) -> BaseFileLock:
    """The system's lock on a file, not held yet; the file stays behind on Linux and macOS, and means nothing.

    Acquiring raises OSError for a disk without locks: a file whose mere presence locks would outlive its process.
    Whoever waits looks again and again, so a signal is heard meanwhile.
    """
    return FileLock(path, thread_local=False, fallback_to_soft=False)


@contextmanager
def exclusive(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Args:
        path: lock file; stays behind, empty of meaning.
        what: named in the error.
        wait: wait for the other process, or another thread of this one, saying so, instead of refusing.

    Raises:
        StageError: another process holds it and ``wait`` is false, this very thread holds it, or the file cannot be
            made or locked.
    """
    lock = file_lock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path, what, wait)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise cannot_write(path, error) from error
        raise StageError(
            f"cannot lock {path}: {error.strerror or error}. A run needs a disk that can lock files: choose a "
            "folder on another disk with --out"
        ) from error
    try:
        _sign(lock, path)
        yield
    finally:
        lock.release()


def _acquire(lock: BaseFileLock, path: Path, what: str, wait: bool) -> None:
    try:
        lock.acquire(blocking=False)
        return
    except Timeout:
        other = _holder(lock, path)
    if wait:
        LOG.info("%s is being made by process %s: waiting for it to end", what, other)
        with suppress(RuntimeError):  # it is held further up in this thread, which would wait for ever
            lock.acquire()
            return
    raise StageError(f"{what} is in use by process {other}; wait for it to end, or choose another folder with --out")


def _sign(lock: BaseFileLock, path: Path) -> None:
    """Say in a lock file whose it is; a lock by presence, where a system has no other, says so itself."""
    if isinstance(lock, SoftFileLock):
        return
    with suppress(OSError), path.open("r+b", buffering=0) as file:  # a full disk: the lock holds, it only cannot say it
        file.seek(_HOLDER)
        file.write(f"{os.getpid()}\n".encode())
        file.truncate()


def _holder(lock: BaseFileLock, path: Path) -> str:
    """Process id of who holds a lock, as far as it is known."""
    if isinstance(lock, SoftFileLock):
        return str(lock.pid or "unknown")
    with suppress(OSError), path.open("rb", buffering=0) as file:
        file.seek(_HOLDER)
        return file.read(32).decode(errors="replace").strip() or "unknown"
    return "unknown"
