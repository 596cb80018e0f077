"""Atomic files: everything is written under a temporary name and renamed.

Also hashes, disk space, and errors of the system as errors of ours.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tag2mask.core.errors import DamagedError, DataError, StageError
from tag2mask.core.stopping import on_stop

_NUMBERS = itertools.count()
_TOKEN = secrets.token_hex(3)
"""Tells this process from one of the same number on another machine, or in another container, that shares the disk."""
_TEMPORARY = re.compile(r"\.[0-9]+(-[0-9a-f]{6})?-[0-9]+\.tmp")
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY}
_NO_FSYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextmanager
def atomic_path(path: Path, *, settled: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it takes its place, on failure it is removed.

    The content is on the disk before the file has its name, so that a power cut leaves no name without its content.
    Unless ``settled``, a power cut may take the file away as a whole: for one of many, whose folder `settle` writes.
    """
    temporary = path.with_name(temporary_name())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with on_stop(lambda: temporary.unlink(missing_ok=True)):
            yield temporary
            _to_disk(temporary)
            os.replace(temporary, path)
        if settled:
            settle(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):  # gone by the rename, or never made: the folder may be a file
            temporary.unlink()


def temporary_name() -> str:
    """A file name that no other process or call gives; without that of the file, which may be of full length."""
    return f".{os.getpid()}-{_TOKEN}-{next(_NUMBERS)}.tmp"


def is_temporary(name: str) -> bool:
    """Whether a file name is one that `atomic_path` gives until a file is whole."""
    return _TEMPORARY.fullmatch(name) is not None


def _to_disk(file: Path) -> None:
    """Wait until a file's content is on the disk, where its file system can say so."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(descriptor)


def settle(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    with suppress(OSError):  # Windows and some network disks cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> StageError:
    """The error of ours for a file or folder that could not be written: what stands against it, and the remedy."""
    there = [p for p in (path, *path.parents) if os.path.lexists(p)]
    in_the_way = there[0] if there else path
    if error.errno in _FORBIDDEN:
        closed = next((p for p in there if not os.access(p, os.W_OK)), path.parent)
        remedy = f"allow yourself to write {closed}{_owner(closed)}"
    elif in_the_way.is_symlink() and not in_the_way.exists():
        remedy = (
            f"{in_the_way} is a link to {os.path.realpath(in_the_way)}, which is not there: make that, remove the link"
        )
    elif error.errno in _IN_THE_WAY:
        remedy = f"move {in_the_way} away, which is {'a folder' if in_the_way.is_dir() else 'a file'}"
    else:
        remedy = "make room"
    return StageError(
        f"cannot write {path}: {error.strerror or error}. Nothing was left half-written; {remedy} or choose another "
        "folder with --out, and run the same command again"
    )


@contextmanager
def system_errors() -> Iterator[None]:
    """Turn errors of the system about files, where nothing else has, into a StageError."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}:
            raise  # not of a file
        where = "a file" if error.filename is None else str(error.filename)
        raise StageError(
            f"cannot read or write {where}: {error.strerror or error}. See that it is there, that you may read and "
            "write it, and that the disk has room, and run the same command again"
        ) from error


def _owner(path: Path) -> str:
    """Owner of a path, in words, where it is another user's."""
    with suppress(OSError, AttributeError):
        owner = path.stat().st_uid
        if owner != os.geteuid():
            return f", which is of the user with number {owner}"
    return ""


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON."""
    try:
        text = need_regular(path).read_text(encoding="utf-8")
        values = json.loads(text)
        if "\\ud" in text.lower():  # half of a surrogate pair could not be written anywhere again
            json.dumps(values, ensure_ascii=False).encode()
        return values
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"cannot read {path}: {error}") from error
    except OSError as error:
        raise StageError(f"cannot read {path}: {error}") from error


def reason(error: BaseException) -> str:
    """What an error of another library says, in one line without its end stop; its kind where it says nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def expanded(path: str | Path) -> Path:
    """A path with ``~`` and ``~user`` replaced by the home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise DataError(
            f"{path}: there is no home folder of that name; give the whole path, or ./{path} for a file of this name"
        ) from error


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with need_regular(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stamp(path: Path) -> tuple[int, ...]:
    """What shows that a file has changed without reading it: size, times of change, and its number on the disk.

    The time of writing alone does not: ``rsync -a`` and ``cp -p`` set it back. Where a file system has no number or
    second time they are 0, and the others have to do.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns, getattr(found, "st_ctime_ns", 0), getattr(found, "st_ino", 0)


def value_hash(value: Any) -> str:
    """SHA-256 of a JSON-able value in canonical form, as 64 hex digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def require_room(folder: Path, needed: int, what: str) -> None:
    """Refuse what needs more bytes than are free on the disk of a folder, or of its nearest parent that exists."""
    existing = next(p for p in [folder, *folder.absolute().parents] if p.is_dir())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise StageError(
            f"{what} needs about {megabytes(needed)} in {folder}, but {megabytes(free)} are free; "
            f"make room or choose another folder with --out"
        )


def megabytes(size: float) -> str:
    """A size in bytes in words: ``12 MB``, ``3.4 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


_SPECIAL = {
    stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}  # fmt: skip


def special_kind(path: Path) -> str | None:
    """What a path is, in words such as ``a named pipe``, links followed; None for a regular file."""
    kind = stat.S_IFMT(path.stat().st_mode)
    return None if kind == stat.S_IFREG else _SPECIAL.get(kind, "no file")


def need_regular(path: Path) -> Path:
    """The path, before it is opened by whatever reads it.

    Readers of files that a user named call it inside the ``try`` that makes an OSError an error of ours.
    """
    kind = special_kind(path)
    if kind is not None:
        raise OSError(errno.EINVAL, f"it is {kind}, not a file", str(path))
    return path
