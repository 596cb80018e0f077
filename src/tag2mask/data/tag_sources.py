"""Where the tags of a folder of images can be: in a table, in the names of sub-folders, in the file names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.errors import DataError
from tag2mask.core.files import file_hash
from tag2mask.data.layout import IMAGE_SUFFIXES, list_images, normal
from tag2mask.data.tag_table import read_table, split_tags

LAYOUT = "images beside a tags.csv (image,tags), or one sub-folder of images for each class"


@dataclass(frozen=True, slots=True)
class Tagged:
    """Images with their tags.

    Attributes:
        images: image file by id.
        tags: names of the tags by id.
        names: every class name that occurs, that of an empty class folder too.
    """

    images: Mapping[str, Path]
    tags: Mapping[str, tuple[str, ...]]
    names: frozenset[str]


def from_table(table: Path, folder: Path) -> Tagged:
    """Images of ``folder`` with the tags that a CSV gives them.

    Raises:
        DataError: no images, or a table that does not fit them; see `read_table`.
    """
    images = _need_images(folder)
    rows = read_table(table, images)
    return _tagged(images, {i: rows[i].tags for i in images})


def from_names(pattern: str | None, folder: Path) -> Tagged:
    """Images of ``folder`` with the tags in their names, parted by ``;``, ``,`` or ``+``.

    Args:
        pattern: regular expression for whole names without ending, with a group ``tags``; a group that matches
            nothing says that the image shows no class.
        folder: the images.

    Raises:
        DataError: no images, no pattern, or a name that does not match.
    """
    if pattern is None:
        raise DataError(r"data.layout=pattern needs data.pattern, such as data.pattern='(?P<tags>[a-z+]+)_\d+'")
    images = _need_images(folder)
    found = {}
    for name, path in images.items():
        match = re.fullmatch(pattern, name)
        if match is None:
            raise DataError(f"the name of {path} does not match data.pattern = {pattern}")
        found[name] = split_tags(match["tags"] or "", ";,+")
    return _tagged(images, found)


def from_subfolders(folder: Path, others: set[Path]) -> Tagged:
    """Images in the sub-folders of ``folder``, each tagged with the name of its sub-folder.

    Args:
        folder: holds one sub-folder for each class.
        others: sub-folders that are no classes.

    Raises:
        DataError: no images, images outside the sub-folders, or one name in two of them.
    """
    loose = list_images(folder)
    if loose:
        first = next(iter(loose.values()))
        raise DataError(
            f"{len(loose)} images lie directly in {folder}, first {first.name}, and so have no tag: move them into a "
            f"sub-folder named after their class, or write a tags.csv (image,tags)"
        )
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and p not in others and not p.name.startswith("."))
    images: dict[str, Path] = {}
    for class_folder in inner:
        for name, path in list_images(class_folder).items():
            other = images.setdefault(name, path)
            if other is not path:
                raise DataError(_two_folders(other, path))
    if not images:
        raise _no_images(folder)
    return Tagged(
        images, {i: (normal(p.parent.name),) for i, p in images.items()}, frozenset(normal(p.name) for p in inner)
    )


def _tagged(images: Mapping[str, Path], tags: Mapping[str, tuple[str, ...]]) -> Tagged:
    return Tagged(images, tags, frozenset(t for names in tags.values() for t in names))


def _need_images(folder: Path) -> dict[str, Path]:
    images = list_images(folder)
    if not images:
        raise _no_images(folder)
    return images


def _no_images(folder: Path) -> DataError:
    return DataError(f"{folder} holds no images (files ending in {', '.join(IMAGE_SUFFIXES)}): expected {LAYOUT}")


def _two_folders(first: Path, second: Path) -> str:
    if file_hash(first) == file_hash(second):
        return (
            f"image {first.name} lies in two class folders, {first.parent} and {second.parent}: "
            f"a sub-folder gives one tag; for several write a tags.csv (image,tags)"
        )
    return f"two different images are called '{first.stem}': {first} and {second}. Rename one, since the name is the id"
