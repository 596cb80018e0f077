"""Links to artefacts and stores: symbolic where the system makes them, else a file ``NAME.link`` that holds the path.

Windows makes symbolic links for some users only, some disks for none. Whoever looks for what a link leads to goes
through `followed`; whoever looks for what a run has made, through `artefact_of`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tag2mask.core.errors import StageError, command
from tag2mask.core.files import cannot_write, write_text

ENDING = ".link"
"""Of a file that stands for a link: ``maps.link`` for ``maps``."""
PACKED = "packed.store"
"""The store of a packed run, in its folder: no stage has a dot in its name, and no other run uses it."""


def store_beside(folder: Path) -> Path:
    """The store of a run in that folder, or of several: ``.store`` beside it, also where the folder is ``.``."""
    named = folder if folder.name not in ("", "..") else folder.resolve()  # the parent of '.' is '.' again
    return named.parent / ".store"


def store_of(run: Path) -> Path:
    """The store that a run uses: in its folder where it was packed, else beside it; it may not be there."""
    inside = run / PACKED
    return inside if inside.is_dir() else followed(store_beside(run))


def store_at(path: Path) -> Path:
    """The store that a user names: itself, or that of a run, or of the runs in a folder; it may not be there."""
    if (path / "recipe.yaml").is_file():
        return store_of(path)
    inside = followed(path / ".store")
    return inside if os.path.lexists(inside) else path


def check_store(store: Path) -> None:
    """Refuse a store that is a link to a disk that is not connected."""
    if store.is_symlink() and not store.exists():
        raise StageError(
            f"the store {store} leads to {os.path.realpath(store)}, which is not there: connect its disk, turn the "
            "link to where the store lies now, or remove the link to begin a new store"
        )


def artefact_of(run: Path, name: str) -> Path:
    """Folder of what stage ``name`` of a run has made, through the run's link to it; it may not be there.

    Where the link leads nowhere, as after the run was moved, the store of the run is looked into.
    """
    path = followed(run / name)
    if is_link(run / name) and not path.exists():
        found = store_of(run) / path.resolve().name
        return found if found.is_dir() else path
    return path


def resuming(run: Path, *overrides: str) -> str:
    """The command that resumes a run, and reruns what is missing of it."""
    return command("run", run / "recipe.yaml", *overrides, "--out", run)


def not_finished(run: Path, name: str) -> StageError:
    """The error for a stage of a run that is not made, or whose artefact is not where the run's link leads."""
    check_store(store_of(run))
    if not is_link(run / name):
        return StageError(f"stage '{name}' of {run} is not finished; resume: {resuming(run)}")
    return StageError(
        f"stage '{name}' of {run} is not finished here: its link leads to {followed(run / name).resolve()}, which is "
        f"not there. If the run was copied or moved, copy its store too, to {store_beside(run)}, or take it along as "
        f"one folder, made where it lay: {command('pack', run.name or 'RUN')}. To rerun the stage: {resuming(run)}"
    )


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
