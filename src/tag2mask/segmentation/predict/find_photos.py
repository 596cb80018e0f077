"""Finds the photos that `tag2mask predict` is given as files, folders and patterns, and names their masks."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tag2mask.core.errors import DataError
from tag2mask.core.files import expanded, special_kind
from tag2mask.core.names import is_utf8, shown
from tag2mask.core.progress import LOG
from tag2mask.data.image_names import IMAGE_SUFFIXES, UNREADABLE_SUFFIXES, unreadable
from tag2mask.data.layout import is_ours

_WILD = frozenset("*?[")
_ENDINGS = ", ".join(IMAGE_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Source:
    """One photo of a command.

    ``problem`` says why it cannot be read, as known from its name and kind (a pipe, a device, a folder without
    permission): it is named among the failures rather than left out in silence.
    """

    path: Path
    name: PurePosixPath  # where its mask goes below the folder of masks: folders and name as they were, no ending
    problem: str | None = None


def find_sources(inputs: Sequence[str | Path], out: Path) -> tuple[Source, ...]:
    """The photos in folders (with all below them), of patterns, and named singly: each once, sorted by name.

    Names are relative to the folder that all inputs share: that itself for one folder, so that two photos of one name
    in different folders stay apart. Hidden files, files without an image's ending and all below ``out``, the folder of
    the masks, are left out, and below a folder that is named what tag2mask has written (a run, masks of another
    ``out``), with a note in the log. Folders that are links are followed, each folder once.
    """
    found: dict[Path, str | None] = {}
    roots = []
    for given in inputs:
        try:
            root, photos = _one(str(given), out)
        except OSError as error:
            raise DataError(f"{given} cannot be looked at: {error.strerror}. Allow it, or name other photos") from error
        roots.append(str(root))
        found.update(photos)
    if not roots:
        raise DataError("no image was named: give folders, files, or patterns in quotes such as 'photos/**/*.jpg'")
    shared = Path(os.path.commonpath(roots))
    sources = [
        Source(path, PurePosixPath(path.relative_to(shared).with_suffix("").as_posix()), problem)
        for path, problem in found.items()
    ]
    _check_names([source for source in sources if source.problem is None])
    return tuple(sorted(sources, key=lambda source: source.name))


def _one(given: str, out: Path) -> tuple[Path, dict[Path, str | None]]:
    """An input's folder, absolute, and its photos with what is known to be wrong with them."""
    path = Path(os.path.abspath(expanded(given)))
    if path.is_dir():
        photos = _below(path, out)
        if not photos:
            _check_not_out(path, given, out)
            raise DataError(f"folder {given} holds no image, nor do those below it (looked for {_ENDINGS})")
        return path, photos
    if path.exists():
        return path.parent, {path: _problem(path)}
    if not _WILD & set(given):
        raise DataError(f"{given} does not exist: expected a folder, an image file, or a pattern in quotes")
    fixed = Path(*itertools.takewhile(lambda part: not _WILD & set(part), path.parts[:-1]))
    matches = [Path(p) for p in sorted(glob.glob(str(path), recursive=True))]
    photos = {p: _problem(p) for p in matches if _is_photo(p, out)}
    if not photos:
        _check_not_out(fixed, given, out)
        raise DataError(f"pattern '{given}' matches no image (looked for {_ENDINGS})")
    return fixed, photos


def _below(root: Path, out: Path) -> dict[Path, str | None]:
    """The photos in a folder and those below it, and the folders that cannot be read."""
    found: dict[Path, str | None] = {}

    def refused(error: OSError) -> None:
        found[Path(error.filename)] = f"folder {error.filename} cannot be read: {error.strerror}"

    seen = {os.path.realpath(out)}
    waiting = [str(root)]  # links come last: folders proper keep their own names
    while waiting:
        for parent, folders, files in os.walk(waiting.pop(0), onerror=refused):
            real = os.path.realpath(parent)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(
                name for name in folders if not name.startswith(".") and not _is_ours(parent, name, seen)
            )
            waiting += [path for path in (os.path.join(parent, name) for name in folders) if os.path.islink(path)]
            photos = (Path(parent, name) for name in sorted(files))
            found.update({path: _problem(path) for path in photos if _is_photo(path, out)})
    return found


def _is_ours(parent: str, name: str, seen: Collection[str]) -> bool:
    """Whether a folder is one that tag2mask has written, which is logged unless it is one of ``seen``."""
    path = Path(parent, name)
    ours = is_ours(path)
    if ours and os.path.realpath(path) not in seen:
        LOG.info("%s is left out: tag2mask has written it. To segment what is in it, name it by itself", shown(path))
    return ours


def _problem(path: Path) -> str | None:
    """What is wrong with a photo before it is opened, which of a pipe or a device would never end."""
    if not is_utf8(path):
        return f"{shown(path)} has a name, or lies in a folder of one, that is not UTF-8: rename it"
    try:
        kind = special_kind(path)
    except FileNotFoundError:
        return None  # reported when it is read
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    return unreadable(path) if kind is None else f"{path} is {kind}, not a photo"


def _check_not_out(folder: Path, given: str, out: Path) -> None:
    """Refuse a folder that seems empty because it is that of the masks."""
    own = Path(os.path.abspath(out))
    if own in (folder, *folder.parents):
        raise DataError(f"{given} lies in --out {out}, whose content is not segmented: choose another --out")


def _is_photo(path: Path, out: Path) -> bool:
    own = Path(os.path.abspath(out)) in path.parents
    return not own and not path.name.startswith(".") and path.suffix.lower() in (*IMAGE_SUFFIXES, *UNREADABLE_SUFFIXES)


def _check_names(sources: Sequence[Source]) -> None:
    seen: dict[str, Source] = {}
    for source in sources:
        other = seen.setdefault(str(source.name).casefold(), source)
        if other is not source:
            raise DataError(
                f"{other.path} and {source.path} would both get the mask {other.name}.png: rename one, or predict them "
                "into different folders with --out"
            )
