"""Locks between processes, which end with their process however it ends; on Linux, macOS and Windows.

`exclusive` guards artefacts and run folders; `at_work` cleans up in folders that several processes write.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from tag2mask.core.errors import StageError
from tag2mask.core.files import cannot_write, is_temporary
from tag2mask.core.progress import LOG
from tag2mask.core.stopping import on_stop

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of a disk without locks."""
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
    """Hold a lock that ends with the process, however it ends; the lock file stays behind, empty of meaning.

    ``what`` is named in the error. With ``wait``, another process or thread is waited for, saying so, not refused.
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


_PRESENCE = re.compile(r"\.[0-9a-f]{16}\.work")


@contextmanager
def at_work(folder: Path, below: bool = True) -> Iterator[None]:
    """Be at work in a folder, first removing what killed processes left half-written, unless others are at work there.

    Each process has a file of its own in the folder meanwhile, and holds the lock on it, which ends with the process
    however it ends; where no other such file is locked, nobody else is writing. With ``below`` also the folders below
    are tidied; links are not followed.
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


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file; a disk without locks says no."""
    if not path.is_file():
        return False
    try:
        with file_lock(path).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return False


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
    held = False
    for other in [p for p in folder.iterdir() if _PRESENCE.fullmatch(p.name) and p.name != own.name]:
        try:
            with file_lock(other).acquire(blocking=False):
                _discard(other)  # under its lock: who is just beginning sees that it is gone, and remakes it
        except Timeout:
            held = True
    return held


def _discard(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
