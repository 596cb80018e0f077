"""The folder of an export: new or empty before, whole or empty afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tag2mask.core.errors import StageError
from tag2mask.core.files import cannot_write
from tag2mask.core.stopping import on_stop

_BEGUN, _END = ".tag2mask-export.", ".tmp"


def check_target(out: Path) -> None:
    """Check that a folder is free for an export."""
    if out.exists() and not out.is_dir():
        raise StageError(f"--out {out} is a file; name a new folder")
    names = sorted(p.name for p in out.iterdir() if not _is_begun(p.name)) if out.is_dir() else []
    if names:
        raise StageError(
            f"--out {out} holds other things ({', '.join(names[:3])}); nothing was written. Name a new or empty folder"
        )


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder in ``out``; on success what is in it moves to ``out``, on failure it is removed.

    What a killed export left there is removed first.
    """
    check_target(out)
    temporary = out / f"{_BEGUN}{os.getpid()}{_END}"
    made = not out.exists()

    def remove() -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        if made:
            with suppress(OSError):  # holds the export, or was never made
                out.rmdir()

    try:
        with on_stop(remove):
            temporary.mkdir(parents=True, exist_ok=True)
            for left in (p for p in out.iterdir() if p != temporary):
                shutil.rmtree(left)
            yield temporary
            for path in sorted(temporary.iterdir()):
                path.rename(out / path.name)
    except OSError as error:
        raise cannot_write(Path(error.filename or out), error) from error
    finally:
        remove()


def _is_begun(name: str) -> bool:
    return name.startswith(_BEGUN) and name.endswith(_END)
