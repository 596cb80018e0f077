"""Links to artefacts and stores: symbolic where the system makes them, else a file ``NAME.link`` that holds the path.

Windows makes symbolic links for some users only, some disks for none. Whoever looks for what a link leads to goes
through `followed`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tag2mask.core.files import cannot_write, write_text

ENDING = ".link"
"""Of a file that stands for a link: ``maps.link`` for ``maps``."""


def followed(link: Path) -> Path:
    """Where a link leads that is a file ``NAME.link``; of any other path itself, which the system follows."""
    if os.path.lexists(link):
        return link
    to = _held(link)
    return link if to is None else Path(os.path.normpath(link.parent.resolve() / to))


def is_link(path: Path) -> bool:
    """Whether a path is a link of either form, wherever it leads."""
    return path.is_symlink() or (not os.path.lexists(path) and _held(path) is not None)


def links_in(folder: Path) -> Iterator[Path]:
    """The links of either form directly in a folder, by the names that they have as links."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            yield path
        elif path.name.endswith(ENDING) and is_link(link := path.with_name(path.name.removesuffix(ENDING))):
            yield link


def make_link(link: Path, to: str) -> None:
    """Make a link, or turn it, to a folder by its path from the link's own folder or an absolute one."""
    file, temporary = _file(link), link.with_name(f".{link.name}.tmp")
    if link.is_symlink() and os.readlink(link) == to:
        return
    try:
        temporary.unlink(missing_ok=True)
        try:
            temporary.symlink_to(to, target_is_directory=True)
        except OSError:
            link.unlink(missing_ok=True)  # a link of before would be believed rather than the file
            if _held(link) != to:
                write_text(file, f"{Path(to).as_posix()}\n")
            return
        if os.name == "nt":  # which replaces no link to a folder
            link.unlink(missing_ok=True)
        temporary.replace(link)
        if file.is_file() and not file.is_symlink():
            file.unlink()
    except OSError as error:
        raise cannot_write(link, error) from error


def remove_link(link: Path) -> None:
    """Remove a link of either form; what it leads to stays."""
    path = link if link.is_symlink() else _file(link)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def _file(link: Path) -> Path:
    return link.with_name(link.name + ENDING)


def _held(link: Path) -> str | None:
    """The path in the file that stands for a link; None where there is none, or it holds no path."""
    file = _file(link)
    try:
        if file.is_symlink() or not file.is_file():
            return None
        return file.read_text(encoding="utf-8").removesuffix("\n") or None
    except (OSError, ValueError):  # not ours, or damaged: what it led to counts as not made
        return None
