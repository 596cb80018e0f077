"""Reads the tags of a folder of images from a table, the names of sub-folders, or the file names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tag2mask.core.errors import DataError
from tag2mask.core.files import file_hash
from tag2mask.data.base import Finding
from tag2mask.data.image_names import IMAGE_SUFFIXES, JOINT, holds_images, list_images
from tag2mask.data.layout import folders_in, holds_ours, is_ours, normal
from tag2mask.data.readers.name_pattern import tags_in_names
from tag2mask.data.readers.tag_table import read_table, split_tags

LAYOUT = "images beside a tags.csv (image,tags), or one sub-folder of images for each class"
NO_CLASS = "background"
"""A sub-folder of this name holds images that show none of the classes; label 0 has this name, so no class has it."""
SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
"""Names of sub-folders that are splits and no classes, where all are so called and hold the class folders (the layout
of ImageFolder), and the split that each is."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """Images with their tags.

    Attributes:
        images: image file by id.
        tags: names of the tags by id.
        names: every class name that occurs, that of an empty class folder too.
        splits: ids of each split, where the folders say which split an image belongs to.
        findings: what was noticed on the way.
    """

    images: Mapping[str, Path]
    tags: Mapping[str, tuple[str, ...]]
    names: frozenset[str]
    splits: Mapping[str, frozenset[str]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    def with_names(self, spelling: Mapping[str, str]) -> Tagged:
        """The same images, each tag spelled as ``spelling`` says."""
        tags = {i: tuple(dict.fromkeys(spelling[t] for t in names)) for i, names in self.tags.items()}
        return Tagged(self.images, tags, frozenset(spelling[n] for n in self.names), self.splits, self.findings)


def from_table(table: Path, images: Mapping[str, Path], separators: Sequence[str] | None = None) -> Tagged:
    """Images with the tags that a CSV gives them."""
    rows = read_table(table, images, separators)
    several = tuple(i for i, row in rows.items() if len(row.lines) > 1)
    joined = Finding(
        "tags", "note", several,
        f"{len(several)} images have several rows in {table}, whose tags are joined",
        "That is right for a table with a row a tag",
    )  # fmt: skip
    return _tagged(images, {i: rows[i].tags for i in images}, (joined,) if several else ())


def from_names(pattern: str | None, images: Mapping[str, Path], separators: Sequence[str] | None = None) -> Tagged:
    """Images with the tags in their file names, parted by ``;``, ``,`` or ``+`` unless ``separators`` says otherwise.

    The regular expression ``pattern`` is of whole names without ending, with a group ``tags``; a group that matches
    nothing says that the image shows no class.
    """
    if pattern is None:
        raise DataError(r"data.layout=pattern needs data.pattern, such as data.pattern='(?P<tags>[a-z+]+)_\d+'")
    found = {}
    texts = tags_in_names(pattern, tuple(normal(path.stem) for path in images.values()))
    for (name, path), text in zip(images.items(), texts, strict=True):
        if text is None:
            raise DataError(f"the name of {path} does not match data.pattern = {pattern}")
        found[name] = split_tags(text, separators or ";,+")
    return _tagged(images, found)


def from_subfolders(folder: Path, others: Iterable[Path], separators: Sequence[str] = ()) -> Tagged:
    """Images in the sub-folders of ``folder`` and below, each tagged with the name of its sub-folder.

    Sub-folders called ``train``, ``val`` and the like that hold the class folders are splits; one called `NO_CLASS`
    holds images without tags; those that tag2mask has written are left out.

    Args:
        folder: holds one sub-folder for each class.
        others: sub-folders that are not classes.
        separators: what parts several tags in the name of a sub-folder; none leaves names whole.
    """
    inner = _class_folders(folder, others)
    if inner and all(p.name.casefold() in SPLITS and _is_split(p) for p in inner):
        return _from_splits(inner, separators, folder)
    images: dict[str, Path] = {}
    tags: dict[str, tuple[str, ...]] = {}
    names: set[str] = set()
    for class_folder in inner:
        own = _tags_of(class_folder, separators)
        names.update(own)
        for name, path in list_images(class_folder, below=True).items():
            other = images.setdefault(name, path)
            if other is not path:
                raise DataError(_two_folders(other, path))
            tags[name] = own
    if not images:
        raise no_images(folder)
    return Tagged(images, tags, frozenset(names), findings=_splits_as_classes(inner))


def _class_folders(folder: Path, others: Iterable[Path]) -> list[Path]:
    """The sub-folders that are classes, or splits."""
    loose = list_images(folder)
    if loose:
        first = next(iter(loose.values()))
        raise DataError(
            f"{len(loose)} images lie directly in {folder}, first {first.name}, and so have no tag: move them into a "
            f"sub-folder named after their class ('{NO_CLASS}' if they show none), or write a tags.csv (image,tags)"
        )
    left_out = set(others)
    inner = [p for p in folders_in(folder) if p not in left_out]
    return [p for p in inner if not is_ours(p) and (holds_images(p) or not holds_ours(p))]


def _tags_of(class_folder: Path, separators: Sequence[str]) -> tuple[str, ...]:
    name = normal(class_folder.name)
    if name.casefold().strip("_") == NO_CLASS:
        return ()
    return split_tags(name, separators) if separators else (name,)


def _is_split(folder: Path) -> bool:
    """Whether the images of a folder lie in its sub-folders."""
    return any(map(holds_images, folders_in(folder)))


def _from_splits(folders: Sequence[Path], separators: Sequence[str], base: Path) -> Tagged:
    """ImageFolder's layout; ids begin with the split and the class, since names are often numbers that begin anew."""
    images: dict[str, Path] = {}
    tags: dict[str, tuple[str, ...]] = {}
    names: set[str] = set()
    splits: dict[str, frozenset[str]] = {}
    for split in folders:
        own: dict[str, Path] = {}
        for class_folder in _class_folders(split, ()):
            found = list_images(class_folder, below=True)
            prefix = "".join(f"{normal(part)}{JOINT}" for part in class_folder.relative_to(base).parts)
            names.update(of_class := _tags_of(class_folder, separators))
            own |= {f"{prefix}{name}": path for name, path in found.items()}
            tags |= {f"{prefix}{name}": of_class for name in found}
        images |= own
        name = SPLITS[split.name.casefold()]
        splits[name] = splits.get(name, frozenset()) | frozenset(own)
    if not images:
        raise no_images(base)
    return Tagged(images, tags, frozenset(names), splits)


def _splits_as_classes(folders: Sequence[Path]) -> tuple[Finding, ...]:
    """A warning where some folders look like splits, but others beside them do not."""
    found = tuple(p.name for p in folders if p.name.casefold() in SPLITS and _is_split(p))
    if not found:
        return ()
    rest = ", ".join(p.name for p in folders if p.name not in found)
    text = f"folders {', '.join(found)} are taken for classes, but hold folders of images as splits do"
    return (
        Finding(
            "class", "warning", found, text,
            f"If they are splits, move away what stands beside them ({rest}); else give the tags in a tags.csv",
        ),
    )  # fmt: skip


def _tagged(
    images: Mapping[str, Path], tags: Mapping[str, tuple[str, ...]], findings: tuple[Finding, ...] = ()
) -> Tagged:
    return Tagged(images, tags, frozenset(t for names in tags.values() for t in names), findings=findings)


def no_images(folder: Path) -> DataError:
    """The error for a folder without images."""
    return DataError(f"{folder} holds no images (files ending in {', '.join(IMAGE_SUFFIXES)}): expected {LAYOUT}")


def _two_folders(first: Path, second: Path) -> str:
    if file_hash(first) == file_hash(second):
        return (
            f"image {first.name} lies in two class folders, {first.parent} and {second.parent}: "
            f"a sub-folder gives one tag; for several write a tags.csv (image,tags)"
        )
    return f"two different images are called '{first.stem}': {first} and {second}. Rename one, since the name is the id"
