"""Only regular files are opened: a named pipe, a socket or a device may never come to an end, nor let go of Ctrl-C."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}  # fmt: skip


def special_kind(path: Path) -> str | None:
    """What stands at a path, in words such as ``a named pipe``, links followed; None for a regular file.

    Raises:
        OSError: nothing is there, or one may not look.
        ValueError: the path holds what no path can, a null byte.
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    return None if kind == stat.S_IFREG else _KINDS.get(kind, "no file")


def need_regular(path: Path) -> Path:
    """The path, before it is opened by whatever reads it.

    Readers of files that a user named call it inside the ``try`` that makes an OSError an error of ours.

    Raises:
        OSError: nothing is there, one may not look, or it is not a regular file, which ``strerror`` says in words.
        ValueError: the path holds a null byte.
    """
    kind = special_kind(path)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
    return path
