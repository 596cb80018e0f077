"""Images of a data set by name: which files count as images, the ids they get, how people call them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tag2mask.core.errors import DataError, nearest
from tag2mask.core.names import is_utf8, shortened
from tag2mask.data.layout import check_utf8, files_in, normal

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm")
"""File endings that count as images, in any case; files with others are not looked at."""
UNREADABLE_SUFFIXES = (".heic", ".heif")
"""Of photos that Pillow cannot read: an error rather than a photo fewer."""
_LONGEST_ID = 251
"""Bytes of an id: file systems take names of 255, and what is stored under it has an ending of four."""
JOINT = "__"
"""Stands in an id between the folders and the name of an image in a sub-folder: results are files named by the id."""


def unreadable(path: Path) -> str | None:
    """Why a photo cannot be read, as known from its name; None for all others."""
    if path.suffix.lower() not in UNREADABLE_SUFFIXES:
        return None
    return f"{path} is of a format that is not read: convert it to JPEG or PNG"


def list_images(
    folder: Path, *, below: bool = False, left_out: Collection[Path] = (), suffixes: Collection[str] = IMAGE_SUFFIXES
) -> dict[str, Path]:
    """Image files in ``folder`` by id (file name without ending), sorted; hidden files are left out.

    With ``below`` also those of its sub-folders, but for hidden ones, ``left_out`` and what tag2mask has written.
    The id of an image there is its path from ``folder`` without ending, `JOINT` in the place of each ``/``.
    """
    found: dict[str, Path] = {}
    for path in files_in(folder, below=below, left_out=left_out):
        if problem := unreadable(path):
            raise DataError(problem)
        if path.suffix.lower() not in suffixes:
            continue
        check_utf8(path)
        other = found.setdefault(image_id(path.relative_to(folder).as_posix()), path)
        if other != path:
            name = path.name if path.parent == other.parent else path
            raise DataError(f"{other} and {name} have the same name before the ending: rename or remove one")
    return found


def holds_images(folder: Path) -> bool:
    """Whether there is an image in a folder or below it; what tag2mask has written is not looked at."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in files_in(folder, below=True))


def without_suffix(name: str) -> str:
    """``name`` without an image ending, if it has one, nor blanks before it."""
    path = Path(name)
    return name[: -len(path.suffix)].rstrip() if path.suffix.lower() in IMAGE_SUFFIXES else name


def image_id(path: str) -> str:
    """The id of the image at a path from the folder of the images, the folders parted by ``/``."""
    *folders, name = path.split("/")
    return JOINT.join([*map(normal, folders), normal(name.removesuffix(Path(name).suffix))])


class ImageNames:
    """Finds images, given by id, by what people call them: the path from their folder, or a name that only one has."""

    def __init__(self, images: Mapping[str, Path]) -> None:
        self._images = images
        self._called: dict[str, list[str]] = {}
        for name, path in images.items():
            self._called.setdefault(normal(path.stem), []).append(name)

    def find(self, name: str, where: str) -> str:
        """The id of an image written with or without ending; ``where`` is file and line, for the error text."""
        whole = without_suffix(normal(name.replace("\\", "/").removeprefix("./")))
        parts = [normal(p) for p in whole.split("/")]
        if (known := JOINT.join(parts)) in self._images:
            return known
        called = [i for i in self._called.get(parts[-1], ()) if self._ends(i, parts[:-1])]
        if len(called) == 1:
            return called[0]
        if called:
            paths = ", ".join(str(self._images[i]) for i in called[:3])
            raise DataError(f"{where}: {len(called)} images are called '{whole}': {paths}. Write folder/name")
        if ".." in parts or (len(parts) > 1 and not any(JOINT in i for i in self._images)):
            raise DataError(f"{where}: image '{name}' names a folder; give the file name alone")
        near = nearest(whole, [*self._images, *self._called])
        hint = f"; did you mean '{self._written(near)}'?" if near else ""
        raise DataError(f"{where}: there is no image '{whole}'{hint}")

    def _ends(self, name: str, folders: list[str]) -> bool:
        """Whether the last folders of an image's path are these."""
        own = [normal(p) for p in self._images[name].parent.parts]
        return own[len(own) - len(folders) :] == folders

    def _written(self, name: str) -> str:
        """How an image is best called whose id or name is given."""
        path = self._images[name if name in self._images else self._called[name][0]]
        return path.name if len(self._called[normal(path.stem)]) == 1 else name.replace(JOINT, "/") + path.suffix


def check_ids(ids: Iterable[str]) -> None:
    """Check that ids are safe and distinct file names."""
    seen: dict[str, str] = {}
    for name in ids:
        if not name or name.startswith(".") or any(c in "/\\" or unicodedata.category(c) == "Cc" for c in name):
            raise DataError(
                f"image id '{shortened(name)}' is not a safe file name: no '/', '\\', control character or leading '.'"
            )
        if not is_utf8(name):
            raise DataError(f"image id '{shortened(name)}' is not UTF-8: rename the file")
        if len(name.encode()) > _LONGEST_ID:
            raise DataError(
                f"image id '{shortened(name)}' has {len(name.encode())} bytes, more than the {_LONGEST_ID} that file "
                f"names can have beside an ending: rename the file"
            )
        other = seen.get(name.casefold())
        if other is not None:
            how = "occurs twice" if other == name else f"and '{other}' differ only in upper and lower case"
            raise DataError(f"image id '{name}' {how}: rename one, so that every system keeps them apart")
        seen[name.casefold()] = name
