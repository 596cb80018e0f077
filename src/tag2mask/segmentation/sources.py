"""Which photos a command names, and the names that what is made of them gets."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tag2mask.core.errors import DataError
from tag2mask.data.layout import IMAGE_SUFFIXES

_PHONES = (".heic", ".heif")
"""Photos that cannot be read: named among the failures rather than left out in silence."""
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Source:
    """One photo of a command.

    Attributes:
        path: of its file.
        name: where its mask goes below the folder of masks: folders and name as they were, without the ending.
    """

    path: Path
    name: PurePosixPath


def find_sources(inputs: Sequence[str | Path], out: Path) -> tuple[Source, ...]:
    """The photos in folders (with all below them), of patterns, and named singly.

    Names are relative to the folder that all inputs share: that itself for one folder, so that two photos of one name
    in different folders stay apart. Hidden files, files without an image's ending and all below ``out`` are left out.

    Args:
        inputs: folders, files, or patterns with ``*``, ``?``, ``[]`` and ``**``.
        out: where masks go.

    Returns:
        Each photo once, sorted by name.

    Raises:
        DataError: an input is not there or holds no photo, or the masks of two photos would get the same name.
    """
    found: dict[Path, None] = {}
    roots = []
    for given in inputs:
        root, paths = _one(str(given), out)
        roots.append(str(root))
        found.update(dict.fromkeys(paths))
    if not roots:
        raise DataError("no image was named: give folders, files, or patterns in quotes such as 'photos/**/*.jpg'")
    shared = Path(os.path.commonpath(roots))
    sources = [Source(path, PurePosixPath(path.relative_to(shared).with_suffix("").as_posix())) for path in found]
    _check_names(sources)
    return tuple(sorted(sources, key=lambda source: source.name))


def _one(given: str, out: Path) -> tuple[Path, list[Path]]:
    """An input's folder, absolute, and its photos."""
    path = Path(os.path.abspath(Path(given).expanduser()))
    if path.is_dir():
        photos = list(_below(path, out))
        if not photos:
            raise DataError(f"folder {given} holds no image, nor do those below it (looked for {_endings()})")
        return path, photos
    if path.is_file():
        return path.parent, [path]
    if not _WILD & set(given):
        raise DataError(f"{given} does not exist: expected a folder, an image file, or a pattern in quotes")
    fixed = Path(*_before_wild(path.parts))
    photos = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if _is_photo(Path(p), out)]
    if not photos:
        raise DataError(f"pattern '{given}' matches no image (looked for {_endings()})")
    return fixed, photos


def _below(folder: Path, out: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (p for p in sorted(Path(parent, name) for name in files) if _is_photo(p, out))


def _is_photo(path: Path, out: Path) -> bool:
    own = Path(os.path.abspath(out)) in path.parents
    return not own and not path.name.startswith(".") and path.suffix.lower() in (*IMAGE_SUFFIXES, *_PHONES)


def _before_wild(parts: Sequence[str]) -> Iterator[str]:
    for part in parts[:-1]:
        if _WILD & set(part):
            return
        yield part


def _check_names(sources: Sequence[Source]) -> None:
    seen: dict[str, Source] = {}
    for source in sources:
        other = seen.setdefault(str(source.name).casefold(), source)
        if other is not source:
            raise DataError(
                f"{other.path} and {source.path} would both get the mask {other.name}.png: rename one, or predict them "
                "into different folders with --out"
            )


def _endings() -> str:
    return ", ".join(IMAGE_SUFFIXES)
